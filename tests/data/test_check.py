"""What a check finds: each fault, planted, and nothing in sound data."""

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
import pytest

from r2search.data.check import Finding, find_faults
from r2search.data.samples import Sample


def drawn(seed: int, **changes: object) -> Sample:
    """Bright spots on a dark ground of noise; the mask is the spots."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((96, 96), np.uint8)
    for _ in range(4):
        centre = int(rng.integers(10, 86)), int(rng.integers(10, 86))
        cv2.circle(mask, centre, int(rng.integers(5, 14)), 1, -1)
    image = np.clip(rng.normal(60, 12, (96, 96, 3)) + 90 * mask[..., None], 0, 255)
    name = f"image_{seed}"
    fov = np.ones((96, 96), np.bool_)
    sound = Sample(image=image.astype(np.uint8), mask=mask, fov=fov, subject=name, id=name)
    return replace(sound, **changes)  # type: ignore[arg-type]


SOUND = [drawn(seed) for seed in range(12)]


def split_three_ways(samples: Sequence[Sample]) -> list[Sample]:
    parts = ("train",) * 8 + ("val",) * 2 + ("test",) * 2
    return [replace(s, part=part) for s, part in zip(samples, parts, strict=True)]  # type: ignore[arg-type]


def only(samples: Sequence[Sample], problems: Sequence[str] = ()) -> Finding:
    (finding,) = find_faults(samples, problems)
    return finding


def test_nothing_is_found_in_sound_data() -> None:
    assert find_faults(SOUND) == []
    assert find_faults(split_three_ways(SOUND)) == []


def test_nothing_is_found_where_nothing_could_be_read_but_its_problems() -> None:
    assert only([], ["a.png: is bad"]) == Finding("bad file", "a.png: is bad")


def test_swapped_masks_are_an_error_that_names_both() -> None:
    spoilt = list(SOUND)
    spoilt[4] = replace(SOUND[4], mask=SOUND[8].mask)
    spoilt[8] = replace(SOUND[8], mask=SOUND[4].mask)
    found = only(spoilt)
    assert (found.kind, found.is_error) == ("swapped masks", True)
    assert found.ids == ("image_4", "image_8")


def test_one_picture_under_two_names_is_an_error() -> None:
    found = only([*SOUND, replace(SOUND[2], id="copy", subject="copy")])
    assert (found.kind, found.is_error, found.ids) == ("duplicate", True, ("image_2", "copy"))
    assert found.text.startswith("copy: is the same picture as image_2 (")


def test_a_mirrored_copy_is_an_error() -> None:
    copy = {"image": SOUND[2].image[:, ::-1].copy(), "mask": SOUND[2].mask[:, ::-1].copy()}
    found = only([*SOUND, drawn(2, id="copy", subject="copy", **copy)])
    assert found.kind == "duplicate"
    assert "is nearly the same picture as image_2, mirrored or turned (" in found.text


def test_a_copy_that_the_reader_has_named_is_not_told_twice() -> None:
    copy = replace(SOUND[2], id="copy", subject="copy")
    found = only([*SOUND, copy], ["copy.png: is the same picture as image_2.png; remove one"])
    assert found.kind == "bad file"


def test_a_copy_in_another_part_is_leakage() -> None:
    samples = split_three_ways(SOUND)
    samples[11] = replace(samples[11], image=samples[0].image, mask=samples[0].mask)
    found = only(samples, [])
    assert (found.kind, found.ids) == ("leakage", ("image_0", "image_11"))
    assert "across the parts train and test" in found.text


def test_a_subject_in_two_parts_is_leakage() -> None:
    samples = split_three_ways(SOUND)
    samples[11] = replace(samples[11], subject="image_0")
    found = only(samples)
    assert (found.kind, found.is_error) == ("leakage", True)
    assert found.text == (
        "subject image_0: is in train (image_0) and in test (image_11); put all its images into "
        "one part"
    )


@pytest.mark.parametrize(("level", "said"), [(0, "black"), (255, "white"), (90, "one colour (90)")])
def test_an_image_without_content_is_an_error(level: int, said: str) -> None:
    blank = np.full((96, 96, 3), level, np.uint8)
    first, *others = find_faults([*SOUND, drawn(30, image=blank)])
    assert (first.kind, first.is_error, first.ids) == ("constant image", True, ("image_30",))
    assert said in first.text
    assert all(not other.is_error for other in others)


def test_an_empty_slice_beside_the_body_is_sound() -> None:
    blank = np.full((96, 96, 3), 70, np.uint8)
    assert find_faults([*SOUND, drawn(30, image=blank, mask=np.zeros((96, 96), np.uint8))]) == []


def test_slices_of_one_volume_may_be_alike() -> None:
    slices = [replace(s, spacing=(1.0, 1.0), subject=f"{n // 6}") for n, s in enumerate(SOUND)]
    slices[1] = replace(slices[1], image=slices[0].image, mask=slices[0].mask)
    assert find_faults(slices) == []
    slices[7] = replace(slices[7], image=slices[0].image, mask=slices[0].mask)
    assert only(slices).ids in {("image_0", "image_7"), ("image_1", "image_7")}


@pytest.mark.parametrize(
    ("share", "kind"), [(0.001, "nearly empty masks"), (0.999, "nearly full masks")]
)
def test_a_mask_far_from_the_rest_is_a_notice(share: float, kind: str) -> None:
    mask = (np.arange(96 * 96).reshape(96, 96) < share * 96 * 96).astype(np.uint8)
    found = only([*SOUND, drawn(30, mask=mask)])
    assert (found.kind, found.is_error, found.ids) == (kind, False, ("image_30",))
    assert "image_30 (" in found.text


@pytest.mark.parametrize(("change", "kind"), [(-50, "dark images"), (60, "bright images")])
def test_an_image_of_another_brightness_is_a_notice(change: int, kind: str) -> None:
    image = np.clip(drawn(30).image.astype(int) + change, 0, 255).astype(np.uint8)
    found = only([*SOUND, drawn(30, image=image)])
    assert (found.kind, found.is_error, found.ids) == (kind, False, ("image_30",))


def test_several_of_a_kind_are_told_together() -> None:
    dark = [drawn(n, image=drawn(n).image // 8) for n in range(30, 35)]
    (found,) = [f for f in find_faults([*SOUND, *dark]) if f.kind == "dark images"]
    assert len(found.ids) == 5
    assert "and 2 more; usual is" in found.text


def test_images_in_no_part_of_the_official_split_are_a_notice() -> None:
    samples = split_three_ways(SOUND)
    found = only([replace(samples[0], part=None), *samples[1:]])
    assert (found.kind, found.is_error) == ("split", False)
    assert found.text.startswith("1 of 12 images are in no part of the official split")


def test_data_that_cannot_be_split_is_a_notice() -> None:
    one = [replace(s, subject="anna") for s in SOUND]
    found = only(one)
    assert found.text.startswith("a study would stop here: all 12 images are of one subject (anna)")
    assert find_faults(one, how="within_subject") == []


def test_it_is_told_when_swaps_cannot_be_seen() -> None:
    found = only(SOUND[:5])
    assert (found.kind, found.is_error) == ("not checked", False)


def test_errors_come_first() -> None:
    dark = drawn(30, image=drawn(30).image // 8)
    kinds = [f.is_error for f in find_faults([*SOUND, dark], ["a.png: is bad"])]
    assert kinds == [True, False]
