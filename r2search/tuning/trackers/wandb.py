"""Weights & Biases: one run a trial, in one group. The search only enqueues.

A thread of ours owns the SDK, so that a slow or dead server costs the search nothing. Offline is
the default: the runs lie in the run folder and `wandb sync` uploads them later.
"""

import base64
import json
import logging
import os
import queue
import re
import threading
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal
from urllib.error import HTTPError

from r2search.config import Study
from r2search.records import EpochReport, TrialOutcome

Mode = Literal["offline", "online"]

CLOSE_TIMEOUT = 60.0  # seconds that a study waits at its end for the tracker
ANSWER_TIMEOUT = 3.0  # seconds that the server has to answer before the search

log = logging.getLogger(__name__)


def choose_mode(asked: Mode) -> tuple[Mode, str]:
    """The mode to track in, and why it is not the one that was asked for ("" when it is).

    Online needs a login and a server that answers. Both are seen to before the first run: one
    that fails to go online blocks for 15 s, and cannot go offline in the same process.
    """
    if asked == "offline":
        return asked, ""
    try:
        from wandb.errors import Error
        from wandb.sdk import wandb_setup
        from wandb.sdk.lib import wbauth
    except ImportError as error:
        return "offline", f"wandb cannot be imported ({error}); install r2search[search]"
    try:
        url = wandb_setup.singleton().settings.base_url
        # From the environment, .netrc or wandb's settings; asks neither a person nor the network.
        login = wbauth.authenticate_session(
            host=url, source="r2search", prompt=False, update_session=False
        )
    except (Error, ValueError) as error:
        return "offline", f"the W&B login is not valid ({_one_line(error)})"
    key = getattr(login, "api_key", None)
    if key is None:
        return "offline", f"no W&B login for {url} is known; run `wandb login`"
    obstacle = _obstacle(url, key)
    return ("offline", f"W&B at {url} {obstacle}") if obstacle else ("online", "")


def _obstacle(url: str, key: str) -> str:
    """Ask the server who we are: why it cannot be used, "" if it can."""
    token = base64.b64encode(f"api:{key}".encode()).decode()
    request = urllib.request.Request(
        f"{url.rstrip('/')}/graphql",
        data=json.dumps({"query": "query Viewer { viewer { id } }"}).encode(),
        headers={"Content-Type": "application/json", "Authorization": f"Basic {token}"},
    )
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_TIMEOUT) as response:
            viewer = json.load(response)["data"]["viewer"]
    except HTTPError as error:
        refused = error.code in (401, 403)
        return "refuses the login; run `wandb login`" if refused else f"answers {error.code}"
    except (OSError, ValueError, LookupError, TypeError) as error:
        return f"does not answer as it should ({_one_line(error)})"
    return "" if viewer else "refuses the login; run `wandb login`"


class WandbTracker:
    """Implements `Tracker` by the wandb SDK."""

    def __init__(self, study: Study, run_dir: Path, mode: Mode) -> None:
        self._study = study
        self._dir = run_dir.resolve() / "wandb"
        self._dir.mkdir(parents=True, exist_ok=True)
        self._group = run_dir.resolve().name
        self._mode = mode
        self._runs: dict[str, Any] = {}  # touched by the thread alone
        self._used = False
        self.failures = 0  # calls of the SDK that raised; read after close
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="wandb", daemon=True)
        self._thread.start()

    def start(self, trial: TrialOutcome) -> None:
        past = list(trial.reports) if self._mode == "offline" else []  # a server has them
        self._jobs.put(lambda: self._start(trial))
        for report in past:
            self.report(trial.trial, report)

    def report(self, trial: str, report: EpochReport) -> None:
        self._jobs.put(lambda: self._report(trial, report))

    def end(self, trial: TrialOutcome) -> None:
        self._jobs.put(lambda: self._end(trial))

    def close(self) -> None:
        self._jobs.put(None)
        self._thread.join(CLOSE_TIMEOUT)
        if self._thread.is_alive():
            log.warning("wandb did not finish in %.0f s; the study goes on", CLOSE_TIMEOUT)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._attempt(job)
        for run in self._runs.values():
            self._attempt(partial(run.finish, exit_code=1))
        if self._used:
            self._attempt(lambda: _import_wandb(self._dir).teardown())

    def _attempt(self, job: Callable[[], None]) -> None:
        try:
            job()
        except Exception as error:
            self.failures += 1
            log.warning("wandb: %s; the search goes on", _one_line(error))

    def _start(self, trial: TrialOutcome) -> None:
        wandb = _import_wandb(self._dir)
        self._used = True
        run = wandb.init(
            id=re.sub(r"[^A-Za-z0-9_.-]", "-", f"{self._group}-{trial.trial}"),
            name=trial.trial,
            project="r2search",
            group=self._group,
            job_type="baseline" if trial.baseline else "trial",
            config=trial.config,
            mode=self._mode,
            dir=str(self._dir.parent),
            reinit="create_new",
            resume="allow",
            settings=wandb.Settings(
                console="off",
                silent=True,
                symlink=False,
                x_disable_stats=True,
                x_disable_meta=True,
                disable_git=True,  # a remote's address may hold a password
                finish_timeout=30,
            ),
        )
        run.define_metric("*", step_metric="epoch")
        self._runs[trial.trial] = run

    def _report(self, trial: str, report: EpochReport) -> None:
        if trial in self._runs:
            self._runs[trial].log({"epoch": report.epoch, **report.metrics})

    def _end(self, trial: TrialOutcome) -> None:
        run = self._runs.pop(trial.trial, None)
        if run is None:
            return
        best = trial.best(self._study.metric.name, self._study.metric.goal)
        run.summary["outcome"] = trial.outcome  # W&B itself knows only finished and failed
        run.summary["reason"] = trial.reason
        if best is not None:
            run.summary[f"best/{self._study.metric.name}"] = best.metrics[self._study.metric.name]
            run.summary["best/epoch"] = best.epoch
        run.finish(exit_code=int(trial.failed))


def _import_wandb(directory: Path) -> Any:
    """wandb, told to keep everything inside `directory`, the `wandb` folder of a run folder."""
    os.environ["WANDB_DIR"] = str(directory.parent)  # both make their own folder `wandb` there
    os.environ["WANDB_CACHE_DIR"] = str(directory.parent)
    os.environ["WANDB_DATA_DIR"] = str(directory)
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    return wandb


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
