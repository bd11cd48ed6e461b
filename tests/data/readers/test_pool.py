"""Several data sets read as one: what is read, how it is split, and what is refused."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from r2search.cli import build_parser
from r2search.config import DataConfig, Misuse, ModelConfig, PoolMember, TrialConfig
from r2search.data import load, read, resolve
from r2search.data.samples import Sample
from r2search.predicting import evaluate_bundle
from r2search.settings import assignments
from r2search.space import dump_study, load_study
from r2search.study import prepare

Make = Callable[..., Path]
Draw = Callable[..., Image.Image]


def pooled(*members: tuple[str, Path | str], **more: Any) -> DataConfig:
    pool = tuple(PoolMember(reader=reader, root=Path(root)) for reader, root in members)
    return DataConfig(reader="pool", pool=pool, **more)


@pytest.fixture
def drive(tmp_path: Path, makers: dict[str, Make]) -> Path:
    """Four images for training, two for testing."""
    return makers["drive"](tmp_path / "drive")


@pytest.fixture
def stare(tmp_path: Path, makers: dict[str, Make], picture: Draw) -> Path:
    """Four photographs, none of them said to be for testing."""
    root = makers["stare"](tmp_path / "stare", packed=False, folders=False)
    for number in (1, 2):  # the tiny DRIVE has the pictures of these numbers
        picture(200 + number).save(root / f"im{number:04}.ppm")
    return root


@pytest.fixture
def chase(tmp_path: Path, make_chase: Make) -> Path:
    """Ten children, whose split is the usual one."""
    return make_chase(tmp_path / "chase", 10)


@pytest.fixture
def own(tmp_path: Path, picture: Draw, mask: Draw) -> Path:
    """A person's own pictures of five subjects, two each."""
    for number in range(10):
        for kind, draw in (("images", picture), ("masks", mask)):
            path = tmp_path / "own" / kind / f"p{number // 2}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            draw(300 + number).save(path)
    return tmp_path / "own"


def ids(samples: tuple[Sample, ...] | list[Sample], source: str = "") -> list[str]:
    return [s.id for s in samples if s.id.startswith(source)]


# What is read


def test_ids_and_subjects_begin_with_the_reader(chase: Path, own: Path) -> None:
    samples = read(pooled(("chase_db1", chase), ("folder", own)))
    assert len(samples) == 20 + 10
    assert [(s.id, s.subject, s.source) for s in samples[19:22]] == [
        ("chase_db1-Image_10R", "chase_db1-10", "chase_db1"),
        ("folder-p0_0", "folder-p0", "folder"),
        ("folder-p0_1", "folder-p0", "folder"),
    ]


def test_a_reader_that_stands_twice_is_numbered(
    tmp_path: Path, own: Path, make_folder: Make
) -> None:
    other = make_folder(tmp_path / "other")
    samples = read(pooled(("folder", own), ("folder", other)))
    assert {s.source for s in samples} == {"folder_1", "folder_2"}
    assert ids(samples)[9:11] == ["folder_1-p4_9", "folder_2-a"]


def test_a_member_is_read_as_it_is_alone(chase: Path, own: Path) -> None:
    alone = read(DataConfig(reader="chase_db1", root=chase))
    samples = read(pooled(("folder", own), ("chase_db1", chase)))[10:]
    for one, same in zip(alone, samples, strict=True):
        for name in ("image", "mask", "fov", "second_mask"):
            np.testing.assert_array_equal(getattr(one, name), getattr(same, name))
        assert one.part == same.part


def test_all_members_are_read_as_the_study_says(chase: Path, own: Path) -> None:
    config = pooled(("chase_db1", chase), ("folder", own), channels="grey")
    assert {s.image.shape[2] for s in read(config)} == {1}
    assert {s.image.shape[2] for s in read(config.model_copy(update={"channels": "rgb"}))} == {3}


# How it is split


def test_each_member_keeps_its_official_split_and_the_others_are_drawn(
    chase: Path, own: Path
) -> None:
    data = load(pooled(("chase_db1", chase), ("folder", own)))
    assert (data.reader, data.synthetic, data.classes, data.channels) == ("pool", False, 2, 3)
    children = [
        sorted({s.subject for s in part if s.source == "chase_db1"})
        for part in (data.train, data.val, data.test)
    ]
    assert children == [
        [f"chase_db1-{n:02}" for n in range(1, 7)],
        ["chase_db1-07", "chase_db1-08"],
        ["chase_db1-09", "chase_db1-10"],
    ]
    sizes = [len(ids(part, "folder")) for part in (data.train, data.val, data.test)]
    assert sizes == [6, 2, 2]


def test_the_seed_draws_the_members_that_have_no_split(chase: Path, own: Path) -> None:
    config = pooled(("chase_db1", chase), ("folder", own))

    def tested(seed: int) -> list[str]:
        return ids(load(config, seed=seed).test)

    assert tested(3) == tested(3)
    assert len({tuple(tested(seed)) for seed in range(8)}) > 2
    assert {tuple(n for n in tested(seed) if n.startswith("chase")) for seed in range(8)} == {
        tuple(f"chase_db1-Image_{n:02}{eye}" for n in (9, 10) for eye in "LR")
    }


def test_the_retinal_sets_of_a_published_system_are_pooled(
    drive: Path, stare: Path, chase: Path
) -> None:
    data = load(pooled(("drive", drive), ("stare", stare), ("chase_db1", chase)))
    parts = data.train, data.val, data.test
    # Of DRIVE's four for training, one is drawn for validation. STARE: 3 : 1 : 1 of four.
    assert [len(ids(part, "drive")) for part in parts] == [3, 1, 2]
    assert [len(ids(part, "stare")) for part in parts] == [2, 1, 1]
    assert [len(ids(part, "chase")) for part in parts] == [12, 4, 4]
    official = [s for s in read(DataConfig(reader="drive", root=drive)) if s.part == "test"]
    assert ids(data.test, "drive") == [f"drive-{s.id}" for s in official]


def test_a_pool_within_subjects_is_flagged(own: Path, chase: Path) -> None:
    data = load(pooled(("folder", own), ("chase_db1", chase), split="within_subject"))
    assert data.split == "within_subject"
    assert "images of one subject may be on both sides" in data.notes[0]


def test_a_member_of_one_subject_is_named(tmp_path: Path, own: Path, make_folder: Make) -> None:
    one = make_folder(tmp_path / "one", ("p/a", "p/b"))
    with pytest.raises(Misuse, match="folder_2: all 2 images are of one subject"):
        load(pooled(("folder", own), ("folder", one)))


# What is refused


def test_problems_of_all_members_are_told_together(chase: Path, own: Path) -> None:
    (chase / "Image_02L_1stHO.png").unlink()
    (own / "masks" / "p0" / "1.png").write_bytes(b"no picture")
    with pytest.raises(Misuse) as caught:
        read(pooled(("chase_db1", chase), ("folder", own)))
    heading, first, second = str(caught.value).splitlines()
    assert heading == "data.pool: 2 problems in the data:"
    assert first == "  chase_db1: Image_02L.jpg: its mask Image_02L_1stHO.png is missing; add it"
    assert second.startswith("  folder: masks/p0/1.png: cannot be read as an image")


def test_one_picture_in_two_members_is_a_problem(
    tmp_path: Path, chase: Path, own: Path, picture: Draw
) -> None:
    with Image.open(chase / "Image_01L.jpg") as copied:
        copied.convert("RGB").save(own / "images" / "p0" / "0.png")
    with pytest.raises(Misuse) as caught:
        read(pooled(("chase_db1", chase), ("folder", own)))
    assert str(caught.value).splitlines()[1:] == [
        "  folder-p0_0: is the same picture as chase_db1-Image_01L; remove one"
    ]


def test_members_with_other_numbers_of_channels_are_refused(
    tmp_path: Path, own: Path, makers: dict[str, Make]
) -> None:
    config = pooled(("folder", own), ("msd", makers["msd"](tmp_path / "msd")))
    told = r"different numbers of channels \(folder 3, msd 1\); .*--set data.channels=grey"
    with pytest.raises(Misuse, match=told):
        read(config)
    assert {s.image.shape[2] for s in read(config.model_copy(update={"channels": "grey"}))} == {1}


# Which folders


def test_folders_of_a_pool_become_absolute(
    tmp_path: Path, own: Path, chase: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    config = resolve(pooled(("chase_db1", "chase"), ("folder", "~/own")))
    assert [member.root for member in config.pool] == [chase, own]
    assert resolve(config) == config


def test_a_missing_folder_of_one_member_is_named(own: Path) -> None:
    config = pooled(("folder", own), ("stare", "no/stare"), otherwise="synthetic_retina")
    with pytest.raises(Misuse, match=r"no/stare: there is no such folder; .*stare in data.pool"):
        resolve(config)


def test_the_stand_in_takes_over_when_no_member_is_there() -> None:
    config = pooled(("drive", "no/drive"), ("stare", "no/stare"), otherwise="synthetic_retina")
    chosen = resolve(config)
    assert (chosen.reader, chosen.root, chosen.pool) == ("synthetic_retina", None, ())
    with pytest.raises(Misuse, match=r"no/drive: there is no such folder; .*drive in data.pool"):
        resolve(config.model_copy(update={"otherwise": "error"}))


def test_another_reader_with_a_pool_is_refused(own: Path) -> None:
    config = pooled(("folder", own)).model_copy(update={"reader": "folder", "root": own})
    with pytest.raises(Misuse, match=r"data.pool: is read by .* pool only, .* is folder; set"):
        resolve(config)


def test_a_pool_without_members_is_refused() -> None:
    with pytest.raises(Misuse, match=r"data.pool: names no data sets .*\[\{reader: drive"):
        resolve(DataConfig(reader="pool", otherwise="synthetic_retina"))


def test_a_folder_that_the_pool_would_pass_over_is_refused(own: Path) -> None:
    with pytest.raises(Misuse, match=r"data.root: pool reads the folders of data.pool and no oth"):
        resolve(pooled(("folder", own), root=own))
    passed_over = pooled(("folder", own), root=own, otherwise="synthetic_retina")
    assert resolve(passed_over).root is None  # the space file's, as with --reader of a synthetic


@pytest.mark.parametrize("reader", ["pool", "synthetic_retina"])
def test_pools_and_synthetic_images_cannot_be_pooled(own: Path, reader: str) -> None:
    with pytest.raises(Misuse, match=rf"data.pool.1.reader: {reader} reads no folder; pool read"):
        resolve(pooled(("folder", own), (reader, own)))


def test_an_unknown_member_is_answered_with_the_known_ones(own: Path) -> None:
    with pytest.raises(Misuse, match=r"data.pool.1.reader: unknown name 'star'; did you mean 'sta"):
        resolve(pooled(("folder", own), ("star", own)))


# The command line and the space file


def given(*flags: str) -> dict[str, Any]:
    return assignments(build_parser().parse_args(["tune", "--space", "retina.yaml", *flags]))


def test_a_pool_is_set_on_the_command_line(own: Path, chase: Path) -> None:
    written = f"data.pool=[{{reader: chase_db1, root: {chase}}}, {{reader: folder, root: {own}}}]"
    study = load_study("retina.yaml", given("--reader", "pool", "--set", written))
    assert study.fixed.data.pool == pooled(("chase_db1", chase), ("folder", own)).pool
    fitted, samples = prepare(study)
    assert fitted.fixed.data.pool == study.fixed.data.pool
    assert (samples.reader, samples.synthetic) == ("pool", False)


def test_nothing_stands_in_for_a_pool_that_a_person_named() -> None:
    written = "data.pool=[{reader: drive, root: no/drive}]"
    study = load_study("retina.yaml", given("--reader", "pool", "--set", written))
    with pytest.raises(Misuse, match="no/drive: there is no such folder"):
        prepare(study)


def test_a_folder_on_the_command_line_takes_the_place_of_a_pool(tmp_path: Path, own: Path) -> None:
    space = tmp_path / "pooled.yaml"
    space.write_text(
        "name: pooled\ndata: {reader: pool, pool: [{reader: drive, root: no/drive}]}\n"
    )
    flags = given("--data", str(own), "--reader", "folder")
    assert prepare(load_study(space, flags))[1].reader == "folder"
    with pytest.raises(Misuse, match=r"data.pool: names no data sets .* choose another --reader"):
        prepare(load_study(space, given("--data", str(own))))


def test_a_study_with_a_pool_is_written_and_read_back_equal(
    tmp_path: Path, own: Path, chase: Path
) -> None:
    pool = [{"reader": "folder", "root": str(own)}, {"reader": "chase_db1", "root": str(chase)}]
    study = load_study("retina.yaml", {"data.reader": "pool", "data.pool": pool, "data.root": None})
    for each in (study, prepare(study)[0]):
        (tmp_path / "space.yaml").write_text(dump_study(each), encoding="utf-8")
        assert load_study(tmp_path / "space.yaml") == each


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("[{reader: drive}]", "--set: data.pool.0.root: missing; add it"),
        (
            "[{reader: drive, root: x, rot: y}]",
            "--set: data.pool.0.rot: unknown key; remove it, got 'y'",
        ),
        ("[drive, stare]", "--set: data.pool.0: expected a mapping (key: value), got 'drive'"),
        ("drive", "--set: data.pool: expected a list, got 'drive'"),
    ],
)
def test_a_pool_written_wrongly_is_told_by_its_member(written: str, told: str) -> None:
    with pytest.raises(Misuse) as caught:
        load_study("retina.yaml", given("--set", f"data.pool={written}"))
    assert str(caught.value).startswith(told)


def test_a_pool_written_wrongly_in_a_space_file_is_told_by_its_line(tmp_path: Path) -> None:
    space = tmp_path / "s.yaml"
    space.write_text("name: s\ndata:\n  reader: pool\n  pool:\n    - {reader: drive, rot: x}\n")
    with pytest.raises(Misuse) as caught:
        load_study(space)
    assert str(caught.value).splitlines() == [
        "s.yaml:4: data.pool.0.root: missing; add it",
        "s.yaml:4: data.pool.0.rot: unknown key (value 'x'); did you mean 'root'? known: reader, "
        "root",
    ]


def test_a_network_of_a_pool_is_evaluated_on_the_pool_or_on_another_folder(
    tmp_path: Path, own: Path, chase: Path, make_bundle: Make
) -> None:
    data = pooled(("folder", own), ("chase_db1", chase))
    tiny = TrialConfig(data=data, model=ModelConfig(block="conv", depth=1, base_filters=2))
    bundle = make_bundle(tmp_path / "run", config=tiny)
    scores = tmp_path / "scores.csv"

    def evaluated(root: str | None, reader: str | None) -> list[str]:
        console = Console(file=io.StringIO())
        assert evaluate_bundle(bundle, root, reader, "all", scores, console) == 0
        return [line.split(",")[0] for line in scores.read_text().splitlines()[1:]]

    assert sorted(evaluated(None, None)) == sorted(ids(read(data)))
    assert sorted(evaluated(str(own), "folder")) == [f"p{n // 2}_{n}" for n in range(10)]
