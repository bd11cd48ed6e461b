"""The augmentation pipeline: what it keeps, and that its random numbers are ours."""

import multiprocessing
from functools import partial
from typing import Any, Literal

import albumentations
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from r2search.data.augment import build_augmentation

Kind = Literal["none", "flips", "geometry", "full"]
KINDS: tuple[Kind, ...] = ("none", "flips", "geometry", "full")


def patch(channels: int = 3, edge: int = 32) -> dict[str, NDArray[np.uint8]]:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (edge, edge, channels), dtype=np.uint8)
    mask = (image[..., 0] > 128).astype(np.uint8)
    return {"image": image, "mask": mask, "fov": mask.copy()}


def pixels(kind: Kind, *seeds: int) -> list[bytes]:
    """What four calls after each seed make of a patch."""
    augment = build_augmentation(kind)
    made = []
    for seed in seeds:
        augment.set_random_seed(seed)
        made.append(b"".join(augment(**patch())["image"].tobytes() for _ in range(4)))
    return made


def pixels_elsewhere(queue: Any, augment: Any, seed: int) -> None:
    augment.set_random_seed(seed)
    queue.put(augment(**patch())["image"].tobytes())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_shapes_types_and_classes_are_kept(kind: Kind, channels: int) -> None:
    augment = build_augmentation(kind)
    for seed in range(20):
        augment.set_random_seed(seed)
        made = augment(**patch(channels))
        assert made["image"].shape == (32, 32, channels)
        assert {made[key].dtype for key in made} == {np.dtype(np.uint8)}
        assert set(np.unique(made["mask"])) <= {0, 1}


@pytest.mark.parametrize("kind", KINDS)
def test_mask_and_field_of_view_move_alike(kind: Kind) -> None:
    augment = build_augmentation(kind)
    for seed in range(20):
        augment.set_random_seed(seed)
        made = augment(**patch())
        assert (made["mask"] == made["fov"]).all()


def test_flips_reach_the_eight_symmetries_and_move_the_mask_with_the_image() -> None:
    augment = build_augmentation("flips")
    augment.set_random_seed(0)
    seen = set()
    for _ in range(100):
        made = augment(**patch())
        assert (made["mask"] == (made["image"][..., 0] > 128)).all()
        seen.add(made["image"].tobytes())
    assert len(seen) == 8


def test_no_augmentation_changes_nothing() -> None:
    made = build_augmentation("none")(**patch())
    assert all((made[key] == value).all() for key, value in patch().items())


@pytest.mark.parametrize("kind", KINDS[1:])
def test_the_same_seed_gives_the_same_and_another_seed_another(kind: Kind) -> None:
    first, second, again = pixels(kind, 1, 2, 1)
    assert first == again
    assert first != second
    assert pixels(kind, 1) == [first]


def test_global_seeds_do_not_reach_it() -> None:
    expected = pixels("full", 3)
    np.random.seed(0)
    assert pixels("full", 3) == expected


def test_forked_workers_differ_by_their_streams_alone() -> None:
    # albumentations 2.0.8 gives each fork the parent's generator: without a seed all would agree.
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    augment = build_augmentation("full")
    made = []
    for seed in (1, 2, 1):
        worker = context.Process(target=pixels_elsewhere, args=(queue, augment, seed))
        worker.start()
        made.append(queue.get())
        worker.join()
    assert made[0] == made[2]
    assert made[0] != made[1]


def test_an_argument_that_albumentations_does_not_know_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(albumentations, "D4", partial(albumentations.D4, no_such_argument=1))
    with (
        pytest.warns(UserWarning, match="no_such_argument"),
        pytest.raises(ValueError, match="no_such_argument"),
    ):
        build_augmentation("flips")


def test_opencv_starts_no_threads_of_its_own() -> None:
    cv2.setNumThreads(2)
    build_augmentation("none")
    # Zero means: in the calling thread; OpenCV then reports 1.
    assert cv2.getNumThreads() == 1
