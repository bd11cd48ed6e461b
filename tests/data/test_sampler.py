"""Batches of training patches."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r2search.config import TrialConfig
from r2search.data.prefetch import prefetched
from r2search.data.prepare import fit_preparation
from r2search.data.sampler import PatchSampler
from r2search.data.samples import Sample


def config(seed: int = 0, **data: Any) -> TrialConfig:
    train = {key: data.pop(key) for key in ("batch_size", "epoch_pixels") if key in data}
    return TrialConfig.model_validate(
        {
            "data": {"patch_size": 16, "augmentation": "none", **data},
            "train": {"batch_size": 4, "epoch_pixels": 5000, **train},
            "seed": seed,
        }
    )


def sample(number: int = 0, height: int = 40, width: int = 50, view: float = 0.5) -> Sample:
    """Random pixels, read-only as they come from shared memory; the left part is in view."""
    rng = np.random.default_rng(number)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    mask = (image[..., 1] > 200).astype(np.uint8)
    fov = np.zeros((height, width), np.bool_)
    fov[:, : int(width * view)] = True
    for array in (image, mask, fov):
        array.flags.writeable = False
    return Sample(image=image, mask=mask, fov=fov, subject=f"s{number}", id=f"{number}")


def sampler_of(samples: list[Sample], config: TrialConfig) -> PatchSampler:
    return PatchSampler(samples, config, fit_preparation(config.data, samples))


def pixels(sampler: PatchSampler, epoch: int) -> bytes:
    return b"".join(part.tobytes() for batch in sampler.batches(epoch) for part in batch)


def test_a_batch_holds_arrays_as_the_network_takes_them() -> None:
    images, masks, fovs = next(sampler_of([sample()], config()).batches(1))
    assert images.shape == (4, 3, 16, 16)
    assert masks.shape == fovs.shape == (4, 16, 16)
    assert [part.dtype for part in (images, masks, fovs)] == [np.float32, np.uint8, np.bool_]
    # torch sees channels_last: a step to the next channel is a step to the next number.
    assert images.strides[1] == images.itemsize


def test_an_epoch_of_5000_pixels_is_20_patches_in_5_batches() -> None:
    # 5000 / 16^2 = 19.5, so 20 patches; 20 / 4 = 5 batches.
    sampler = sampler_of([sample()], config())
    assert (sampler.patches, sampler.steps) == (20, 5)
    assert [len(batch.images) for batch in sampler.batches(1)] == [4] * 5


def test_a_remainder_is_spread_over_the_batches() -> None:
    # 20 patches in batches of at most 6: 4 batches, of 5 each.
    sampler = sampler_of([sample()], config(batch_size=6))
    assert [len(batch.images) for batch in sampler.batches(1)] == [5, 5, 5, 5]


@settings(max_examples=25, deadline=None)
@given(st.integers(1000, 9000), st.integers(1, 40), st.integers(16, 40))
def test_every_config_sees_the_epochs_pixels_to_within_one_patch(
    epoch_pixels: int, batch_size: int, patch_size: int
) -> None:
    settings = config(epoch_pixels=epoch_pixels, batch_size=batch_size, patch_size=patch_size)
    sampler = sampler_of([sample()], settings)
    sizes = [len(batch.masks) for batch in sampler.batches(1)]
    assert len(sizes) == sampler.steps
    assert 0 <= sum(sizes) * patch_size**2 - epoch_pixels < patch_size**2
    assert 1 <= min(sizes) <= max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(
    "data",
    [
        {"standardize": "image"},
        {"standardize": "dataset"},
        {"standardize": "unit", "channels": "green"},
        {"resize": 32, "aspect": "stretch", "channels": "grey", "enhance": "clahe"},
    ],
)
def test_patches_are_cut_from_the_prepared_image(data: dict[str, Any]) -> None:
    samples, settings = [sample(0), sample(1)], config(**data)
    preparation = fit_preparation(settings.data, samples)
    sampler = PatchSampler(samples, settings, preparation)
    prepared = [preparation.sample(source) for source in samples]
    places = sampler.positions(1)
    made = [part for batch in sampler.batches(1) for part in zip(*batch, strict=True)]
    for (index, top, left), (image, mask, fov) in zip(places, made, strict=True):
        window = np.s_[top : top + 16, left : left + 16]
        whole, truth, view = prepared[index]
        standard = preparation.standardize(whole)
        np.testing.assert_array_equal(image.transpose(1, 2, 0), standard[window])
        np.testing.assert_array_equal(mask, truth[window])
        np.testing.assert_array_equal(fov, view[window])


def test_a_patch_is_no_larger_than_the_images_are_made() -> None:
    # 5000 / 32^2 = 4.9, so 5 patches.
    sampler = sampler_of([sample()], config(patch_size=48, resize=32))
    assert sampler.patches == 5
    assert {batch.masks.shape[1:] for batch in sampler.batches(1)} == {(32, 32)}


@pytest.mark.parametrize("channels", ["grey", "green"])
def test_one_channel_is_augmented_too(channels: str) -> None:
    sampler = sampler_of([sample()], config(channels=channels, augmentation="full"))
    for batch in sampler.batches(1):
        assert batch.images.shape == (4, 1, 16, 16)
        assert np.isfinite(batch.images).all()


@pytest.mark.parametrize("augmentation", ["none", "full"])
def test_the_same_config_and_epoch_give_the_same_batches(augmentation: str) -> None:
    samples = [sample(0), sample(1)]
    sampler = sampler_of(samples, config(augmentation=augmentation))
    first = pixels(sampler, 3)
    assert pixels(sampler, 3) == first
    assert pixels(sampler_of(samples, config(augmentation=augmentation)), 3) == first
    assert pixels(sampler, 4) != first
    assert pixels(sampler_of(samples, config(1, augmentation=augmentation)), 3) != first


def test_two_passes_at_a_time_do_not_disturb_each_other() -> None:
    sampler = sampler_of([sample()], config(augmentation="full"))
    expected = pixels(sampler, 1)
    pairs = list(zip(sampler.batches(1), sampler.batches(2), strict=True))
    assert b"".join(part.tobytes() for batch, _ in pairs for part in batch) == expected


@pytest.mark.parametrize("augmentation", ["none", "full"])
@pytest.mark.parametrize("start", [0, 1, 4, 5])
def test_an_epoch_taken_up_at_a_step_goes_on_with_the_same_batches(
    augmentation: str, start: int
) -> None:
    sampler = sampler_of([sample(0), sample(1)], config(augmentation=augmentation))
    whole = [[part.tobytes() for part in batch] for batch in sampler.batches(2)]
    rest = [[part.tobytes() for part in batch] for batch in sampler.batches(2, start)]
    assert rest == whole[start:]


def test_batches_made_ahead_are_the_same_batches() -> None:
    sampler = sampler_of([sample()], config(augmentation="full"))
    expected = pixels(sampler, 1)
    ahead = prefetched(sampler.batches(1))
    assert b"".join(part.tobytes() for batch in ahead for part in batch) == expected


@pytest.mark.parametrize("augmentation", ["flips", "geometry", "full"])
@pytest.mark.parametrize("channels", ["rgb", "grey"])
def test_image_mask_and_field_of_view_stay_on_each_other(augmentation: str, channels: str) -> None:
    # A bright disc is the foreground and the field of view: the three must show the same disc.
    rows, columns = np.mgrid[:90, :90]
    disc = ((rows - 40) ** 2 + (columns - 50) ** 2 < 28**2).astype(np.uint8)
    image = np.repeat((60 + 120 * disc)[:, :, None], 3, axis=2).astype(np.uint8)
    source = Sample(image=image, mask=disc, fov=disc.astype(np.bool_), subject="s", id="disc")
    settings = config(
        augmentation=augmentation, channels=channels, patch_size=48, epoch_pixels=48**2 * 100
    )
    for images, masks, fovs in sampler_of([source], settings).batches(1):
        np.testing.assert_array_equal(masks, fovs)
        for picture, mask in zip(images[:, 0], masks, strict=True):
            assert 0 < mask.mean() < 1
            halfway = (picture[mask == 1].mean() + picture[mask == 0].mean()) / 2
            # Interpolation leaves half a pixel along the edge of the disc undecided.
            assert ((picture > halfway) == mask).mean() > 0.95


def test_augmentation_changes_the_pixels_but_not_which_patches_are_drawn() -> None:
    plain = sampler_of([sample()], config())
    flipped = sampler_of([sample()], config(augmentation="flips"))
    assert pixels(plain, 1) != pixels(flipped, 1)
    for before, after in zip(plain.batches(1), flipped.batches(1), strict=True):
        # A flip moves the pixels of a patch and leaves their values.
        np.testing.assert_array_equal(
            np.sort(before.images.reshape(-1, 3 * 16 * 16), axis=1),
            np.sort(after.images.reshape(-1, 3 * 16 * 16), axis=1),
        )


def test_augmentation_differs_from_batch_to_batch_and_epoch_to_epoch() -> None:
    # One possible position: only the augmentation can make patches differ.
    source = sample(height=16, width=16)
    sampler = sampler_of([source], config(augmentation="full", batch_size=1))
    seen = {batch.images.tobytes() for epoch in (1, 2) for batch in sampler.batches(epoch)}
    # 40 patches; those left alone but for one of 8 flips may coincide.
    assert len(seen) > 20


def test_every_patch_has_a_pixel_in_the_field_of_view() -> None:
    # The right half of the image is out of view; a patch there is drawn again.
    source = sample(width=200)
    sampler = sampler_of([source], config(epoch_pixels=50_000))
    assert all(batch.fovs.any(axis=(1, 2)).all() for batch in sampler.batches(1))


def test_an_image_without_a_field_of_view_ends_the_search_for_one() -> None:
    blind = Sample(
        image=np.zeros((20, 20, 3), np.uint8),
        mask=np.zeros((20, 20), np.uint8),
        fov=np.zeros((20, 20), np.bool_),
        subject="s",
        id="blind",
    )
    assert not next(sampler_of([blind], config()).batches(1)).fovs.any()


def test_images_are_drawn_by_their_area() -> None:
    # Areas 32 x 32 and 32 x 96: one patch in four is of the first.
    samples = [sample(0, 32, 32, view=1.0), sample(1, 32, 96, view=1.0)]
    drawn = sampler_of(samples, config(epoch_pixels=512_000)).positions(1)[:, 0]
    assert 0.2 < (drawn == 0).mean() < 0.3  # 2000 patches: the deviation is 0.01


def test_a_small_image_is_reflected_and_its_padding_is_out_of_view() -> None:
    source = sample(height=10, width=30)
    images, masks, fovs = next(sampler_of([source], config()).batches(1))
    # Rows 0..9 are the image; row 10 mirrors row 8, row 11 row 7, ...
    np.testing.assert_array_equal(images[:, :, 10:16], images[:, :, 8:2:-1])
    np.testing.assert_array_equal(masks[:, 10:16], masks[:, 8:2:-1])
    assert fovs[:, :10].any()
    assert not fovs[:, 10:].any()


@pytest.mark.parametrize("augmentation", ["none", "flips", "geometry", "full"])
def test_shared_images_are_neither_changed_nor_handed_out(augmentation: str) -> None:
    source = sample(height=16, width=16)  # a patch is the whole image: nothing to cut
    before = source.image.copy()
    sampler = sampler_of([source], config(augmentation=augmentation, epoch_pixels=50_000))
    for batch in sampler.batches(1):
        assert all(part.flags.writeable for part in batch)
        assert not np.shares_memory(batch.masks, source.mask)
    assert (source.image == before).all()
