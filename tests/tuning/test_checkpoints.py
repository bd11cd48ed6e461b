"""What a running trial leaves on disk, and what of it can be taken up after any damage."""

import json
import os
import pickle
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from r2search.train.trainer import TrainingState
from r2search.tuning.checkpoints import Best, TrialCheckpoints, weights_by_epoch, weights_path
from r2search.weights import read_weights, save_weights

METRIC = "val/dice_mean"
SETTINGS = {"config": {"model": {"depth": 1}, "train": {"lr": 0.1}}, "planned_epochs": 9}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "t0001"


def opened(folder: Path, **changes: Any) -> TrialCheckpoints:
    return TrialCheckpoints(folder, SETTINGS | changes, METRIC)


def best_of(epoch: int) -> Best:
    return Best(epoch, epoch / 10, {"head.weight": torch.full((2, 3), float(epoch))})


def state_of(epoch: int) -> TrainingState:
    tensors = {"model.head.weight": torch.full((2, 3), epoch + 0.5), "random": torch.arange(4)}
    return TrainingState(tensors, {"epoch": epoch, "plateau": {"best": None, "factor": 0.5}})


def save(folder: Path, *epochs: int) -> None:
    """States of several epochs, each the best so far, by one worker."""
    checkpoints = opened(folder)
    for epoch in epochs:
        checkpoints.keep(best_of(epoch))
        checkpoints.confirm()
        checkpoints.save(state_of(epoch))
    checkpoints.close()
    assert checkpoints.problems == []


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def states(folder: Path) -> list[Path]:
    return sorted(folder.glob("state-*"))


@contextmanager
def full_disk() -> Iterator[None]:
    """No file of this process may grow beyond 100 bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_state_is_read_back_as_it_was_written(folder: Path) -> None:
    writer, reports = opened(folder), [{"epoch": 4, "metrics": {METRIC: 0.4}}]
    writer.keep(best_of(3))
    writer.save(state_of(4), reports)
    writer.close()
    reader = opened(folder)
    saved = reader.load()
    assert saved is not None
    assert saved.training.values == state_of(4).values
    assert list(saved.training.tensors) == list(state_of(4).tensors)
    for name, tensor in state_of(4).tensors.items():
        assert torch.equal(saved.training.tensors[name], tensor)
    assert saved.reports == reports
    assert saved.best is reader.best
    assert (saved.best.epoch, saved.best.value) == (3, 0.3) if saved.best else False
    assert reader.problems == []


def test_a_trial_that_saved_nothing_begins_anew(folder: Path) -> None:
    assert opened(folder).load() is None
    assert not folder.exists()


def test_the_two_newest_states_are_kept_and_the_weights_of_the_best_epoch(folder: Path) -> None:
    save(folder, 1, 2, 3)
    save(folder, 4)  # another worker counts on
    expected = ["epoch-0004.safetensors", "state-0003.safetensors", "state-0004.safetensors"]
    assert set(expected) <= set(names(folder))
    assert len(states(folder)) == 2


def flip(path: Path) -> None:
    """Change one bit of a tensor's values."""
    data = bytearray(path.read_bytes())
    data[-3] ^= 4
    path.write_bytes(data)


def change_facts(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data.replace(b'planned_epochs\\": 9', b'planned_epochs\\": 8'))
    assert path.read_bytes() != data


DAMAGES: dict[str, Callable[[Path], None]] = {
    "a bit": flip,
    "facts": change_facts,
    "cut": lambda path: os.truncate(path, path.stat().st_size // 2),
    "empty": lambda path: os.truncate(path, 0),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_state_is_passed_over_with_a_warning(folder: Path, damage: str) -> None:
    save(folder, 1, 2)
    DAMAGES[damage](states(folder)[-1])
    reader = opened(folder)
    saved = reader.load()
    assert saved is not None
    assert saved.training.values["epoch"] == 1
    (problem,) = reader.problems
    assert "state-0002.safetensors: not intact" in problem


def test_with_every_state_damaged_the_trial_begins_anew(folder: Path) -> None:
    save(folder, 1, 2)
    for path in states(folder):
        flip(path)
    reader = opened(folder)
    assert reader.load() is None
    assert len(reader.problems) == 2


def test_a_state_made_with_other_settings_is_ignored_with_a_warning(folder: Path) -> None:
    save(folder, 1)
    reader = opened(folder, planned_epochs=8)
    assert reader.load() is None
    assert "made with other settings" in reader.problems[0]


def test_a_pickle_in_the_folder_is_never_loaded(folder: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(folder / "executed"),)

    save(folder, 1)
    (folder / "state-9999.safetensors").write_bytes(pickle.dumps(Hostile()))
    torch.save(Hostile(), folder / "state-9998.safetensors")
    saved = opened(folder).load()
    assert saved is not None
    assert saved.training.values["epoch"] == 1
    assert not (folder / "executed").exists()


def test_the_best_and_the_best_before_it_are_kept_until_the_report_has_arrived(
    folder: Path,
) -> None:
    checkpoints = opened(folder)
    checkpoints.keep(best_of(2))
    checkpoints.confirm()
    checkpoints.keep(best_of(3))  # whether its report arrives is open
    checkpoints.save_best()
    checkpoints.flush()
    assert names(folder) == ["epoch-0002.safetensors", "epoch-0003.safetensors"]
    checkpoints.confirm()
    checkpoints.close()
    assert names(folder) == ["epoch-0003.safetensors"]


def test_weights_in_memory_are_written_once(folder: Path) -> None:
    checkpoints = opened(folder)
    checkpoints.keep(best_of(2))
    checkpoints.confirm()
    checkpoints.save_best()
    checkpoints.flush()
    before = weights_path(folder, 2).stat().st_ino
    checkpoints.save(state_of(3))
    checkpoints.close()
    assert weights_path(folder, 2).stat().st_ino == before
    _, facts = read_weights(weights_path(folder, 2))
    assert facts == {"trial": "t0001", "epoch": "2", METRIC: "0.2"}


def test_a_trial_that_is_over_writes_nothing_any_more(folder: Path) -> None:
    checkpoints = opened(folder)
    checkpoints.keep(best_of(1))
    checkpoints.forget()
    checkpoints.save_best()
    checkpoints.close()
    assert not folder.exists()


def test_a_state_is_due_after_its_time_and_when_the_last_one_is_written(folder: Path) -> None:
    assert not TrialCheckpoints(folder, SETTINGS, METRIC, every_s=3600).due()
    checkpoints = TrialCheckpoints(folder, SETTINGS, METRIC, every_s=0)
    assert checkpoints.due()
    checkpoints.save(state_of(1))
    checkpoints.flush()
    assert checkpoints.due()
    checkpoints.close()


def test_a_write_that_fails_is_told_leaves_nothing_torn_and_is_tried_again(folder: Path) -> None:
    save(folder, 1)
    before = {name: (folder / name).read_bytes() for name in names(folder)}
    checkpoints = opened(folder)
    assert checkpoints.load() is not None
    checkpoints.keep(best_of(2))
    checkpoints.confirm()
    with full_disk():
        checkpoints.save(state_of(2))
        checkpoints.flush()
    assert {name: (folder / name).read_bytes() for name in names(folder)} == before
    (told,) = checkpoints.problems  # of the weights; of the state it is the same
    assert told.startswith("checkpoint not written: ")
    checkpoints.save(state_of(2))
    checkpoints.close()
    assert len(checkpoints.problems) == 1
    assert names(folder) == [
        "epoch-0002.safetensors",
        "state-0001.safetensors",
        "state-0002.safetensors",
    ]


def test_a_file_of_a_worker_that_was_killed_while_writing_is_removed(folder: Path) -> None:
    save(folder, 1)
    (folder / ".state-0002.safetensors.99.part").write_bytes(b"half")
    assert opened(folder).load() is not None
    assert not list(folder.glob(".*"))


def test_the_weights_of_a_folder_are_found_by_their_epoch(folder: Path) -> None:
    save(folder, 7)
    save_weights(folder / "model.safetensors", best_of(5).weights, {"epoch": "5"})
    (folder / "epoch-0009.safetensors").write_bytes(b"no file of ours")
    found = {epoch: path.name for epoch, path in weights_by_epoch(folder).items()}
    assert found == {5: "model.safetensors", 7: "epoch-0007.safetensors"}
    assert weights_by_epoch(folder.parent / "gone") == {}


def test_a_state_holds_json_and_tensors_only(folder: Path) -> None:
    save(folder, 1)
    tensors, facts = read_weights(states(folder)[0])
    assert set(tensors) == {"best.head.weight", "model.head.weight", "random"}
    assert set(json.loads(facts["state"])) == {"format", "settings", "training", "best", "reports"}
