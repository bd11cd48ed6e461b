"""`r2search data check`: what it shows and finds, by faults planted in files."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from r2search.checking import GUESS, check_data, draw_sheet, guess_reader, outlined
from r2search.cli import main
from r2search.config import DataConfig, Misuse
from r2search.data.check import Finding
from r2search.data.samples import Sample

Capture = pytest.CaptureFixture[str]
Plant = Callable[[Path], object]
REAL = Path(__file__).parents[1] / "../shared/data/isic2018_crop512"
IMAGES, MASKS = "ISIC2018_Task1-2_{}_Input", "ISIC2018_Task1_{}_GroundTruth"
NUMBER = 14  # of images: enough to say what is usual


def draw(seed: int) -> tuple[Image.Image, Image.Image]:
    """Bright spots on a dark ground of noise, and their mask."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((96, 96), np.uint8)
    for _ in range(4):
        centre = int(rng.integers(10, 86)), int(rng.integers(10, 86))
        cv2.circle(mask, centre, int(rng.integers(5, 14)), 255, -1)
    image = np.clip(rng.normal(60, 12, (96, 96, 3)) + 0.35 * mask[..., None], 0, 255)
    return Image.fromarray(image.astype(np.uint8)), Image.fromarray(mask)


def write_drawn(root: Path) -> None:
    """As ISIC 2018 has them: the last two in the validation part."""
    for n in range(NUMBER):
        part = "Training" if n < NUMBER - 2 else "Validation"
        for folder, picture, name in zip(
            (IMAGES, MASKS),
            draw(n),
            (f"ISIC_{n:07}.png", f"ISIC_{n:07}_segmentation.png"),
            strict=True,
        ):
            path = root / folder.format(part) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path)


def write_real(root: Path) -> None:
    if not REAL.is_dir():
        pytest.skip("the ISIC 2018 images are not here")
    images = sorted((REAL / IMAGES.format("Training")).iterdir())[:NUMBER]
    for n, image in enumerate(images):
        part = "Training" if n < NUMBER - 2 else "Validation"
        mask = REAL / MASKS.format("Training") / f"{image.stem}_segmentation.png"
        for source, folder in ((image, IMAGES), (mask, MASKS)):
            (root / folder.format(part)).mkdir(parents=True, exist_ok=True)
            shutil.copy(source, root / folder.format(part) / source.name)


@pytest.fixture(params=[write_drawn, write_real], ids=["drawn", "real"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    request.param(tmp_path / "isic")
    return tmp_path / "isic"


def files(root: Path, folder: str, part: str = "Training") -> list[Path]:
    return sorted((root / folder.format(part)).iterdir())


def swap_masks(root: Path) -> None:
    one, other = files(root, MASKS)[1:3]
    kept = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(kept)


def copy_image(root: Path) -> None:
    image, mask = files(root, IMAGES)[3], files(root, MASKS)[3]
    shutil.copy(image, image.with_stem("ISIC_9999999"))
    shutil.copy(mask, mask.with_stem("ISIC_9999999_segmentation"))


def save_again(root: Path) -> None:
    image, mask = files(root, IMAGES)[3], files(root, MASKS)[3]
    Image.open(image).save(image.parent / "ISIC_9999999.jpg", quality=60)
    shutil.copy(mask, mask.with_stem("ISIC_9999999_segmentation"))


def train_on_validation(root: Path) -> None:
    for folder in (IMAGES, MASKS):
        path = files(root, folder, "Validation")[0]
        shutil.copy(path, root / folder.format("Training") / path.name)


def grey_mask(root: Path) -> None:
    path = files(root, MASKS)[0]
    Image.open(path).resize((40, 40), Image.Resampling.BILINEAR).resize(
        Image.open(path).size, Image.Resampling.BILINEAR
    ).save(path)


def blacken(root: Path) -> None:
    path = files(root, IMAGES)[5]
    Image.new("RGB", Image.open(path).size).save(path)


# What is planted, and a kind and some words of what is found.
FAULTS: dict[str, tuple[Plant, str, str]] = {
    "swapped masks": (swap_masks, "swapped masks", "each one's mask fits the other's image better"),
    "copied": (copy_image, "duplicate|bad file", "ISIC_9999999.*is the same picture as"),
    "saved again": (save_again, "duplicate", "ISIC_9999999: is nearly the same picture as ISIC_"),
    "in two parts": (train_on_validation, "leakage", "subject ISIC_.* is in train .* and in val"),
    "grey mask": (grey_mask, "bad file", r"is not binary: .*% of its pixels lie between 0 and 255"),
    "black image": (blacken, "constant image", "is all black, and its mask has foreground"),
}


def check(root: Path, console: Console, **changes: object) -> tuple[int, str]:
    config = DataConfig(reader="isic", root=root).model_copy(update=changes)
    code = check_data(config, console)
    return code, console.file.getvalue()  # type: ignore[attr-defined]


def test_sound_data_are_shown_and_nothing_is_wrong(root: Path, console: Console) -> None:
    code, said = check(root, console)
    assert code == 0
    assert "0 errors" in said
    for row in ("14 images", "official split, val", "foreground", "fingerprint", "8 bit: 0, 255"):
        assert row in said


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(fault: str, root: Path, console: Console) -> None:
    plant, kind, words = FAULTS[fault]
    plant(root)
    code, said = check(root, console)
    assert code == 1
    found = [line for line in said.splitlines() if line.startswith("error: ")]
    assert any(re.match(f"error: ({kind}): .*{words}", line) for line in found), said
    assert "fingerprint" in said  # of what could be read nevertheless


def test_notices_alone_are_no_failure(tmp_path: Path, console: Console) -> None:
    write_drawn(tmp_path)
    path = files(tmp_path, IMAGES)[0]
    Image.fromarray(np.asarray(Image.open(path)) // 8).save(path)
    code, said = check(tmp_path, console)
    assert code == 0
    assert "notice: dark images: ISIC_0000000" in said
    assert said.endswith("0 errors, 1 notice\n")


# Which reader


def test_the_reader_is_found_by_the_layout(tmp_path: Path, console: Console) -> None:
    write_drawn(tmp_path)
    assert check(tmp_path, console, reader=GUESS)[1].startswith(f"{tmp_path}, read as isic\n")


def test_it_is_found_although_files_are_bad(tmp_path: Path) -> None:
    write_drawn(tmp_path)
    grey_mask(tmp_path)
    reading = guess_reader(DataConfig(reader=GUESS, root=tmp_path))
    assert reading.config.reader == "isic"
    assert len(reading.problems) == 1
    assert len(reading.samples) == NUMBER - 1


def test_a_layout_that_no_reader_knows_is_told_as_such(tmp_path: Path, console: Console) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(Misuse, match=r"no reader expects; choose one of chaos, .* by --reader"):
        check(tmp_path, console, reader=GUESS)


def test_a_layout_that_two_readers_read_is_left_to_the_person(
    tmp_path: Path, write_folder: Callable[..., Path]
) -> None:
    write_folder(tmp_path)
    write_drawn(tmp_path)
    with pytest.raises(Misuse, match=r"folder and isic read this layout; choose one by --reader"):
        guess_reader(DataConfig(reader=GUESS, root=tmp_path))


def test_what_keeps_the_only_fitting_reader_from_reading_is_told(
    tmp_path: Path, console: Console
) -> None:
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    with pytest.raises(Misuse, match=r"images: holds no images; known: \.bmp"):
        check(tmp_path, console, reader=GUESS)


# The command


def test_the_command_takes_the_reader_from_the_space_file_or_the_flags(
    tmp_path: Path, write_folder: Callable[..., Path], capsys: Capture
) -> None:
    write_folder(tmp_path / "mine")
    for flags in ([], ["--space", "general.yaml"], ["--space", "quick.yaml"], ["--reader=folder"]):
        assert main(["data", "check", str(tmp_path / "mine"), *flags]) == 0
        assert capsys.readouterr().out.startswith(f"{tmp_path / 'mine'}, read as folder\n")


def test_the_command_reads_labels_as_they_are_set(
    tmp_path: Path, write_folder: Callable[..., Path], capsys: Capture
) -> None:
    root = write_folder(tmp_path)
    for path in (root / "masks").iterdir():
        mask = np.array(Image.open(path)) // 255
        mask[:5] = 2
        Image.fromarray(mask).save(path)
    assert main(["data", "check", str(root)]) == 1
    assert "is not binary" in capsys.readouterr().out
    assert main(["data", "check", str(root), "--set", "data.labels=[1,2]"]) == 0
    said = capsys.readouterr().out
    assert "class 2, value 2" in said
    assert "8 bit: 0, 1, 2" in said


# The sheet


def sample(name: str, height: int = 40, width: int = 60, **changes: object) -> Sample:
    mask = np.zeros((height, width), np.uint8)
    mask[10:30, 10:30] = 1
    mask[10:30, 40:50] = 2
    given: dict[str, object] = {
        "image": np.full((height, width, 1), 90, np.uint8),
        "mask": mask,
        "fov": np.ones((height, width), np.bool_),
        "subject": name,
        "id": name,
    }
    return Sample(**(given | changes))  # type: ignore[arg-type]


def test_every_class_is_outlined_in_its_colour_and_its_inside_is_left() -> None:
    picture = np.asarray(outlined(sample("a")))
    scale = picture.shape[1] / 60
    colours = {tuple(int(v) for v in pixel) for pixel in picture.reshape(-1, 3)}
    assert colours == {(90, 90, 90), (0, 229, 255), (255, 214, 0)}
    for row, column in ((20, 20), (20, 45), (5, 5)):
        assert tuple(picture[int(row * scale), int(column * scale)]) == (90, 90, 90)


def test_fine_vessels_keep_their_line_when_the_picture_is_reduced() -> None:
    mask = np.zeros((1000, 1000), np.uint8)
    mask[500:503] = 1
    picture = np.asarray(outlined(sample("a", 1000, 1000, mask=mask)))
    assert (picture == (0, 229, 255)).all(axis=2).any(axis=0).all()


def test_suspicious_samples_come_first_and_are_framed() -> None:
    samples = [sample(f"{n}") for n in range(100)]
    plain = draw_sheet(samples, [])
    marked = draw_sheet(
        samples, [Finding("duplicate", "", ("57", "3")), Finding("dark", "", ("8",), False)]
    )
    assert plain.width == marked.width
    assert plain.height < marked.height  # 24, and three more
    pixels = np.asarray(marked)
    assert tuple(pixels[8, 200]) == tuple(pixels[8, 510]) == (214, 40, 40)
    assert tuple(pixels[8, 820]) == (230, 145, 0)
    assert tuple(pixels[8, 1130]) == (255, 255, 255)


def test_the_sheet_is_written(tmp_path: Path, console: Console) -> None:
    write_drawn(tmp_path / "data")
    config = DataConfig(reader="isic", root=tmp_path / "data")
    assert check_data(config, console, tmp_path / "new" / "sheet.png") == 0
    assert Image.open(tmp_path / "new" / "sheet.png").size[0] > 1000
    (tmp_path / "file").touch()
    with pytest.raises(Misuse, match=r"-o .*sheet.png: cannot be written"):
        check_data(config, console, tmp_path / "file" / "sheet.png")
