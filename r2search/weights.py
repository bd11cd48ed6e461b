"""Files of weights: safetensors, written whole and read strictly; nothing is executed."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from r2search.config import Misuse

WEIGHTS = "model.safetensors"  # of a trial, and of a bundle

HASH = "sha256"  # in the metadata of a safetensors file: of all else in it


def save_weights(path: Path, weights: Mapping[str, torch.Tensor], facts: dict[str, str]) -> None:
    """Write a safetensors file whole: a reader sees the old one or the new one, after any crash.

    A hash of all that is in it lies in the file.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        save_file(dict(weights), part, metadata=facts | {HASH: _content(weights, facts)})
        _sync(part)
        os.replace(part, path)
        _sync(path.parent)
    finally:
        part.unlink(missing_ok=True)


def read_weights(
    path: Path, *, verify: bool = True
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The tensors of a safetensors file, and the facts saved with them.

    Misuse when it is damaged. `verify=False` leaves the hash alone.
    """
    with _opened(path) as file:
        weights = {key: file.get_tensor(key) for key in file.keys()}
        facts: dict[str, str] = file.metadata() or {}
    expected = facts.pop(HASH, None)
    if verify and expected is not None and _content(weights, facts) != expected:
        raise Misuse(f"{path}: not intact (its content has changed); copy or export it again")
    return weights, facts


def read_facts(path: Path) -> dict[str, str]:
    """The facts saved with the tensors of a safetensors file; the tensors are not read."""
    with _opened(path) as file:
        return file.metadata() or {}


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except FileNotFoundError:
        raise Misuse(f"{path}: missing; export the bundle again") from None
    except (SafetensorError, OSError) as error:
        raise Misuse(f"{path}: not intact ({error}); copy or export it again") from None


def _content(weights: Mapping[str, torch.Tensor], facts: dict[str, str]) -> str:
    """SHA-256 of tensors and facts."""
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name in sorted(weights):
        value = weights[name].detach().cpu()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
