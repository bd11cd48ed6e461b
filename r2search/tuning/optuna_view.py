"""The trials of a search in a storage of Optuna's, for others to look at: optuna-dashboard, say.

Nothing is read from there: what comes next follows from the study's record. So a study that is
taken up again is told anew, and a storage that fails costs nothing but the view.
"""

import logging
import os
import re
from pathlib import Path

import optuna
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial

from r2search.config import Study

JOURNAL = "study.journal"  # of a run folder
ENVIRONMENT = "OPTUNA_STORAGE"  # as Optuna's own command line has it

OURS = "r2search"  # attribute of a study that may be told anew; nobody else's is removed
TIMEOUT_S = 10  # of a connection to a database

log = logging.getLogger(__name__)


class OptunaView:
    """The journal of a run folder, or the database whose URL the environment has.

    A URL may hold a password: it comes by no other way, and is never written down. In a database
    the study has the name of its run folder.
    """

    def __init__(self, study: Study, run_dir: Path) -> None:
        self._study: optuna.Study | None = None
        try:
            self._study = _create(study, run_dir, os.environ.get(ENVIRONMENT))
        except Exception as error:  # of any driver of a database
            self._give_up(error)

    def add(self, trial: FrozenTrial) -> None:
        """A trial has ended, or waits."""
        if self._study is None:
            return
        try:
            self._study.add_trial(trial)
        except Exception as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self._study = None
        where = ENVIRONMENT if os.environ.get(ENVIRONMENT) else JOURNAL
        said = _without_secrets(" ".join(str(error).split())[:300])
        log.warning(
            "%s: %s: %s; the search goes on, and is not shown there until it is resumed",
            where,
            type(error).__name__,
            said,
        )


def directions(study: Study) -> list[optuna.study.StudyDirection]:
    """Of a study's objectives: its metric, then the costs it is weighed against."""
    first = optuna.study.StudyDirection[study.metric.goal.upper()]
    return [first, *[optuna.study.StudyDirection.MINIMIZE] * len(study.metric.against)]


def _create(study: Study, run_dir: Path, url: str | None) -> optuna.Study:
    """A study without trials."""
    storage: optuna.storages.BaseStorage
    if url:
        # Without a limit a host that does not answer would keep the search from beginning.
        slow = {} if url.startswith("sqlite") else {"connect_args": {"connect_timeout": TIMEOUT_S}}
        storage = optuna.storages.RDBStorage(url, engine_kwargs=slow)
        name = run_dir.name
        if name in optuna.get_all_study_names(storage):
            if OURS not in optuna.load_study(study_name=name, storage=storage).user_attrs:
                raise ValueError(f"holds another study named {name}; name another run folder")
            optuna.delete_study(study_name=name, storage=storage)
    else:
        path, name = run_dir / JOURNAL, study.name
        path.unlink(missing_ok=True)
        storage = optuna.storages.JournalStorage(JournalFileBackend(str(path)))
    made = optuna.create_study(directions=directions(study), study_name=name, storage=storage)
    made.set_user_attr(OURS, study.name)
    return made


def _without_secrets(text: str) -> str:
    """What a driver says may hold its URL, with the password."""
    url = os.environ.get(ENVIRONMENT, "")
    for secret in filter(None, (url, *re.findall(r"://[^:/@]*:([^@]+)@", url))):
        text = text.replace(secret, "***")
    return text
