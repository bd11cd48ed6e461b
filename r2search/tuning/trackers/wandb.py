"""Brings Weights & Biases to the state of a study's record, by the real SDK.

What is there already is asked of the server, never remembered: so a study that was half uploaded
is completed, by whoever has its run folder. Everything here may block or raise; it runs in a
process of its own (`follow`).
"""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from r2search.config import Study
from r2search.records import TrialOutcome
from r2search.tuning.predictions import read_prediction, read_reference
from r2search.tuning.trackers.account import Session
from r2search.tuning.trackers.views import PREDICTION, SUMMARY, Mark, sweep_config, table, view_run

FINISH_S = 30  # that the end of a run may take to upload
INIT_S = 20  # that the server may take to begin a run


class Mirror:
    """One study at W&B (`online`), or in files that wait in the run folder (`offline`)."""

    def __init__(self, session: Session, study: Study, group: str, run_dir: Path) -> None:
        self._wandb = session.wandb
        self._folder = session.folder
        self._project = session.project
        self._server = session.server
        self._online = session.online
        self._study = study
        self._group = group
        self._run_dir = run_dir
        self._entity = os.environ.get("WANDB_ENTITY") or ""
        self._open: dict[str, Any] = {}  # runs, by id
        self._sent: dict[str, int] = {}  # their rows
        self._there: dict[str, Mark] = {}  # ended runs, by id
        self._summarized = -1  # bytes of the record that the summary run is of
        self._sweep = ""
        self._goes_on = False  # the sweep is known to be running

    @property
    def sweep_path(self) -> str:
        """ENTITY/PROJECT/sweeps/ID, as in the address of its page; "" while there is none."""
        return f"{self._entity}/{self._project}/sweeps/{self._sweep}" if self._sweep else ""

    def missing(self, trials: Iterable[TrialOutcome]) -> list[str]:
        """The trials of which W&B has not all."""
        views = [view_run(self._study, self._group, trial) for trial in trials]
        return [view.name for view in views if self._there.get(view.id) != view.mark]

    def look(self) -> None:
        """Ask the server what it has of the study, and make its sweep if there is none."""
        if not self._online:
            return
        api = self._wandb.Api()
        self._entity = self._entity or api.default_entity
        self._there, self._summarized = {}, -1
        for run in self._runs(api):
            self._sweep = self._sweep or run.sweep_name or ""
            told = run.summary
            self._summarized = max(self._summarized, told.get("record_bytes", -1))
            if run.state in ("finished", "failed"):
                rows = run.historyLineCount
                self._there[run.id] = rows, told.get("outcome", ""), told.get("reason", "")
        if not self._sweep:
            config = sweep_config(self._study, self._group)
            self._sweep = self._wandb.sweep(config, entity=self._entity, project=self._project)

    def bring(self, trial: TrialOutcome) -> None:
        """Bring the run of a trial to what the record says of it."""
        view = view_run(self._study, self._group, trial)
        if self._there.get(view.id) == view.mark:
            return
        run = self._open.get(view.id) or self._begin(view.id, view.name, view.job_type, view.config)
        for step in range(self._sent[view.id], len(view.rows)):
            run.log(view.rows[step] | self._seen(trial, trial.reports[step].epoch), step=step)
            self._sent[view.id] = step + 1
        if view.ended:
            run.config.update(view.outcome, allow_val_change=True)
            run.summary.update(view.outcome | view.best)
            self._end(view.id, failed=view.failed)
            self._there[view.id] = view.mark

    def bring_summary(self, trials: list[TrialOutcome], record_bytes: int) -> None:
        """The run of the study itself: its bundle as an artifact, its trials as a table, its
        report. Then its sweep is closed.

        `record_bytes`: the length of the record that all this is of.
        """
        if self._summarized == record_bytes or not self._online:
            return
        id = f"{self._group}-summary"
        run = self._begin(id, "summary", SUMMARY, {})
        columns, rows = table(self._study, trials)
        run.summary["trials"] = self._wandb.Table(columns=columns, data=rows)
        report = self._run_dir / "report.html"
        if report.is_file():
            run.summary["report"] = self._wandb.Html(report.read_text("utf-8"), inject=False)
        if (self._run_dir / "bundle").is_dir():
            artifact = self._wandb.Artifact(f"{self._group}-bundle", type="model")
            artifact.add_dir(str(self._run_dir / "bundle"))
            run.log_artifact(artifact, aliases=["best"]).wait(FINISH_S)
        run.summary["record_bytes"] = record_bytes
        self._end(id)
        self._summarized = record_bytes
        self._set_sweep_state("FINISHED")
        self._goes_on = False

    def report(self, page: dict[str, Any]) -> str:
        """Write the study's report, or write it anew; where it is: ENTITY/PROJECT/reports/ID.

        `page`: the fields of a `Page`. ModuleNotFoundError where wandb-workspaces is missing.
        """
        from r2search.tuning.trackers.wandb_report import Page, build_report, save_report

        where = {"entity": self._entity, "project": self._project}
        report = build_report(self._study, Page(**page), self._group, **where)
        return save_report(self._wandb.Api(), report)

    def forget(self) -> None:
        """After an error: no run is open, and what W&B has is to be asked again."""
        self._open.clear()
        self._wandb.teardown()

    def close(self) -> None:
        """End the runs of trials that have not ended, and the SDK."""
        for id in list(self._open):
            self._end(id, failed=True)
        self._wandb.teardown()

    def _seen(self, trial: TrialOutcome, epoch: int) -> dict[str, Any]:
        """One validation image and what the trial predicted of it, where it left that.

        Not offline: `r2search sync` has it from the same file.
        """
        predicted = read_prediction(self._run_dir, trial.trial, epoch) if self._online else None
        reference = read_reference(self._run_dir) if predicted is not None else None
        if predicted is None or reference is None:
            return {}
        labels = dict(enumerate(["background", *reference.names]))
        masks = {
            name: {"mask_data": mask, "class_labels": labels}
            for name, mask in (("prediction", predicted), ("ground truth", reference.mask))
        }
        image = reference.image[..., 0] if reference.image.shape[2] == 1 else reference.image
        shown = self._wandb.Image(image, caption=reference.id, masks=masks, file_type="jpg")
        return {PREDICTION: shown}

    def explain(self, said: str) -> str:
        """What an error means; without the server's address and the key."""
        if self._server is None:
            return said
        obstacle = self._server.obstacle()
        return f"the server {obstacle}" if obstacle else self._server.hidden(said)

    def _runs(self, api: Any) -> list[Any]:
        """Those of the study that the server has."""
        runs = api.runs(f"{self._entity}/{self._project}", {"group": self._group}, lazy=False)
        try:
            return list(runs)
        except ValueError as error:
            if "Could not find project" in str(error):
                return []  # its first sweep makes it
            raise

    def _begin(self, id: str, name: str, job_type: str, config: dict[str, Any]) -> Any:
        """Begin a run, or take it up where the server has it."""
        for old in (self._folder / "wandb").glob(f"*run-*-{id}"):
            shutil.rmtree(old)
        if self._online and not self._goes_on:
            self._set_sweep_state("RUNNING")
            self._goes_on = True
        run = self._wandb.init(
            id=id,
            name=name,
            entity=self._entity or None,
            project=self._project,
            group=self._group,
            job_type=job_type,
            config=config,
            mode="online" if self._online else "offline",
            dir=str(self._folder),
            reinit="create_new",
            resume="allow",
            settings=self._wandb.Settings(
                sweep_id=self._sweep or None,
                console="off",
                silent=True,
                symlink=False,
                host="",
                x_disable_stats=True,
                x_disable_meta=True,
                x_disable_machine_info=True,
                x_save_requirements=False,
                disable_git=True,  # a remote's address may hold a password
                disable_code=True,
                init_timeout=INIT_S,
                finish_timeout=FINISH_S,
                finish_timeout_raises=True,
            ),
        )
        self._open[id], self._sent[id] = run, run.starting_step
        run.define_metric("*", step_metric="epoch")
        return run

    def _end(self, id: str, *, failed: bool = False) -> None:
        self._open.pop(id).finish(exit_code=int(failed))

    def _set_sweep_state(self, state: Literal["RUNNING", "FINISHED"]) -> None:
        """No agent serves the sweep, so none but us says whether it goes on."""
        from wandb.apis.public.sweeps import _get_sweep_state, _set_sweep_state

        api, where = self._wandb.Api(), {"entity": self._entity, "project": self._project}
        if _get_sweep_state(api, self._sweep, **where) != state:
            _set_sweep_state(api, self._sweep, state, **where)
