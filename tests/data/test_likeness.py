"""Which samples are alike and whose mask fits whom, on drawn samples and on real ones."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from r2search.config import DataConfig
from r2search.data import read, resolve
from r2search.data.likeness import SIDE, near_duplicates, swapped_masks, thumbnails
from r2search.data.samples import Sample

DATA = Path(__file__).parents[2] / "../shared/data"
Image = NDArray[np.uint8]


def drawn(seed: int, height: int = 96, width: int = 96, channels: int = 3) -> Sample:
    """Bright spots on a dark ground of noise; the mask is the spots."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((height, width), np.uint8)
    for _ in range(4):
        centre = int(rng.integers(10, width - 10)), int(rng.integers(10, height - 10))
        cv2.circle(mask, centre, int(rng.integers(5, 14)), 1, -1)
    noise = rng.normal(60, 12, (height, width, channels))
    image = np.clip(noise + 90 * mask[..., None], 0, 255).astype(np.uint8)
    return sample(image, mask, str(seed))


def sample(image: Image, mask: Image, name: str) -> Sample:
    fov = np.ones(mask.shape, np.bool_)
    return Sample(image=image, mask=mask, fov=fov, subject=name, id=name)


def duplicates(samples: Sequence[Sample]) -> list[tuple[int, int]]:
    found = near_duplicates(thumbnails(samples), [s.id for s in samples])
    return [(pair.first, pair.second) for pair in found]


def swapped(samples: Sequence[Sample]) -> list[tuple[int, int]] | None:
    found = swapped_masks(thumbnails(samples), [s.mask.shape for s in samples])
    return None if found is None else [(pair.first, pair.second) for pair in found]


def with_swap(samples: Sequence[Sample], i: int, j: int) -> list[Sample]:
    spoilt = list(samples)
    spoilt[i] = replace(samples[i], mask=samples[j].mask)
    spoilt[j] = replace(samples[j], mask=samples[i].mask)
    return spoilt


DRAWN = [drawn(seed) for seed in range(12)]


# Near duplicates


def resaved(image: Image) -> Image:
    done, content = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 40])
    assert done
    decoded = cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
    return np.asarray(decoded, np.uint8).reshape(image.shape)


COPIES: dict[str, Callable[[Image], Image]] = {
    "equal": lambda image: image,
    "saved again": resaved,
    "rescaled": lambda image: np.asarray(cv2.resize(image, (70, 70)), np.uint8),
    "stretched": lambda image: np.asarray(cv2.resize(image, (130, 90)), np.uint8),
    "brightened": lambda image: np.clip(image * 1.15 + 8, 0, 255).astype(np.uint8),
    "mirrored": lambda image: image[:, ::-1],
    "upside down": lambda image: image[::-1],
    "turned left": lambda image: np.rot90(image),
    "turned right": lambda image: np.rot90(image, 3),
    "transposed": lambda image: image.transpose(1, 0, 2),
}


@pytest.mark.parametrize("copy", COPIES)
def test_a_copy_is_found_however_it_was_saved(copy: str) -> None:
    image = np.ascontiguousarray(COPIES[copy](DRAWN[3].image))
    again = sample(image, np.ones(image.shape[:2], np.uint8), "copy")
    assert duplicates([*DRAWN, again]) == [(3, 12)]


def test_only_a_copy_that_was_laid_down_otherwise_is_called_turned() -> None:
    mirrored = replace(DRAWN[1], id="mirrored", image=DRAWN[1].image[:, ::-1].copy())
    found = near_duplicates(thumbnails([*DRAWN, DRAWN[0], mirrored]), [str(n) for n in range(14)])
    assert [(pair.first, pair.second, pair.turned) for pair in found] == [
        (0, 12, False),
        (1, 13, True),
    ]


def test_other_pictures_are_no_copies() -> None:
    assert duplicates(DRAWN) == []


def test_members_of_one_group_are_not_compared() -> None:
    thumbs = thumbnails([DRAWN[0], DRAWN[0], DRAWN[0]])
    found = near_duplicates(thumbs, ["volume 1", "volume 1", "volume 2"])
    assert [(pair.first, pair.second) for pair in found] == [(0, 2)]


def test_pictures_without_content_are_like_none() -> None:
    black = sample(np.zeros((64, 64, 3), np.uint8), np.ones((64, 64), np.uint8), "black")
    assert duplicates([black, black, *DRAWN]) == []


def test_what_lies_outside_the_field_of_view_plays_no_part() -> None:
    rows, columns = np.mgrid[:96, :96]
    fov = np.hypot(rows - 48, columns - 48) < 40
    discs = [replace(s, fov=fov, image=np.where(fov[..., None], s.image, 0)) for s in DRAWN]
    assert duplicates(discs) == []
    assert swapped(discs) == []


# Swapped masks


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dark", [False, True])
def test_a_swap_is_found_whichever_is_brighter(channels: int, dark: bool) -> None:
    samples = [drawn(seed, channels=channels) for seed in range(12)]
    if dark:
        samples = [replace(s, image=255 - s.image) for s in samples]
    assert swapped(samples) == []
    assert swapped(with_swap(samples, 2, 7)) == [(2, 7)]


def test_two_swaps_are_found() -> None:
    assert swapped(with_swap(with_swap(DRAWN, 0, 9), 3, 4)) == [(0, 9), (3, 4)]


def test_only_masks_of_one_shape_can_have_been_swapped() -> None:
    mixed = [*DRAWN[:6], *(drawn(seed, height=80) for seed in range(20, 26))]
    assert swapped(mixed) == []
    assert swapped(with_swap(mixed, 7, 10)) == [(7, 10)]
    thumbs = thumbnails(with_swap(DRAWN, 2, 7))
    assert swapped_masks(thumbs, [(96, n) for n in range(12)]) == []


def test_masks_that_have_nothing_to_do_with_the_images_are_told_to_be_so() -> None:
    rng = np.random.default_rng(0)
    noise = [replace(s, image=rng.integers(0, 255, s.image.shape, np.uint8)) for s in DRAWN]
    assert swapped(noise) is None


def test_too_few_images_cannot_be_compared() -> None:
    assert swapped(with_swap(DRAWN[:5], 1, 2)) is None


def test_empty_and_full_masks_are_left_out() -> None:
    blank = [replace(DRAWN[n], mask=np.full((96, 96), n, np.uint8)) for n in (0, 1)]
    assert swapped([*blank, *DRAWN[2:]]) == []


def test_a_thumbnail_is_square_and_shows_shares() -> None:
    (thumb,) = thumbnails([drawn(0, height=200, width=64)])
    assert thumb.image.shape == (SIDE, SIDE, 3)
    assert thumb.mask.shape == (SIDE, SIDE)
    assert thumb.mask.mean() == pytest.approx(drawn(0, height=200, width=64).mask.mean(), abs=0.01)


# Real images

# Reader, and every how manieth sample is taken.
REAL = {
    "chase_db1": ("chase_db1", 1),
    "dsb2018": ("dsb2018", 1),
    "isic2018_crop512": ("isic", 16),
    "chaos_ct": ("chaos", 2),
}
PLANTED = 4  # swaps, one after the other
FOUND = 3  # of these at least: masks may be alike by chance


@pytest.fixture(scope="module", params=REAL)
def real(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    name = request.param
    reader, step = REAL[name]
    root = DATA / name
    if not root.is_dir():
        pytest.skip(f"the images of {name} are not here")
    if name == "dsb2018":  # 7,259 files: the first of these images are enough
        few = tmp_path_factory.mktemp(name) / "stage1_train"
        few.mkdir()
        for folder in sorted((root / "stage1_train").iterdir())[:24]:
            (few / folder.name).symlink_to(folder.resolve())
        root = few.parent
    samples = read(resolve(DataConfig(reader=reader, root=root, max_side=512)))
    return samples[::step]


def test_real_images_are_untouched(real: list[Sample]) -> None:
    groups = [s.subject if s.spacing else s.id for s in real]
    assert near_duplicates(thumbnails(real), groups) == []
    assert swapped(real) == []


def test_most_swaps_among_real_images_are_found_and_nothing_else(real: list[Sample]) -> None:
    thumbs, shapes = thumbnails(real), [s.mask.shape for s in real]
    far = 8 if real[0].spacing else 1  # neighbouring slices have the same masks
    pairs = [
        (i, j)
        for i, j in combinations(range(len(real)), 2)
        if shapes[i] == shapes[j] and j - i >= far and real[i].mask.any() and real[j].mask.any()
    ]
    right = wrong = 0
    for i, j in pairs[:: len(pairs) // PLANTED][:PLANTED]:
        spoilt = list(thumbs)
        spoilt[i] = replace(thumbs[i], mask=thumbs[j].mask)
        spoilt[j] = replace(thumbs[j], mask=thumbs[i].mask)
        found = [(pair.first, pair.second) for pair in swapped_masks(spoilt, shapes) or []]
        right += (i, j) in found
        wrong += len(set(found) - {(i, j)})
    assert right >= FOUND
    assert wrong == 0


def test_a_copy_among_real_images_is_found(real: list[Sample]) -> None:
    image = np.ascontiguousarray(resaved(real[9].image)[:, ::-1])
    copy = replace(real[9], image=image, id="copy")  # its field of view is not quite the right one
    found = near_duplicates(thumbnails([*real, copy]), [str(n) for n in range(len(real) + 1)])
    own = [pair for pair in found if pair.second == len(real)]
    assert [(pair.first, pair.turned) for pair in own] == [(9, True)]
