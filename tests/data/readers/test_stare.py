"""The reader of STARE, on tiny copies of its layouts: packed or not, in one folder or three."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from r2search.config import DataConfig, Misuse
from r2search.data.readers.fundus import field_of_view
from r2search.data.readers.stare import DRAWN, stare
from r2search.data.samples import fingerprint

Make = Callable[..., Path]
Draw = Callable[..., Image.Image]
CONFIG = DataConfig(reader="stare")


@pytest.fixture
def root(tmp_path: Path, makers: dict[str, Make]) -> Path:
    return makers["stare"](tmp_path)


def problems(root: Path) -> list[str]:
    with pytest.raises(Misuse) as caught:
        stare(root, CONFIG)
    return [line.strip() for line in str(caught.value).splitlines()[1:]]


def test_both_observers_are_read_and_an_image_is_a_subject(root: Path) -> None:
    samples = stare(root, CONFIG)
    names = ["im0001", "im0002", "im0003", "im0044"]
    assert [(s.id, s.subject, s.part) for s in samples] == [(n, n, None) for n in names]
    # _mask(n) begins at row 5, column 8 + n: ah drew _mask(1), vk _mask(2)
    assert samples[0].second_mask is not None
    assert divmod(int(samples[0].mask.argmax()), 24) == (5, 9)
    assert divmod(int(samples[0].second_mask.argmax()), 24) == (5, 10)


def test_packed_or_not_in_one_folder_or_three_the_data_are_the_same(
    tmp_path: Path, makers: dict[str, Make]
) -> None:
    found = {
        fingerprint(
            stare(makers["stare"](tmp_path / f"{packed}{folders}", packed, folders), CONFIG)
        )
        for packed in (True, False)
        for folders in (True, False)
    }
    assert len(found) == 1


def test_the_field_of_view_is_computed(root: Path) -> None:
    for sample in stare(root, CONFIG):
        assert (sample.fov == field_of_view(sample.image)).all()
        assert 0.3 < sample.fov.mean() < 0.7


def test_the_twenty_images_with_vessels_drawn_are_known() -> None:
    assert len(DRAWN) == 20
    assert {"im0001", "im0044", "im0139", "im0324"} <= DRAWN


def test_images_that_nobody_drew_are_passed_over(root: Path, picture: Draw) -> None:
    picture(9).save(root / "stare-images" / "im0006.ppm")  # of the 400 of the whole project
    assert len(stare(root, CONFIG)) == 4


def test_a_further_image_with_a_mask_is_read(root: Path, picture: Draw, mask: Draw) -> None:
    picture(9).save(root / "stare-images" / "im0006.ppm")
    mask(9).save(root / "labels-ah" / "im0006.ah.png")
    assert [s.id for s in stare(root, CONFIG)][-2:] == ["im0006", "im0044"]


def test_missing_files_are_named_and_a_second_observer_may_be(root: Path) -> None:
    (root / "labels-ah" / "im0001.ah.ppm.gz").unlink()
    (root / "stare-images" / "im0002.ppm.gz").unlink()
    (root / "labels-vk" / "im0003.vk.ppm.gz").unlink()
    assert problems(root) == [
        "stare-images/im0001.ppm.gz: its mask im0001.ah.ppm is missing; add it",
        "labels-ah/im0002.ah.ppm.gz: its image im0002.ppm is missing; add it",
        "labels-vk/im0002.vk.ppm.gz: its image im0002.ppm is missing; add it",
    ]


def test_a_download_that_broke_off_is_one_clear_problem(root: Path) -> None:
    path = root / "stare-images" / "im0001.ppm.gz"
    path.write_bytes(path.read_bytes()[:-20])
    (found,) = problems(root)
    assert found.startswith("stare-images/im0001.ppm.gz: cannot be read as an image (Compressed")


def test_an_image_packed_and_unpacked_is_a_problem(root: Path, picture: Draw) -> None:
    picture(1).save(root / "stare-images" / "im0001.ppm")
    assert problems(root) == [
        "stare-images/im0001.ppm.gz: stands beside stare-images/im0001.ppm for one image; "
        "remove one"
    ]


def test_the_archives_may_lie_one_folder_deeper(tmp_path: Path, makers: dict[str, Make]) -> None:
    makers["stare"](tmp_path / "data" / "STARE")
    assert len(stare(tmp_path / "data", CONFIG)) == 4


def test_another_folder_is_told_what_was_expected_and_found(
    tmp_path: Path, make_chase: Make
) -> None:
    with pytest.raises(Misuse, match=r"expected STARE \(im0001.ppm.*; found Image_01L.jpg"):
        stare(make_chase(tmp_path), CONFIG)
