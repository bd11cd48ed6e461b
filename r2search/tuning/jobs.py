"""A study as a job on a Ray cluster, through nothing but the address of its dashboard."""

import asyncio
import logging
import os
import secrets
import shlex
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import requests
from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus, JobSubmissionClient

from r2search import __version__
from r2search.config import Misuse
from r2search.environment import PROCESS_SETTINGS
from r2search.tuning.packing import Package, pack
from r2search.tuning.results import receive, require_new

STOP_S = 30  # seconds that a study gets to end well
JOB_ENV = {
    "RAY_JOB_STOP_SIGNAL": "SIGINT",  # as Ctrl-C
    "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_S),  # Ray's own 3 s would kill it while it exports
    **PROCESS_SETTINGS,  # as r2search.cli sets them: a worker of a cluster is no child of ours
}
QUIET_S = 90.0  # a study says something every 30 s: by then the connection is dead
TRIES = 20  # to reach a cluster again: about eight minutes
LOST = (requests.RequestException, aiohttp.ClientError, OSError, RuntimeError)
NOISY = (
    "ray.dashboard.modules.job.sdk",
    "ray.dashboard.modules.dashboard_sdk",
    "ray._private.runtime_env.packaging",
)
_ADDRESS = "RAY_API_SERVER_ADDRESS"


class Forgotten(Exception):
    """The head of the cluster was begun anew, and knows no job of before."""


def connect(address: str) -> JobSubmissionClient:
    """A client of the cluster whose dashboard is at `address`, http://HOST:PORT. Misuse if none."""
    if not address.startswith(("http://", "https://")):
        raise Misuse(f"--address {address}: write the dashboard's, as in http://HEAD:8265")
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)
    before = os.environ.get(_ADDRESS)
    os.environ[_ADDRESS] = address  # the client obeys this variable, and RAY_ADDRESS, before us
    try:
        return JobSubmissionClient(address)
    except AuthenticationError:
        raise Misuse(
            f"--address {address}: the cluster asks for its token; export RAY_AUTH_MODE=token and "
            "RAY_AUTH_TOKEN (docs/cluster.md)"
        ) from None
    except LOST as error:
        raise Misuse(
            f"--address {address}: no Ray dashboard answers there "
            f"({str(error).splitlines()[0]}); check that the cluster is up and the port is open, "
            "or bring it here with ssh -L 8265:localhost:8265 HEAD"
        ) from None
    finally:
        os.environ.pop(_ADDRESS)
        if before is not None:
            os.environ[_ADDRESS] = before


def submit(
    client: JobSubmissionClient,
    package: Package,
    arguments: Sequence[str],
    facts: Mapping[str, str],
    secret: Mapping[str, str],
) -> str:
    """Send the package and start `launch/tune.py` with these arguments; returns the job's id.

    `facts` (`study`, `run_dir`) are kept with the job, for all to see who reach the dashboard;
    `secret` goes into its environment alone.
    """
    entrypoint = shlex.join(["exec", "python", "launch/tune.py", *arguments])
    return _start(client, package, entrypoint, facts["study"], facts, secret)


def _start(
    client: JobSubmissionClient,
    package: Package,
    entrypoint: str,
    name: str,
    facts: Mapping[str, str],
    environment: Mapping[str, str],
) -> str:
    job = f"{name}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    with tempfile.TemporaryDirectory(prefix="r2search-job-") as folder:
        package.stage(Path(folder))
        client.submit_job(
            entrypoint=entrypoint,
            submission_id=job,
            runtime_env={"working_dir": folder, "env_vars": {**JOB_ENV, **environment}},
            metadata={"r2search": __version__, **facts},
        )
    return job


def follow(client: JobSubmissionClient, job: str, show: Callable[[str], Any]) -> Any:
    """Hand on what the job prints, all from the beginning, until it ends; returns its details.

    A lost connection, and one on which nothing comes, is taken up again, TRIES times with growing
    pauses; then its error is raised. Forgotten when the head of the cluster was begun anew.
    """
    shown, failures = 0, 0

    async def tail() -> None:
        nonlocal shown, failures
        seen = 0
        texts = client.tail_job_logs(job)
        with suppress(StopAsyncIteration):  # not TimeoutError: the last lines may be yet to come
            while True:
                text = await asyncio.wait_for(anext(texts), QUIET_S)
                failures = 0
                seen += len(text)
                if seen > shown:
                    show(text[len(text) - (seen - shown) :])
                    shown = seen

    while True:
        try:
            asyncio.run(tail())
            details = client.get_job_info(job)
        except LOST:
            failures += 1
            if _is_forgotten(client, job):
                raise Forgotten(job) from None
            if failures == TRIES:
                raise
            time.sleep(min(2**failures, 30))
            continue
        if details.status.is_terminal():
            return details
        time.sleep(1)


def _is_forgotten(client: JobSubmissionClient, job: str) -> bool:
    """Whether the cluster answers, and knows no such job."""
    with suppress(*LOST):
        return job not in {details.submission_id for details in client.list_jobs()}
    return False


def details_of(client: JobSubmissionClient, job: str) -> Any:
    """What the cluster knows of a job of r2search; Misuse when there is none of this name."""
    known = {details.submission_id: details for details in studies(client)}
    if job not in known:
        listed = ", ".join(known) or "none"
        raise Misuse(f"{job}: no study of this cluster; known: {listed}")
    return known[job]


def studies(client: JobSubmissionClient) -> list[Any]:
    """The details of all jobs that are studies, the oldest first."""
    jobs = (job for job in client.list_jobs() if {"r2search", "run_dir"} <= set(job.metadata or ()))
    return sorted(jobs, key=lambda job: job.start_time or 0)


def exit_code(details: Any) -> int:
    """The driver's own exit code; of a job that was stopped, for which Ray keeps none, 130."""
    if details.driver_exit_code is not None:
        return int(details.driver_exit_code)
    return 130 if details.status == JobStatus.STOPPED else 1


def stop(client: JobSubmissionClient, job: str) -> Any:
    """Ask a study to end well, and wait until it has; returns the job's details."""
    details = details_of(client, job)
    if not details.status.is_terminal():
        client.stop_job(job)
    waited = time.monotonic() + STOP_S + 15
    while not details.status.is_terminal() and time.monotonic() < waited:
        time.sleep(0.5)
        details = client.get_job_info(job)
    return details


def fetch(client: JobSubmissionClient, job: str, out: Path) -> list[str]:
    """Bring the results of a study into the new folder `out`; returns the names of the files.

    A second job on the head prints them (docs/adr/0004). Misuse when that fails.
    """
    require_new(out)
    run_dir = details_of(client, job).metadata["run_dir"]
    entrypoint = shlex.join(["exec", "python", "-m", "r2search.tuning.results", run_dir])
    sender = _start(client, pack(), entrypoint, f"fetch-{job}", {}, {})
    with tempfile.TemporaryFile("w+", encoding="utf-8", newline="") as lines:
        follow(client, sender, lines.write)
        client.delete_job(sender)
        lines.seek(0)
        return receive(lines, out)


def describe(details: Any) -> str:
    """One line: how a study stands."""
    began = details.start_time / 1000 if details.start_time else time.time()
    ended = details.end_time / 1000 if details.end_time else time.time()
    code = f", exit code {exit_code(details)}" if details.status.is_terminal() else ""
    return (
        f"{details.submission_id}: {details.status.lower()}{code}; began "
        f"{time.strftime('%Y-%m-%d %H:%M', time.localtime(began))}, {ended - began:.0f} s; "
        f"{details.metadata['run_dir']}"
    )
