"""Random changes of a training patch, from albumentations, by an explicit seed."""

import os
from typing import Any, Literal


def build_augmentation(kind: Literal["none", "flips", "geometry", "full"]) -> Any:
    """An `albumentations.Compose`, called with uint8 `image` (P, P, C), `mask` and `fov` (P, P).

    Each kind holds the one before it: `flips` are the eight symmetries of a square, `geometry`
    also turns and scales, `full` also changes light, colour, grain and focus. Call
    `set_random_seed` before use, and again wherever a new stream begins: global seeds do not
    reach it, and a copy in another process would repeat its numbers.
    """
    # Set before the import, which else asks the network for a newer version.
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations as A
    import cv2

    # OpenCV's own threads win nothing on a patch, take cores from the training beside, and do
    # not survive a fork.
    cv2.setNumThreads(0)
    flips = [A.D4(p=1.0)]
    geometry = [
        *flips,
        A.Affine(
            scale=(0.8, 1.25),
            rotate=(-45, 45),
            interpolation=cv2.INTER_LINEAR,
            mask_interpolation=cv2.INTER_NEAREST,
            border_mode=cv2.BORDER_REFLECT_101,
            p=0.5,
        ),
    ]
    shift: dict[str, Any] = {"ranges": [(-0.06, 0.06)]}  # of the full scale, a channel each
    full = [
        *geometry,
        A.RandomBrightnessContrast(brightness_limit=0.2, contrast_limit=0.2, p=0.5),
        A.RandomGamma(gamma_limit=(75, 130), p=0.5),
        A.AdditiveNoise(noise_type="uniform", spatial_mode="constant", noise_params=shift, p=0.3),
        A.OneOf(
            [
                A.GaussNoise(std_range=(0.01, 0.03)),
                A.GaussianBlur(blur_limit=0, sigma_limit=(0.3, 0.8)),
            ],
            p=0.25,
        ),
    ]
    steps = {"none": [], "flips": flips, "geometry": geometry, "full": full}[kind]
    # Not strict, it only warns of an argument it does not know and goes on with its own.
    return A.Compose(steps, additional_targets={"fov": "mask"}, strict=True)
