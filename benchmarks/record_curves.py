"""Learning curves of configs all over a space, every one to its full length, for simulations.

    python benchmarks/record_curves.py retina.yaml --data data/chase_db1 --configs 160 --epochs 27
        --out benchmarks/curves/retina-chase_db1.parquet
    python benchmarks/record_curves.py nuclei.yaml --data data/dsb2018 --configs 120 --epochs 27
        --out benchmarks/curves/nuclei-dsb2018.parquet
    r2search simulate benchmarks/curves/retina-chase_db1.parquet --space retina.yaml --time 10m

Configs: a scrambled Sobol sequence through the space (space_filling.py); the baselines of the space
file besides. About what a study of 20 minutes by two workers would refuse is refused here, too,
and counted: configs whose epoch is predicted to take longer than EPOCH_LIMIT at the rate of one
thread of a quiet machine with AVX512-BF16 (RATE, a constant: the same configs are recorded
anywhere). A baseline is never refused: as in a study it gets the seconds that the dearest config
may take, its schedule compressed to them.

To be affordable, images are reduced (`data.resize`, longer edge; scores are still those of whole
images at their own size), epochs are short, and validation sees some of its images only, evenly
spread over the list. RECIPES has the figures by space; flags overrule them, and the file's metadata
states them with the names of the images, the data's fingerprint, versions and hardware.

Of every epoch: all validation metrics, loss and rate, seconds by the clock (train, feed, validate)
and by the processor (cpu), and those that pass in a simulation (clock): predicted at RATE. A
config that fails (a loss that is not finite) is kept with the epochs before it and the reason.
Same config, seed, versions and hardware give the same curve; machines with native bfloat16 train
in it (`dtype`), which was measured to change no more than a seed.

The output holds what is finished so far: after every config it is written anew, and the same
command goes on from it, on another machine too, or from the files beside it (OUT.parts/NAME.json).
Whenever the command is killed, no finished config is trained again; of those that were being
trained nothing is kept. Configs are begun in the order of the sequence, so that those of a table
that is not complete fill the space evenly, too. More --configs later extend the sequence.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from curve_training import Job, begin, read_curve, record
from recorded_parts import finished, parts_of, recorded, take_up
from space_filling import design

from r2search.config import Misuse, Study, TrialConfig
from r2search.data.samples import SampleSet
from r2search.models.cost import Rate, epoch_seconds
from r2search.space import load_study, trial_config
from r2search.study import prepare
from r2search.tuning.curves import Recording, write_curves
from r2search.tuning.engine import validated

RATE = Rate(flops_per_s=6.5e11, elements_per_s=1.3e9)  # as a study of 20 minutes measured it
# Seconds. A study of 20 minutes by two workers that confirms allows 13.5 s; an epoch of it is, by
# the cost model and the size of its images, about four to six times one of RECIPES.
EPOCH_LIMIT = 3.2


@dataclass(frozen=True)
class Recipe:
    """How trainings are made short."""

    resize: int  # longer edge of the images, pixels
    epoch_pixels: int
    validation: int  # images


# 27 epochs should take one thread 35 s at the median. With the 20 images of CHASE_DB1 and the 180
# of the Data Science Bowl that were at hand, all of it is 0.9 and 0.65 hours of two quiet cores, by
# RATE.
RECIPES = {"retina": Recipe(400, 420_000, 4), "nuclei": Recipe(256, 500_000, 12)}
OTHERWISE = Recipe(256, 600_000, 8)


def jobs_of(study: Study, samples: SampleSet, count: int) -> tuple[list[Job], int]:
    """The trainings, baselines first; and how many configs were refused between them."""
    epochs = study.budget.max_epochs

    def predict(config: TrialConfig) -> float:
        return epoch_seconds(config, validated(samples, config).pixels, RATE)

    jobs = []
    for name, baseline in study.baselines.items():
        seconds = predict(trial_config(study, baseline.overrides))
        affordable = max(1, min(epochs, int(EPOCH_LIMIT * epochs / seconds)))
        jobs.append(Job(name, True, baseline.overrides, affordable, seconds))
    drawn: set[str] = set()
    refused = 0
    for overrides in design(study, study.search.seed):
        key, seconds = json.dumps(overrides), predict(trial_config(study, overrides))
        if seconds > EPOCH_LIMIT:
            refused += 1
        elif key not in drawn:
            drawn.add(key)
            jobs.append(Job(f"c{len(drawn):04d}", False, overrides, epochs, seconds))
        if len(drawn) == count:
            return jobs, refused
    raise Misuse(f"--configs {count}: the space has only {len(drawn)}; ask for fewer")


def load(options: argparse.Namespace) -> tuple[Study, SampleSet, dict[str, Any]]:
    """The study and its images as they are recorded, and the settings that make them so."""
    name = load_study(options.space).name
    recipe = RECIPES.get(name, OTHERWISE)
    given = {"resize": options.resize, "epoch_pixels": options.epoch_pixels}
    given["validation"] = options.validation
    recipe = replace(recipe, **{key: value for key, value in given.items() if value is not None})
    settings = {
        "data.resize": recipe.resize,
        "train.epoch_pixels": recipe.epoch_pixels,
        "budget.max_epochs": options.epochs,
    }
    where: dict[str, Any] = {"search.seed": options.seed}
    if options.data:
        where |= {"data.root": options.data, "data.otherwise": "error"}
    study, samples = prepare(load_study(options.space, settings | where))
    count = min(recipe.validation, len(samples.val))
    val = tuple(samples.val[n * len(samples.val) // count] for n in range(count))
    return study, replace(samples, val=val, test=()), settings


def main() -> None:
    options = parse()
    study, samples, settings = load(options)
    out = options.out
    origin = take_up(out, fixed := described(study, samples, settings))
    jobs, refused = jobs_of(study, samples, max(options.configs, recorded(out)))
    wanted = jobs[: len(study.baselines) + options.configs]
    facts = fixed | {"refused": refused} | origin

    def assemble() -> int:
        curves = finished(out, jobs)
        recording = Recording(
            space=study.name,
            metric=study.metric.name,
            goal=study.metric.goal,
            settings=settings,
            rate=RATE,
            epoch_limit=EPOCH_LIMIT,
            validation_pixels=validated(samples, study.fixed).pixels,
            curves=curves,
            facts=facts,
        )
        write_curves(out, recording)
        return len(curves)

    done = {curve.name for curve in finished(out, wanted)}
    left = [job for job in wanted if job.name not in done]
    hours = sum(job.seconds for job in left) / options.processes / 3600
    say(f"{len(done)} of {len(wanted)} are there, {refused} configs were refused")
    say(f"the rest should take {hours:.2f} h on a quiet machine like that of RATE")
    try:
        train_all(study, samples, left, parts_of(out), options.processes, assemble)
    except KeyboardInterrupt:
        say("interrupted; the same command goes on")
        os._exit(130)  # the pool would first finish what it has begun
    say(f"{out}: {assemble()} configs")


def train_all(
    study: Study,
    samples: SampleSet,
    left: list[Job],
    parts: Path,
    processes: int,
    assemble: Callable[[], int],
) -> None:
    """Train what is left; say after each how long the rest will take."""
    name, pick = study.metric.name, max if study.metric.goal == "maximize" else min
    began, work, done = time.monotonic(), sum(job.seconds for job in left), 0.0
    pool = ProcessPoolExecutor(
        processes,
        mp_context=get_context("spawn"),
        initializer=begin,
        initargs=(study, samples, os.getpid()),
    )
    with pool:
        futures: dict[Future[float], Job] = {
            pool.submit(record, job, parts / f"{job.name}.json"): job for job in left
        }
        for future in as_completed(futures):
            job, error = futures[future], future.exception()
            done += job.seconds
            if isinstance(error, BrokenProcessPool):
                raise error
            if error is not None:  # not of the config, which would have been recorded
                say(f"{job.name}: {error!r}; it is tried again when the command is run again")
                continue
            rest = (time.monotonic() - began) * (work - done) / done
            count = assemble()
            curve = read_curve(parts / f"{job.name}.json")
            values = [report.metrics[name] for report in curve.reports]
            best = f"best {pick(values):.4f}" if values else "no value"
            failed = f", {curve.failure.reason}" if curve.failure else ""
            say(
                f"{count} done: {job.name}, {len(curve.reports)} epochs, {future.result():.0f} s, "
                f"{best}{failed}; about {rest / 3600:.2f} h left"
            )


def described(study: Study, samples: SampleSet, settings: dict[str, Any]) -> dict[str, Any]:
    """What must be equal of all curves of one file."""
    return {
        "space": study.name,
        "parameters": [p.model_dump(mode="json") for p in study.parameters],
        "settings": settings,
        "seed": study.search.seed,
        "reader": samples.reader,
        "synthetic": samples.synthetic,
        "fingerprint": samples.fingerprint,
        "train": [sample.id for sample in samples.train],
        "validation": [sample.id for sample in samples.val],
        "design": "scrambled Sobol",
        "threads": 1,
    }


def say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("space", help="space file")
    parser.add_argument("--data", help="the images (default: the space file's)")
    parser.add_argument("--configs", type=int, default=160, help="beside the baselines")
    parser.add_argument("--epochs", type=int, default=27)
    parser.add_argument("--out", type=Path, required=True, help="parquet file to write")
    parser.add_argument("--processes", type=int, default=2, help="a thread each")
    parser.add_argument("--seed", type=int, default=0, help="of the split, the design, weights")
    parser.add_argument("--resize", type=int, help="longer edge, pixels (default: RECIPES)")
    parser.add_argument("--epoch-pixels", type=int, help="default: RECIPES")
    parser.add_argument("--validation", type=int, help="images (default: RECIPES)")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        main()
    except Misuse as error:
        sys.exit(str(error))
