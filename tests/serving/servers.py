"""Servers of tiny untrained networks, each a process of its own on a loopback port."""

import io
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image


@dataclass
class Server:
    """A running `r2search serve`."""

    url: str
    bundle: Path
    scratch: Path  # its temporary folder
    process: subprocess.Popen[str]
    errors: Path  # what it wrote to standard error

    def post(self, content: bytes, name: str = "a.png", **query: object) -> httpx.Response:
        """Send an image."""
        with self.client() as client:
            return client.post("/api/predict", params={"name": name, **query}, content=content)

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60, trust_env=False)

    def peak_bytes(self) -> int:
        """The most memory that it ever had, its readers of images not counted."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return 1024 * int(re.search(r"VmHWM:\s*(\d+)", status)[1])

    def left(self) -> list[Path]:
        """Uploads that stay on the disk: an answer is there a moment before its files are gone."""
        until = time.monotonic() + 10
        while found := list(self.scratch.glob("r2search-serve-*/*")):
            if time.monotonic() > until:
                break
            time.sleep(0.02)
        return found


@contextmanager
def serving(
    bundle: Path, errors: Path, *flags: str, ends: int = 143, first: str = "pass"
) -> Iterator[Server]:
    """`r2search serve` on a free port; it must end by `ends`, and have complained of nothing.

    The process executes `first` before all else, and complains into the file `errors`. Its
    temporary folder has a short name, as that of a socket must have.
    """
    code = f"import sys; {first}; from r2search.cli import main; sys.exit(main(sys.argv[1:]))"
    with tempfile.TemporaryDirectory(prefix="r2s-") as scratch:
        with errors.open("w") as complaints:
            process = subprocess.Popen(
                [sys.executable, "-c", code, "serve", bundle, "--port", "0", *flags],
                stdout=subprocess.PIPE,
                stderr=complaints,
                text=True,
                env=os.environ | {"TMPDIR": scratch},
            )
        try:
            assert process.stdout is not None
            found = re.search(r" is at (http\S+)/ ", process.stdout.readline())
            assert found, errors.read_text()
            yield Server(found[1], bundle, Path(scratch), process, errors)
        finally:
            process.terminate()
            process.communicate(timeout=60)
        assert errors.read_text() == ""
        assert process.returncode == ends
        assert list(Path(scratch).glob("r2search-*")) == []


def encoded(pixels: np.ndarray | Image.Image, kind: str = "PNG", **how: object) -> bytes:
    """An image file, in memory."""
    image = Image.fromarray(pixels) if isinstance(pixels, np.ndarray) else pixels
    buffer = io.BytesIO()
    image.save(buffer, kind, **how)
    return buffer.getvalue()


def noise(height: int = 40, width: int = 48, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


IMAGES: dict[str, Any] = {
    "metric": "dice_mean",
    "scores": [{"id": "07L", "value": 0.81}, {"id": "<b>08R</b>", "value": 0.7}],
    "shown": [
        {"file": "pictures/best.png", "caption": "The best validation image, 07L"},
        {"file": "pictures/worst.png", "caption": "The worst validation image, 08R"},
    ],
    "calibration": [],
}


def make_run(make_bundle: Callable[..., Path], run_dir: Path) -> Path:
    """A bundle, its study's summary, and one of the two pictures that it names, beside another."""
    make_bundle(run_dir)
    (run_dir / "pictures").mkdir()
    for name in ("best", "other"):
        (run_dir / "pictures" / f"{name}.png").write_bytes(encoded(noise()))
    (run_dir / "summary.json").write_text(json.dumps({"images": IMAGES}))
    return run_dir
