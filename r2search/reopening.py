"""A study that has ended, opened again: what it found out, with its images."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from r2search.config import Misuse, Study
from r2search.data.samples import SampleSet
from r2search.finish import write_json
from r2search.records import RECORD, TrialOutcome
from r2search.space import load_study
from r2search.study import prepare
from r2search.tuning.events import read_confirmed, read_trials


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """A study that has ended with a network."""

    run_dir: Path
    study: Study
    samples: SampleSet
    trials: list[TrialOutcome]
    confirmed: list[TrialOutcome]  # the trainings of its confirmation
    summary: dict[str, Any]

    @property
    def data_facts(self) -> dict[str, Any]:
        """What the manifest of a bundle has under `data`."""
        data = {key: self.summary["data"][key] for key in ("reader", "fingerprint", "split")}
        data["seed"] = self.study.search.seed  # of the split
        return data | {"notes": self.summary["data"]["notes"], "channels": self.samples.channels}

    def amend(self, key: str, facts: dict[str, Any]) -> None:
        """Write what has come since into summary.json."""
        self.summary[key] = facts
        write_json(self.run_dir / "summary.json", self.summary)


def reopen(run_dir: Path) -> Ended:
    """Read a run folder, and the images that its study had.

    Misuse when there is no study that has ended with a network, or the images are others now.
    """
    for name in ("summary.json", "space.yaml", RECORD):
        if not (run_dir / name).is_file():
            raise Misuse(f"{run_dir}: holds no {name}; name the folder of a study that has ended")
    try:
        summary = json.loads((run_dir / "summary.json").read_text(encoding="utf-8"))
        trials, again = read_trials(run_dir / RECORD), read_confirmed(run_dir / RECORD)
        found, fingerprint = summary["incumbent"], summary["data"]["fingerprint"]
    except (ValueError, KeyError, TypeError) as error:
        raise Misuse(f"{run_dir}: its record is damaged ({error}); fetch it again") from None
    if not found:
        raise Misuse(f"{run_dir}: this study has found no network; give it more time by --resume")
    study, samples = prepare(load_study(run_dir / "space.yaml"))
    if samples.fingerprint != fingerprint:
        raise Misuse(f"{run_dir}: the images are not those that the study had; restore them")
    return Ended(
        run_dir=run_dir,
        study=study,
        samples=samples,
        trials=trials,
        confirmed=again,
        summary=summary,
    )
