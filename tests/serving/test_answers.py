"""Numbers and files of an answer, without a server."""

import base64
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from servers import encoded, noise

from r2search.bundle import load_bundle
from r2search.config import DataConfig, PoolMember, TrialConfig
from r2search.serving.answers import (
    FILES,
    Answer,
    ClassFacts,
    areas,
    classes_of,
    json_parts,
    model_facts,
    predict_upload,
    sample_picture,
)
from r2search.serving.uploads import Limits

Make = Callable[..., Path]
ONE = ClassFacts(name="vessels", colour="#00e5ff", value=255)
TWO = ClassFacts(name="other", colour="#ffd600", value=7)


def test_pixels_that_touch_at_a_corner_are_one_piece() -> None:
    mask = np.zeros((6, 8), np.uint8)
    mask[1, 1] = mask[2, 2] = mask[0, 3] = 1  # a diagonal of two; (0, 3) is apart from (2, 2)
    mask[4, 4:8] = 2
    first, second = areas(mask, [ONE, TWO], whole=48)
    assert (first.pixels, first.pieces, first.percent) == (3, 2, 6.25)
    assert (second.pixels, second.pieces) == (4, 1)


def test_no_pixels_and_no_field_of_view_are_zero() -> None:
    (area,) = areas(np.zeros((4, 4), np.uint8), [ONE], whole=0)
    assert (area.pixels, area.percent, area.pieces) == (0, 0.0, 0)


@pytest.mark.parametrize(
    ("data", "classes", "names"),
    [
        (DataConfig(reader="drive"), 1, ["vessels"]),
        (DataConfig(reader="isic"), 2, ["lesion"]),
        (DataConfig(reader="folder"), 1, ["foreground"]),
        (
            DataConfig(reader="msd", labels=(1, 5)),
            3,
            ["class 1 (mask value 1)", "class 2 (mask value 5)"],
        ),
    ],
)
def test_what_is_marked_has_a_name(data: DataConfig, classes: int, names: list[str]) -> None:
    assert [each.name for each in classes_of(data, classes)] == names


def test_a_pool_of_one_kind_has_its_name_and_of_several_kinds_none() -> None:
    def name(*readers: str) -> str:
        pool = tuple(PoolMember(reader=reader, root=Path("x")) for reader in readers)
        return classes_of(DataConfig(reader="pool", pool=pool), 1)[0].name

    assert name("drive", "stare") == "vessels"
    assert name("drive", "isic") == "foreground"


@pytest.fixture
def fundus(make_bundle: Make, tmp_path: Path) -> Path:
    """A bundle of a network of retinal photographs, with a black surround."""
    config = TrialConfig.model_validate(
        {
            "data": {"reader": "synthetic_retina"},
            "model": {"block": "conv", "depth": 1, "base_filters": 2},
            "inference": {"tile": 64, "overlap": 8},
        }
    )
    return make_bundle(tmp_path, 5, config=config, synthetic=True)


def test_areas_are_of_the_field_of_view_where_there_is_one(fundus: Path, tmp_path: Path) -> None:
    image = np.zeros((100, 120, 3), np.uint8)
    rows, columns = np.mgrid[:100, :120]
    inside = (rows - 50) ** 2 + (columns - 60) ** 2 < 45**2
    image[inside] = 180
    np.save(tmp_path / "pixels.npy", image)
    answer = predict_upload(load_bundle(fundus), tmp_path, "eye.png", 0.01, ["mask"])
    assert answer.of == "field of view"
    assert answer.of_pixels == pytest.approx(inside.sum(), rel=0.05)
    assert answer.classes[0].name == "vessels"
    assert answer.classes[0].pixels <= answer.of_pixels  # nothing is marked outside
    assert answer.synthetic


def test_the_parts_are_one_json_with_all_files(fundus: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "pixels.npy", noise(400, 400))
    files = [*FILES, "picture"]
    answer = predict_upload(load_bundle(fundus), tmp_path, 'a "quoted" name', None, files)
    told = json.loads(b"".join(json_parts(answer, tmp_path, files)))
    assert told["name"] == 'a "quoted" name'
    assert list(told["files"]) == files
    overlay = base64.b64decode(told["files"]["overlay"][0])
    assert len(overlay) > 3 << 16  # several parts
    assert overlay == (tmp_path / "image_overlay.png").read_bytes()


def test_classes_come_in_their_order(make_bundle: Make, tmp_path: Path) -> None:
    for number in (1, 2, 10):
        (tmp_path / f"image_probability_class{number}.png").write_bytes(b"%d" % number)
    answer = predict_upload_of(make_bundle(tmp_path / "b"), tmp_path)
    (tmp_path / "image_probability.png").unlink()
    told = json.loads(b"".join(json_parts(answer, tmp_path, ["probability"])))
    assert [base64.b64decode(each) for each in told["files"]["probability"]] == [b"1", b"2", b"10"]


def predict_upload_of(bundle: Path, folder: Path) -> Answer:
    np.save(folder / "pixels.npy", noise())
    return predict_upload(load_bundle(bundle), folder, "a.png", None, ["probability"])


def test_a_sample_picture_must_be_one(fundus: Path) -> None:
    bundle, limits = load_bundle(fundus), Limits()
    assert not model_facts(bundle.manifest, fundus, limits).sample_picture
    (fundus / "preview.png").write_bytes(encoded(noise()))
    assert model_facts(bundle.manifest, fundus, limits).sample_picture
    (fundus / "preview.png").unlink()
    (fundus / "card.md").unlink()
    facts = model_facts(bundle.manifest, fundus, limits)
    assert (facts.sample_picture, facts.card) == (False, "")
    assert sample_picture(fundus) == b""
