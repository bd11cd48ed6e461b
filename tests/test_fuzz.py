"""Damaged and invented files: whatever is in them, the answer is a result or a Misuse."""

import io
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nibabel
import numpy as np
import pytest
import tifffile
import torch
import yaml
from ct_files import draw_volume, write_dicom
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from r2search.bundle import load_bundle
from r2search.config import DataConfig, Misuse
from r2search.data.readers.images import read_image, read_mask
from r2search.data.readers.large import LargeTiff
from r2search.data.readers.volumes import read_nifti, read_picture
from r2search.manifest import CONFIG
from r2search.space import load_study
from r2search.weights import WEIGHTS, read_facts, read_weights, save_weights

ROOT = Path(__file__).parents[1]
# pydicom remarks on values that it reads all the same.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

Make = Callable[..., Path]

# 20,000 inputs in all; the same ones at every run, so that a failure stays one.
IMAGES, TIFFS, SLICES, VOLUMES = 9000, 2000, 1000, 1000
WEIGHTS_FILES, BUNDLES, SPACES, SHIPPED = 5900, 500, 500, 150


def fuzzed(inputs: int) -> Callable[[Any], Any]:
    return settings(
        max_examples=inputs,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def test_there_are_twenty_thousand_inputs() -> None:
    every = IMAGES, TIFFS, SLICES, VOLUMES, WEIGHTS_FILES, BUNDLES, SPACES, SHIPPED
    assert sum(every) >= 20_000


# What is done to a file, as bytes, which are cheap to draw: the first two cut it or do not, then
# come two for a place, mostly near the beginning, and one for what stands there from now on.
DAMAGE = st.binary(min_size=2, max_size=17)


def damaged(whole: bytes, damage: bytes) -> bytes:
    data = bytearray(whole)
    for high, low, new in zip(damage[2::3], damage[3::3], damage[4::3], strict=False):
        data[(low if high < 128 else high % 128 * 256 + low) % len(data)] = new
    cut = int.from_bytes(damage[:2], "big")
    return bytes(data if cut < 1 << 15 else data[: cut % len(data)])


def allowed(read: Callable[..., object], path: Path, *rest: Any) -> None:
    """Read a file: it is read, or a Misuse names it in one sentence."""
    said = refusal(read, path, *rest)
    assert said is None or (str(path) in said and len(said.splitlines()) == 1), said


def refusal(read: Callable[..., object], path: Path, *rest: Any) -> str | None:
    try:
        read(path, *rest)
    except Misuse as error:
        return str(error)
    return None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


# Pictures


@cache
def pictures() -> dict[str, bytes]:
    """Small whole pictures of every kind, by suffix and way of storing them."""
    rgb = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 11, 3), np.uint8))
    found = {}
    for kind in KINDS:
        form, mode = kind.split()
        picture = rgb.convert("L").convert(mode) if mode == "I;16" else rgb.convert(mode)
        file = io.BytesIO()
        picture.save(file, form)
        found[kind] = file.getvalue()
    return found


KINDS = (
    *(f"png {mode}" for mode in ("RGB", "L", "P", "1", "I;16", "RGBA", "LA")),
    *(f"jpeg {mode}" for mode in ("RGB", "L", "CMYK")),
    *("gif P", "bmp RGB", "ppm RGB", "ppm L", "webp RGB"),
)


@fuzzed(IMAGES)
@given(kind=st.sampled_from(KINDS), damage=DAMAGE, how=st.sampled_from(["rgb", "grey", "mask"]))
def test_a_damaged_picture_is_read_or_refused(
    folder: Path, kind: str, damage: bytes, how: str
) -> None:
    path = folder / f"a.{kind.split()[0]}"
    path.write_bytes(damaged(pictures()[kind], damage))
    allowed(*((read_mask, path) if how == "mask" else (read_image, path, how)))


@cache
def tiffs() -> dict[str, bytes]:
    """Small whole TIFF files, by how they are stored."""
    pixels = np.random.default_rng(0).integers(0, 256, (40, 35, 3), np.uint8)
    ways: dict[str, dict[str, Any]] = {
        "plain": {},
        "strips": {"rowsperstrip": 7, "compression": "zlib", "predictor": True},
        "tiles": {"tile": (16, 16), "compression": "lzw"},
        "JPEG": {"tile": (16, 16), "compression": "jpeg"},
        "large offsets": {"bigtiff": True, "tile": (16, 32)},
    }
    found = {}
    for name, how in ways.items():
        file = io.BytesIO()
        tifffile.imwrite(file, pixels, photometric="rgb", **how)
        found[name] = file.getvalue()
    return found


def by_rows(path: Path) -> None:
    with LargeTiff(path, "rgb") as rows:
        for first in range(0, min(rows.shape[0], 50), 13):
            if rows.shape[1] < 1000:
                rows[first : first + 13]


@fuzzed(TIFFS)
@given(kind=st.sampled_from(sorted(tiffs())), damage=DAMAGE, rows=st.booleans())
def test_a_damaged_tiff_is_read_or_refused(
    folder: Path, kind: str, damage: bytes, rows: bool
) -> None:
    path = folder / "a.tif"
    path.write_bytes(damaged(tiffs()[kind], damage))
    allowed(by_rows, path) if rows else allowed(read_image, path, "rgb")


# Slices and volumes

VALUES = draw_volume(0)[0][:, :9, :11]


@cache
def a_slice() -> bytes:
    with TemporaryDirectory() as folder:
        return write_dicom(Path(folder) / "a.dcm", VALUES[0]).read_bytes()


@fuzzed(SLICES)
@given(damage=DAMAGE)
def test_a_damaged_slice_is_read_or_refused(folder: Path, damage: bytes) -> None:
    path = folder / "a.dcm"
    path.write_bytes(damaged(a_slice(), damage))
    allowed(read_picture, path, DataConfig(channels="grey"))


@cache
def a_volume(suffix: str) -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"a{suffix}"
        nibabel.save(nibabel.Nifti1Image(VALUES.astype(np.int16), np.eye(4)), path)
        return path.read_bytes()


@fuzzed(VOLUMES)
@given(suffix=st.sampled_from([".nii", ".nii.gz"]), damage=DAMAGE)
def test_a_damaged_volume_is_read_or_refused(folder: Path, suffix: str, damage: bytes) -> None:
    path = folder / f"a{suffix}"
    path.write_bytes(damaged(a_volume(suffix), damage))
    allowed(read_nifti, path)


# Bundles


@cache
def some_weights() -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder) / WEIGHTS
        save_weights(path, {"a": torch.ones(2, 3), "b": torch.zeros(4)}, {"epoch": "3"})
        return path.read_bytes()


@fuzzed(WEIGHTS_FILES)
@given(damage=DAMAGE, verify=st.booleans())
def test_damaged_weights_are_read_or_refused(folder: Path, damage: bytes, verify: bool) -> None:
    path = folder / WEIGHTS
    path.write_bytes(damaged(some_weights(), damage))
    allowed(lambda path: read_weights(path, verify=verify), path)
    allowed(read_facts, path)


@pytest.fixture(scope="module")
def bundle_dir(tmp_path_factory: pytest.TempPathFactory, make_bundle: Make) -> Path:
    return make_bundle(tmp_path_factory.mktemp("run"))


WORDS = st.one_of(
    st.sampled_from(["[", "]", "{", "}", "- ", "&a", "*a", "!!", "? ", ": ", "\t", "|", "%", "\0"]),
    st.sampled_from(
        ["null", "1e999", ".nan", "-1", "9" * 30, "!!python/name:os.system", "1_0", "~"]
    ),
    st.text(max_size=6),
)


def rewritten(text: str, edits: list[tuple[int, int, str]]) -> str:
    """A text some of whose lines have other words from some column on."""
    lines = text.splitlines()
    for line, column, new in edits:
        old = lines[line % len(lines)]
        lines[line % len(lines)] = old[: column % (len(old) + 1)] + new
    return "\n".join(lines)


EDITS = st.lists(st.tuples(st.integers(0, 200), st.integers(0, 30), WORDS), min_size=1, max_size=3)


@fuzzed(BUNDLES)
@given(edits=EDITS)
def test_a_bundle_with_other_settings_is_loaded_or_refused(
    bundle_dir: Path, whole_config: str, edits: list[tuple[int, int, str]]
) -> None:
    path = bundle_dir / CONFIG
    path.write_text(rewritten(whole_config, edits), encoding="utf-8")
    allowed_bundle(bundle_dir)


@pytest.fixture(scope="module")
def whole_config(bundle_dir: Path) -> str:
    return (bundle_dir / CONFIG).read_text(encoding="utf-8")


def allowed_bundle(folder: Path) -> None:
    allowed(load_bundle, folder)


# Space files

PLAIN = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-9, 9), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)
KEYS = st.sampled_from(
    "name data metric budget search resources early_terminate confirm parameters baselines".split()
)


@fuzzed(SPACES)
@given(tree=st.dictionaries(KEYS, PLAIN, max_size=3))
def test_an_invented_space_is_read_or_refused(folder: Path, tree: dict[str, Any]) -> None:
    path = folder / "invented.yaml"
    path.write_text(yaml.safe_dump({"name": "a"} | tree), encoding="utf-8")
    allowed_space(path)


@fuzzed(SHIPPED)
@given(edits=EDITS)
def test_a_rewritten_space_is_read_or_refused(
    folder: Path, edits: list[tuple[int, int, str]]
) -> None:
    whole = (ROOT / "search_spaces" / "quick.yaml").read_text(encoding="utf-8")
    path = folder / "rewritten.yaml"
    path.write_text(rewritten(whole, edits), encoding="utf-8")
    allowed_space(path)


def allowed_space(path: Path) -> None:
    """All that is wrong is said at once, a line each."""
    said = refusal(load_study, path)
    assert said is None or path.name in said, said
