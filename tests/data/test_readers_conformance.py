"""What holds for every reader of the table, and how a reader is chosen and its data split."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from r2search.config import DataConfig, Misuse, PoolMember
from r2search.data import (
    FIELDS_OF_VIEW,
    POOL,
    READERS,
    SYNTHETIC,
    field_of_view,
    load,
    read,
    resolve,
)
from r2search.data.prepare import mask_at_most
from r2search.data.samples import Sample, SampleSet, fingerprint

Make = Callable[..., Path]
FILED = sorted({*READERS} - {POOL, *SYNTHETIC})  # readers of a folder


@pytest.fixture(scope="module")
def roots(makers: dict[str, Make], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny data set for each reader of a folder, in its layout."""
    return {name: make(tmp_path_factory.mktemp(name)) for name, make in makers.items()}


@pytest.fixture(params=READERS, scope="module")
def config(request: pytest.FixtureRequest, roots: dict[str, Path]) -> DataConfig:
    """Each reader, pointed at its tiny data set; the pool, at two."""
    name = request.param
    if name == POOL:
        members = tuple(PoolMember(reader=n, root=roots[n]) for n in ("chase_db1", "stare"))
        return DataConfig(reader=name, pool=members)
    assert name in roots or name in SYNTHETIC, f"{name}: add a tiny data set to `makers`"
    return DataConfig(reader=name, root=roots.get(name))


@pytest.fixture(scope="module")
def data(config: DataConfig) -> SampleSet:
    return load(config)


def all_samples(data: SampleSet) -> list[Sample]:
    return [*data.train, *data.val, *data.test]


def test_a_reader_gives_samples_as_the_contract_says(data: SampleSet) -> None:
    for sample in all_samples(data):
        size = sample.image.shape[:2]
        assert sample.image.dtype == np.uint8
        assert sample.image.shape[2] == data.channels
        assert sample.mask.dtype == np.uint8
        assert sample.fov.dtype == np.bool_
        assert sample.mask.shape == sample.fov.shape == size
        assert set(np.unique(sample.mask)) <= {0, 1}
        assert sample.fov.any()
        assert sample.subject
        assert sample.part in {"train", "val", "test", None}
        if sample.second_mask is not None:
            assert sample.second_mask.dtype == np.uint8
            assert sample.second_mask.shape == size
            assert set(np.unique(sample.second_mask)) <= {0, 1}
    assert any(sample.mask.any() for sample in data.train)


def test_ids_are_unique_and_usable_as_file_names(data: SampleSet, tmp_path: Path) -> None:
    ids = [sample.id for sample in all_samples(data)]
    for name in ids:
        (tmp_path / f"{name}.check").touch()
    assert len(list(tmp_path.glob("*.check"))) == len(ids)


# Of synthetic readers the next test says so: drawing takes seconds.
@pytest.mark.parametrize("config", sorted({*READERS} - SYNTHETIC), indirect=True)
def test_a_reader_gives_the_same_data_again(config: DataConfig, data: SampleSet) -> None:
    assert data.fingerprint == fingerprint(read(config))


def test_images_are_reduced_and_grey_where_asked_and_else_the_same(
    config: DataConfig, data: SampleSet
) -> None:
    originals = {sample.id: sample for sample in all_samples(data)}
    side = max(max(sample.mask.shape) for sample in originals.values()) // 2
    found = read(config.model_copy(update={"max_side": side, "channels": "grey"}))
    assert {sample.id for sample in found} == set(originals)
    for sample in found:
        assert sample.image.shape == (*sample.mask.shape, 1)
        assert sample.fov.shape == sample.mask.shape
        assert (sample.mask == mask_at_most(originals[sample.id].mask, side)).all()


def test_loading_splits_by_subject_into_three_parts(config: DataConfig, data: SampleSet) -> None:
    subjects = [{s.subject for s in part} for part in (data.train, data.val, data.test)]
    assert all(subjects)
    assert sum(map(len, subjects)) == len(set.union(*subjects))
    assert data.reader == config.reader
    assert data.synthetic == (config.reader in SYNTHETIC)
    assert data.split == "by_subject"
    assert data.notes == ()


@pytest.mark.parametrize("reader", FILED)
def test_the_folder_of_another_kind_is_answered_with_what_was_expected_and_found(
    reader: str, roots: dict[str, Path]
) -> None:
    for other, root in roots.items():
        if other == reader:
            continue
        found = min(path.name for path in root.iterdir())
        with pytest.raises(Misuse, match=f"expected .*; found {found}.*--reader") as caught:
            read(DataConfig(reader=reader, root=root))
        assert "\n" not in str(caught.value)


def test_the_tables_name_readers_only() -> None:
    assert SYNTHETIC <= set(READERS)
    assert set(FIELDS_OF_VIEW) <= set(READERS)


def test_importing_the_table_loads_no_reader_and_nothing_large() -> None:
    code = (
        "import sys, r2search.data; "
        "print(sorted({'torch', 'PIL', 'scipy', 'tifffile', 'ray'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_existing_folder_is_kept(tmp_path: Path) -> None:
    config = DataConfig(reader="folder", root=tmp_path, otherwise="synthetic_retina")
    assert resolve(config) == config


@pytest.mark.parametrize("root", [None, Path("no/such/folder")])
def test_a_missing_folder_gives_way_to_the_synthetic_reader(root: Path | None) -> None:
    chosen = resolve(DataConfig(reader="chase_db1", root=root, otherwise="synthetic_retina"))
    assert (chosen.reader, chosen.root) == ("synthetic_retina", None)
    assert resolve(chosen) == chosen


def test_a_missing_folder_without_a_stand_in_is_refused() -> None:
    with pytest.raises(Misuse, match=r"no/such: there is no such folder; check .*--data"):
        resolve(DataConfig(reader="chase_db1", root=Path("no/such")))


def test_no_folder_at_all_is_refused() -> None:
    with pytest.raises(Misuse, match=r"the reader folder needs a folder; give --data"):
        resolve(DataConfig(reader="folder"))


def test_an_unknown_reader_is_answered_with_the_known_ones() -> None:
    with pytest.raises(
        Misuse, match=r"unknown name 'chase_db'; did you mean 'chase_db1'\?.*folder"
    ):
        resolve(DataConfig(reader="chase_db", otherwise="synthetic_retina"))


def test_only_a_synthetic_reader_stands_in_for_missing_data(tmp_path: Path) -> None:
    with pytest.raises(Misuse, match=r"data.otherwise: 'folder' is no synthetic reader"):
        resolve(DataConfig(reader="chase_db1", root=tmp_path, otherwise="folder"))


def test_a_home_folder_may_be_written_with_a_tilde(
    tmp_path: Path, make_folder: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(make_folder(tmp_path)))
    assert len(load(DataConfig(reader="folder", root=Path("~"))).train) == 2  # of four: 2, 1, 1


def test_a_split_within_subjects_is_flagged(tmp_path: Path, make_folder: Make) -> None:
    make_folder(tmp_path, ("one/a", "one/b", "one/c"))
    config = DataConfig(reader="folder", root=tmp_path)
    with pytest.raises(Misuse, match="all 3 images are of one subject"):
        load(config)
    data = load(config.model_copy(update={"split": "within_subject"}))
    assert data.split == "within_subject"
    assert "images of one subject may be on both sides" in data.notes[0]


def test_data_without_a_test_part_say_so(tmp_path: Path, make_folder: Make) -> None:
    data = load(DataConfig(reader="folder", root=make_folder(tmp_path, ("a", "b"))))
    assert [len(part) for part in (data.train, data.val, data.test)] == [1, 1, 0]
    assert "too few for a test split" in data.notes[0]


def test_the_seed_draws_the_split(tmp_path: Path, make_folder: Make) -> None:
    config = DataConfig(reader="folder", root=make_folder(tmp_path, tuple("abcdefgh")))

    def test_ids(seed: int) -> list[str]:
        return [sample.id for sample in load(config, seed=seed).test]

    assert test_ids(3) == test_ids(3)
    assert len({tuple(test_ids(seed)) for seed in range(6)}) > 1


def test_field_of_view_of_a_new_image_is_that_of_the_samples(
    config: DataConfig, data: SampleSet
) -> None:
    for sample in all_samples(data):
        found = field_of_view(config, sample.image)
        if config.reader not in {POOL, *FIELDS_OF_VIEW}:
            assert found is None
            continue
        assert found is not None  # the pool is of fundus photographs only
        assert 2 * (found & sample.fov).sum() / (found.sum() + sample.fov.sum()) >= 0.99
