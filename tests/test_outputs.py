"""What is written of an image: whole or not at all, once, and of large ones the same."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from rich.console import Console

from r2search import bundle as bundles
from r2search import outputs
from r2search.config import DataConfig, TrialConfig
from r2search.data.readers import large
from r2search.outputs import RECORD, Record, whole
from r2search.predicting import predict_files

Make = Callable[..., Path]


@pytest.fixture
def bundle_dir(tmp_path: Path, make_bundle: Make) -> Path:
    return make_bundle(tmp_path / "run")


@pytest.fixture
def predicted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes of all images that a network was asked for."""
    seen: list[tuple[int, ...]] = []
    real = bundles.Bundle.predict

    def predict(self: bundles.Bundle, image: Any, *rest: Any) -> bundles.Prediction:
        seen.append(image.shape)
        return real(self, image, *rest)

    monkeypatch.setattr(bundles.Bundle, "predict", predict)
    return seen


# Going on


def test_what_is_written_already_is_not_predicted_again(
    tmp_path: Path, bundle_dir: Path, write_image: Make, console: Console, predicted: list[Any]
) -> None:
    folder, out = write_image(tmp_path / "in" / "a.png").parent, tmp_path / "out"
    (folder / "broken.png").write_bytes(b"no image")
    assert predict_files(bundle_dir, [folder], out, None, console) == 1
    (folder / "broken.png").unlink()
    write_image(folder / "b.png", 30, 30)
    assert predict_files(bundle_dir, [folder], out, None, console) == 0
    assert predicted == [(40, 48, 3), (30, 30, 3)]
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert f"2 of 2 images predicted, in {out}; 1 of them before\n" in text


def lose_the_mask(root: Path) -> None:
    (root / "out" / "a_mask.png").unlink()


def cut_the_mask(root: Path) -> None:
    os.truncate(root / "out" / "a_mask.png", 30)


def change_the_image(root: Path) -> None:
    Image.new("RGB", (48, 40)).save(root / "in" / "a.png")


def lose_the_end_of_the_record(root: Path) -> None:
    path = root / "out" / RECORD
    path.write_text(path.read_text()[:-20])


@pytest.mark.parametrize(
    "change", [lose_the_mask, cut_the_mask, change_the_image, lose_the_end_of_the_record]
)
def test_results_that_are_not_those_of_the_image_are_made_again(
    tmp_path: Path,
    bundle_dir: Path,
    write_image: Make,
    console: Console,
    predicted: list[Any],
    change: Callable[[Path], None],
) -> None:
    path, out = write_image(tmp_path / "in" / "a.png"), tmp_path / "out"
    for _ in range(2):
        predict_files(bundle_dir, [path], out, None, console)
    assert len(predicted) == 1
    change(tmp_path)
    for _ in range(2):
        predict_files(bundle_dir, [path], out, None, console)
    assert len(predicted) == 2


def test_another_network_or_setting_predicts_again_but_not_another_batch(
    tmp_path: Path,
    bundle_dir: Path,
    make_bundle: Make,
    write_image: Make,
    console: Console,
    predicted: list[Any],
) -> None:
    path, out = write_image(tmp_path / "in" / "a.png"), tmp_path / "out"
    other = make_bundle(tmp_path / "other", seed=1)
    runs: list[tuple[Path, dict[str, Any]]] = [
        (bundle_dir, {}),
        (bundle_dir, {"batch": 2}),
        (bundle_dir, {"device": "cpu"}),
        (bundle_dir, {"test_time": "flips"}),
        (other, {"test_time": "flips"}),
    ]
    counts = []
    for folder, settings in runs:
        predict_files(folder, [path], out, None, console, **settings)
        counts.append(len(predicted))
    assert counts == [1, 1, 1, 2, 3]
    predict_files(other, [path], out, 0.25, console, test_time="flips")
    assert len(predicted) == 4


def test_a_record_says_what_came_of_which_image(
    tmp_path: Path, bundle_dir: Path, write_image: Make, console: Console
) -> None:
    path, out = write_image(tmp_path / "in" / "a.png"), tmp_path / "out"
    predict_files(bundle_dir, [path], out, 0.3, console, test_time="flips")
    (line,) = map(json.loads, (out / RECORD).read_text().splitlines())
    assert (line["name"], line["image"]) == ("a", str(path))
    assert (line["threshold"], line["test_time"]) == (0.3, "flips")
    assert line["files"] == {p.name: p.stat().st_size for p in out.iterdir() if p.name != RECORD}


@pytest.mark.parametrize("text", ["[1]\n3\nnull\n", '{"name": "a"}\n', "\xff\x00 nothing\n"])
def test_a_record_of_anything_else_is_passed_over(tmp_path: Path, text: str) -> None:
    (tmp_path / RECORD).write_text(text, encoding="latin-1")
    image = tmp_path / "a.png"
    image.touch()
    assert not Record(tmp_path, {}).has("a", image)


def test_results_appear_together_or_not_at_all(tmp_path: Path) -> None:
    with whole(tmp_path) as (folder, files):
        (folder / "a").write_text("1")
        (folder / "b").write_text("22")
        assert not files
    assert files == {"a": 1, "b": 2}
    with pytest.raises(KeyError), whole(tmp_path) as (folder, files):  # noqa: PT012
        (folder / "c").write_text("3")
        raise KeyError
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b"}


# Settings


def test_views_and_batch_are_those_that_were_asked_for(
    tmp_path: Path, bundle_dir: Path, write_image: Make, console: Console
) -> None:
    path = write_image(tmp_path / "in" / "a.png")
    bundle = bundles.load_bundle(bundle_dir)
    for name, settings in (("own", {}), ("views", {"test_time": "symmetries"})):
        predict_files(bundle_dir, [path], tmp_path / name, None, console, **settings)
        expected = bundle.using(**settings).predict(path).probability[0]
        with Image.open(tmp_path / name / "a_probability.png") as found:
            np.testing.assert_array_equal(np.asarray(found), np.round(expected * 65535))
    assert bundle.using(batch_size=1).predictor.config.tile_batch == 1
    assert (tmp_path / "own/a_mask.png").stat() != (tmp_path / "views/a_mask.png").stat()


# Large images


def large_image(path: Path, height: int = 230, width: int = 131) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(3).integers(0, 256, (height, width, 3), np.uint8)
    tifffile.imwrite(path, pixels, photometric="rgb", tile=(32, 32), compression="zlib")
    return path


@pytest.mark.parametrize("classes", [1, 2])
@pytest.mark.parametrize("standardize", ["image", "unit"])
def test_a_large_image_gets_by_rows_what_it_would_get_at_once(
    tmp_path: Path,
    make_bundle: Make,
    facts: Callable[..., Any],
    several: TrialConfig,
    console: Console,
    monkeypatch: pytest.MonkeyPatch,
    classes: int,
    standardize: str,
) -> None:
    config = several if classes > 1 else facts()["config"]
    data = config.data.model_copy(update={"standardize": standardize})
    bundle_dir = make_bundle(tmp_path / "run", config=config.model_copy(update={"data": data}))
    path = large_image(tmp_path / "in" / "a.tif")
    assert predict_files(bundle_dir, [path], tmp_path / "once", None, console) == 0
    rows: list[int] = []
    real = large.LargeTiff.__getitem__

    def counted(self: large.LargeTiff, index: slice, /) -> Any:
        found = real(self, index)
        rows.append(len(found))
        return found

    monkeypatch.setattr(large.LargeTiff, "__getitem__", counted)
    monkeypatch.setattr(large, "LARGE", 1000)
    monkeypatch.setattr(outputs, "DRAWN", 50)
    monkeypatch.setattr("r2search.data.prepare.COUNTED", 64)
    assert predict_files(bundle_dir, [path], tmp_path / "rows", None, console, batch=2) == 0
    assert 0 < max(rows) <= 64  # of 230
    names = sorted(file.stem for file in (tmp_path / "once").glob("*.png"))
    assert names == sorted(file.stem for file in (tmp_path / "rows").glob("*.tif"))
    assert len(names) == 2 + classes
    for name in names:
        with Image.open(tmp_path / "once" / f"{name}.png") as once:
            found = tifffile.imread(tmp_path / "rows" / f"{name}.tif")
            if "probability" in name:  # a batch of another size may round otherwise
                np.testing.assert_allclose(found, np.asarray(once).astype(int), atol=1)
            else:
                np.testing.assert_array_equal(found, np.asarray(once))


def test_a_network_that_looks_at_the_whole_image_refuses_a_large_one(
    tmp_path: Path,
    make_bundle: Make,
    facts: Callable[..., Any],
    console: Console,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(large, "LARGE", 1000)
    path = large_image(tmp_path / "in" / "a.tif")
    for number, data in enumerate(
        [{"enhance": "clahe"}, {"resize": 64}, {"max_side": 200}, {"reader": "drive"}]
    ):
        config = facts()["config"].model_copy(update={"data": DataConfig.model_validate(data)})
        bundle_dir = make_bundle(tmp_path / str(number), config=config)
        assert predict_files(bundle_dir, [path], tmp_path / "out", None, console) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"r2search: {path}: too large to be in memory, and this network")
    assert not list((tmp_path / "out").iterdir())


def test_a_damaged_large_image_leaves_nothing(
    tmp_path: Path,
    bundle_dir: Path,
    console: Console,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(large, "LARGE", 1000)
    path = large_image(tmp_path / "in" / "a.tif")
    with tifffile.TiffFile(path) as file:
        offset = file.pages.first.aspage().dataoffsets[20]
    damaged = bytearray(path.read_bytes())
    damaged[offset : offset + 50] = bytes(50)
    path.write_bytes(damaged)
    assert predict_files(bundle_dir, [path], tmp_path / "out", None, console) == 1
    assert f"{path}: cannot be read as TIFF (" in capsys.readouterr().err
    assert not list((tmp_path / "out").iterdir())


def test_no_room_for_a_large_image_is_told_before_it_is_predicted(
    tmp_path: Path, bundle_dir: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(large, "LARGE", 1000)
    path = large_image(tmp_path / "in" / "a.tif")
    full = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("shutil.disk_usage", lambda folder: full)
    with pytest.raises(OSError, match="180,780 bytes are needed, 1,000 are free"):
        predict_files(bundle_dir, [path], tmp_path / "out", None, console)
    assert not list((tmp_path / "out").iterdir())
