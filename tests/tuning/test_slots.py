"""The workers of a study, measured once for a machine."""

import time
from collections.abc import Callable, Iterator
from copy import deepcopy

import pytest
import ray

from r2search.config import Study
from r2search.data.samples import SampleSet
from r2search.models.cost import Rate
from r2search.tuning.engine import ray_session
from r2search.tuning.slots import Slots, find_slots

MakeStudy = Callable[..., Study]


@pytest.fixture(scope="module")
def measured(make_study: MakeStudy, noise: SampleSet) -> Iterator[tuple[Study, Slots]]:
    study = make_study({"resources.workers": 1})
    with ray_session(noise):
        yield study, find_slots(study)


def test_a_worker_is_measured(measured: tuple[Study, Slots]) -> None:
    _, slots = measured
    assert slots.workers.count == 1
    assert slots.rate.flops_per_s > 1e8
    assert slots.measured["gpu_memory"] == 0 or slots.workers.gpus


def test_what_the_record_tells_of_the_same_place_is_taken(measured: tuple[Study, Slots]) -> None:
    study, slots = measured
    told = {**deepcopy(dict(slots.measured)), "rate": {"flops_per_s": 7.0, "elements_per_s": 8.0}}
    again = find_slots(study, [{"event": "study", "measured": told}, {"event": "resume"}])
    assert again.rate == Rate(7.0, 8.0)
    assert again.measured == told


def test_of_several_measurements_the_last_of_this_place_counts(
    measured: tuple[Study, Slots],
) -> None:
    study, slots = measured
    past = [
        {"event": "resume", "measured": {**slots.measured, "rate": rate, "where": where}}
        for rate, where in (
            ({"flops_per_s": 1.0, "elements_per_s": 1.0}, slots.measured["where"]),
            ({"flops_per_s": 2.0, "elements_per_s": 2.0}, slots.measured["where"]),
            ({"flops_per_s": 3.0, "elements_per_s": 3.0}, {"machine": "another"}),
        )
    ]
    assert find_slots(study, past).rate == Rate(2.0, 2.0)


def test_a_study_says_that_it_waits_for_processors(
    measured: tuple[Study, Slots], monkeypatch: pytest.MonkeyPatch
) -> None:
    study, slots = measured
    everything = int(ray.cluster_resources()["CPU"])
    taken = ray.remote(num_cpus=everything)(lambda: time.sleep(3)).remote()
    monkeypatch.setattr("r2search.tuning.slots.WAIT_S", 1.0)
    told: list[str] = []
    again = find_slots(study, [], told.append)
    ray.get(taken)
    assert again.workers == slots.workers
    cpus = slots.workers.threads
    assert told == [f"no worker has answered for 1 s; the study waits for {cpus} CPUs to be free"]


def test_elsewhere_a_worker_is_measured_anew(measured: tuple[Study, Slots]) -> None:
    study, slots = measured
    rate = {"flops_per_s": 7.0, "elements_per_s": 8.0}
    where = {**slots.measured["where"], "threads": 99}
    past = [{"event": "study", "measured": {**slots.measured, "rate": rate, "where": where}}]
    again = find_slots(study, past)
    assert again.rate.flops_per_s > 1e8
    assert again.measured["where"] == slots.measured["where"]
