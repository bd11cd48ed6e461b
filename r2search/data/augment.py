"""Random changes of training patches, from albumentations, by an explicit seed."""

import os
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

# What `albumentations.Affine` is asked for: turned and scaled, every second patch.
TURN: dict[str, Any] = {
    "scale": (0.8, 1.25),
    "rotate": (-45, 45),
    "interpolation": cv2.INTER_LINEAR,
    "mask_interpolation": cv2.INTER_NEAREST,
    "border_mode": cv2.BORDER_REFLECT_101,
    "p": 0.5,
}


class Augmentation(NamedTuple):
    """Two `albumentations.Compose`, the second of changes that see one grey level at a time.

    Call `set_random_seed` before use, and again wherever a new stream begins: global seeds do not
    reach them, and a copy in another process would repeat its numbers.
    """

    pixels: Any  # of uint8 `image` (P, P, C), `mask` and `fov` (P, P)
    light: Any  # of uint8 `image` alone: each grey level of a channel becomes another


def build_augmentation(kind: Literal["none", "flips", "geometry", "full"]) -> Augmentation:
    """Each kind holds the one before it.

    `flips` are the eight symmetries of a square, `geometry` also turns and scales, `full` also
    changes focus and grain (in `pixels`), then light and colour (in `light`).
    """
    # Set before the import, which else asks the network for a newer version.
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations as A

    # OpenCV's own threads win nothing on a patch, take cores from the training beside, and do
    # not survive a fork.
    cv2.setNumThreads(0)
    symmetry, affine = _moved_by_opencv(A)
    flips = [symmetry(p=1.0)]
    geometry = [*flips, affine(**TURN)]
    grain = A.GaussNoise(std_range=(0.01, 0.03))
    focus = A.GaussianBlur(blur_limit=0, sigma_limit=(0.3, 0.8))
    full = [*geometry, A.OneOf([grain, focus], p=0.25)]
    shift: dict[str, Any] = {"ranges": [(-0.06, 0.06)]}  # of the full scale, a channel each
    light = [
        A.RandomBrightnessContrast(brightness_limit=0.2, contrast_limit=0.2, p=0.5),
        A.RandomGamma(gamma_limit=(75, 130), p=0.5),
        A.AdditiveNoise(noise_type="uniform", spatial_mode="constant", noise_params=shift, p=0.3),
    ]
    steps = {"none": [], "flips": flips, "geometry": geometry, "full": full}[kind]
    # Not strict, it only warns of an argument it does not know and goes on with its own.
    return Augmentation(
        pixels=A.Compose(steps, additional_targets={"fov": "mask"}, strict=True),
        light=A.Compose(light if kind == "full" else [], strict=True),
    )


def light_tables(light: Any, count: int, channels: int) -> NDArray[np.uint8]:
    """What `Augmentation.light` makes of every grey level, drawn `count` times: (count, 256, C).

    A patch looked up in one of them is the patch that `light` would make, at a part of the cost.
    """
    levels = np.arange(256, dtype=np.uint8).reshape(256, 1, 1)
    ramp = np.repeat(levels, channels, axis=2)
    return np.concatenate([light(image=ramp)["image"] for _ in range(count)], axis=1).swapaxes(0, 1)


SYMMETRIES: dict[str, Callable[[Any], Any]] = {  # by the names of albumentations
    "e": lambda image: image,
    "r90": lambda image: cv2.rotate(image, cv2.ROTATE_90_COUNTERCLOCKWISE),
    "r180": lambda image: cv2.rotate(image, cv2.ROTATE_180),
    "r270": lambda image: cv2.rotate(image, cv2.ROTATE_90_CLOCKWISE),
    "v": lambda image: cv2.flip(image, 0),
    "h": lambda image: cv2.flip(image, 1),
    "t": cv2.transpose,
    "hvt": lambda image: cv2.flip(cv2.transpose(image), -1),
}


def _moved_by_opencv(A: Any) -> tuple[Any, Any]:
    """D4 and Affine of albumentations, drawn by it, the pixels moved by OpenCV alone.

    The results are its own. What it does around the moving (views copied by numpy, matrices
    compared) took longer than all other augmentation together.
    """

    class D4(A.D4):  # type: ignore[misc]
        def apply(self, img: Any, group_element: str, **_: Any) -> Any:
            return SYMMETRIES[group_element](img).reshape(img.shape)

    class Affine(A.Affine):  # type: ignore[misc]
        def apply(self, img: Any, matrix: Any, **_: Any) -> Any:
            return _warp(img, matrix, self.interpolation)

        def apply_to_mask(self, mask: Any, matrix: Any, **_: Any) -> Any:
            return _warp(mask, matrix, self.mask_interpolation)

    return D4, Affine


def _warp(image: Any, matrix: Any, interpolation: int) -> Any:
    size, border = image.shape[1::-1], TURN["border_mode"]
    moved = cv2.warpAffine(image, matrix[:2], size, flags=interpolation, borderMode=border)
    return moved.reshape(image.shape)  # OpenCV drops the axis of a single channel
