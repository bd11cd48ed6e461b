"""The augmentation pipeline: what it keeps, and that its random numbers are ours."""

import multiprocessing
import random
from functools import partial
from typing import Any, Literal

import albumentations
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from r2search.data.augment import SYMMETRIES, TURN, build_augmentation, light_tables

Kind = Literal["none", "flips", "geometry", "full"]
KINDS: tuple[Kind, ...] = ("none", "flips", "geometry", "full")


def patch(channels: int = 3, edge: int = 32) -> dict[str, NDArray[np.uint8]]:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (edge, edge, channels), dtype=np.uint8)
    mask = (image[..., 0] > 128).astype(np.uint8)
    return {"image": image, "mask": mask, "fov": mask.copy()}


def pixels(kind: Kind, *seeds: int) -> list[bytes]:
    """What four calls after each seed make of a patch."""
    augment = build_augmentation(kind).pixels
    made = []
    for seed in seeds:
        augment.set_random_seed(seed)
        made.append(b"".join(augment(**patch())["image"].tobytes() for _ in range(4)))
    return made


def tables(seed: int, count: int = 64, channels: int = 3) -> NDArray[np.uint8]:
    light = build_augmentation("full").light
    light.set_random_seed(seed)
    return light_tables(light, count, channels)


def pixels_elsewhere(queue: Any, augment: Any, seed: int) -> None:
    augment.set_random_seed(seed)
    queue.put(augment(**patch())["image"].tobytes())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_shapes_types_and_classes_are_kept(kind: Kind, channels: int) -> None:
    augment = build_augmentation(kind).pixels
    for seed in range(20):
        augment.set_random_seed(seed)
        made = augment(**patch(channels))
        assert made["image"].shape == (32, 32, channels)
        assert made["mask"].shape == made["fov"].shape == (32, 32)
        assert {made[key].dtype for key in made} == {np.dtype(np.uint8)}
        assert set(np.unique(made["mask"])) <= {0, 1}


@pytest.mark.parametrize("kind", KINDS)
def test_mask_and_field_of_view_move_alike(kind: Kind) -> None:
    augment = build_augmentation(kind).pixels
    for seed in range(20):
        augment.set_random_seed(seed)
        made = augment(**patch())
        assert (made["mask"] == made["fov"]).all()


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), channels=st.sampled_from([1, 3]), edge=st.integers(16, 50))
def test_patches_are_moved_as_albumentations_itself_would(
    seed: int, channels: int, edge: int
) -> None:
    own = build_augmentation("geometry").pixels
    steps = [albumentations.D4(p=1.0), albumentations.Affine(**TURN)]
    theirs = albumentations.Compose(steps, additional_targets={"fov": "mask"})
    for augment in (own, theirs):
        augment.set_random_seed(seed)
    for _ in range(4):
        made, expected = own(**patch(channels, edge)), theirs(**patch(channels, edge))
        for key in expected:
            np.testing.assert_array_equal(made[key], expected[key])


@pytest.mark.parametrize("name", SYMMETRIES)
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_each_symmetry_is_the_one_that_albumentations_calls_so(name: str, channels: int) -> None:
    image = patch(channels)["image"]
    made = SYMMETRIES[name](image).reshape(image.shape)
    np.testing.assert_array_equal(made, albumentations.D4().apply(image, name))


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), channels=st.sampled_from([1, 3]))
def test_a_patch_looked_up_in_a_table_is_the_patch_in_another_light(
    seed: int, channels: int
) -> None:
    image = patch(channels)["image"]
    light = build_augmentation("full").light
    light.set_random_seed(seed)
    for table in tables(seed, 4, channels):
        looked_up = np.take_along_axis(table, image.reshape(-1, channels), axis=0)
        np.testing.assert_array_equal(looked_up.reshape(image.shape), light(image=image)["image"])


def test_light_leaves_one_patch_in_six_alone_and_keeps_dark_below_bright() -> None:
    drawn = tables(seed=0, count=2000).astype(int)
    # Half, half and seven tenths leave the three changes out: 0.175; the deviation is 0.0085.
    unchanged = (drawn == np.arange(256)[:, None]).all(axis=(1, 2)).mean()
    assert 0.14 < unchanged < 0.21
    assert (np.diff(drawn, axis=1) >= 0).all()
    # A shift is drawn for each channel: three times in ten they differ.
    assert 0.26 < (drawn != drawn[..., :1]).any(axis=(1, 2)).mean() < 0.34


@pytest.mark.parametrize("kind", KINDS[:3])
def test_light_is_changed_by_the_full_augmentation_alone(kind: Kind) -> None:
    drawn = light_tables(build_augmentation(kind).light, 8, 3)
    assert (drawn == np.arange(256)[:, None]).all()


def test_grain_and_focus_are_changed_in_one_patch_of_four() -> None:
    # Of equal values blurring changes none and noise does: an eighth; the deviation is 0.0074.
    augment, grey = build_augmentation("full").pixels, np.full((16, 16, 3), 128, np.uint8)
    augment.set_random_seed(0)
    noisy = [augment(image=grey)["image"] for _ in range(2000)]
    spread = np.array([image.std() for image in noisy if (image != 128).any()])
    assert 0.10 < len(spread) / 2000 < 0.15
    assert 2 < spread.min() < spread.max() < 9  # 0.01 to 0.03 of 255


def test_flips_reach_the_eight_symmetries_and_move_the_mask_with_the_image() -> None:
    augment = build_augmentation("flips").pixels
    augment.set_random_seed(0)
    seen = set()
    for _ in range(100):
        made = augment(**patch())
        assert (made["mask"] == (made["image"][..., 0] > 128)).all()
        seen.add(made["image"].tobytes())
    assert len(seen) == 8


def test_no_augmentation_changes_nothing() -> None:
    made = build_augmentation("none").pixels(**patch())
    assert all((made[key] == value).all() for key, value in patch().items())


@pytest.mark.parametrize("kind", KINDS[1:])
def test_the_same_seed_gives_the_same_and_another_seed_another(kind: Kind) -> None:
    first, second, again = pixels(kind, 1, 2, 1)
    assert first == again
    assert first != second
    assert pixels(kind, 1) == [first]


def test_global_seeds_do_not_reach_it() -> None:
    expected, lights = pixels("full", 3), tables(3)
    np.random.seed(0)
    random.seed(0)
    assert pixels("full", 3) == expected
    assert (tables(3) == lights).all()
    assert (tables(4) != lights).any()


def test_forked_workers_differ_by_their_streams_alone() -> None:
    # albumentations 2.0.8 gives each fork the parent's generator: without a seed all would agree.
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    augment = build_augmentation("full").pixels
    made = []
    for seed in (1, 2, 1):
        worker = context.Process(target=pixels_elsewhere, args=(queue, augment, seed))
        worker.start()
        made.append(queue.get())
        worker.join()
    assert made[0] == made[2]
    assert made[0] != made[1]


@pytest.mark.parametrize("name", ["RandomGamma", "GaussianBlur"])
def test_an_argument_that_albumentations_does_not_know_is_an_error(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    known = getattr(albumentations, name)
    monkeypatch.setattr(albumentations, name, partial(known, no_such_argument=1))
    with (
        pytest.warns(UserWarning, match="no_such_argument"),
        pytest.raises(ValueError, match="no_such_argument"),
    ):
        build_augmentation("full")


def test_an_argument_that_affine_does_not_know_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(TURN, "no_such_argument", 1)
    with (
        pytest.warns(UserWarning, match="no_such_argument"),
        pytest.raises(ValueError, match="no_such_argument"),
    ):
        build_augmentation("geometry")


def test_opencv_starts_no_threads_of_its_own() -> None:
    cv2.setNumThreads(2)
    build_augmentation("none")
    # Zero means: in the calling thread; OpenCV then reports 1.
    assert cv2.getNumThreads() == 1
