"""r2search finds the best network of the R2U-Net family that your hardware can train in time."""

from importlib import import_module
from typing import Any

# Lazy, so that importing one thing loads no more: predicting needs no Ray.
_PUBLIC = {
    "load_study": "r2search.space",
    "run_study": "r2search.study",
    "build_model": "r2search.models.unet",
    "load_bundle": "r2search.bundle",
    "predict": "r2search.bundle",
}
__all__ = ["build_model", "load_bundle", "load_study", "predict", "run_study"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'r2search' has no attribute {name!r}")
