"""nnU-Net v2 on the images of a study, for against.py: trained by itself, scored as ours is."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from r2search.config import Study
from r2search.data.samples import Sample, SampleSet
from r2search.finish import write_json
from r2search.train.metrics import score, summarize

TRAINING = Path(__file__).parent / "nnunet_training.py"
NUMBER, DATASET = "501", "Dataset501_Images"  # as nnU-Net calls it


def train(
    study: Study, samples: SampleSet, seconds: float, commands: Path, folder: Path
) -> dict[str, Any]:
    """One training, planned by nnU-Net for two dimensions; its draws are not seeded.

    `values`: the objective on validation, of the weights after half of the time and all of it.
    `commands`: the folder of nnU-Net's, with its Python.
    """
    raw, prepared = folder / "raw" / DATASET, folder / "prepared" / DATASET
    write_images(raw, samples)
    cores = str(os.cpu_count())
    environment = os.environ | {
        "nnUNet_raw": str(raw.parent),
        "nnUNet_preprocessed": str(prepared.parent),
        "nnUNet_results": str(folder / "results"),
        "nnUNet_def_n_proc": cores,
    }

    def call(command: str, *words: str) -> None:
        log = folder / "nnunet.log"
        with log.open("a", encoding="utf-8") as file:
            whole = [str(commands.absolute() / command), *words]
            code = subprocess.run(whole, stdout=file, stderr=file, env=environment).returncode
        if code:
            raise SystemExit(f"nnU-Net: {command} ended with {code}; see {log}")

    limits = ["-np", cores, "-npfp", cores]
    call("nnUNetv2_plan_and_preprocess", "-d", NUMBER, "-c", "2d", *limits)
    parts = {"train": [s.id for s in samples.train], "val": [s.id for s in samples.val]}
    (prepared / "splits_final.json").write_text(json.dumps([parts]), encoding="utf-8")
    found = folder / "found"
    where = map(str, (prepared, raw / "imagesVal", found, seconds))
    call("python", str(TRAINING), *where)
    facts = json.loads((found / "facts.json").read_text(encoding="utf-8"))
    values = [scored(study, samples.val, found / name) for name in ("half", "end")]
    return {"values": values, **facts}


def write_images(folder: Path, samples: SampleSet) -> None:
    """The images to train on and to validate with, as nnU-Net reads them."""
    for name in ("imagesTr", "labelsTr", "imagesVal"):
        (folder / name).mkdir(parents=True)
    for sample in (*samples.train, *samples.val):
        image = Image.fromarray(sample.image.squeeze())
        image.save(folder / "imagesTr" / f"{sample.id}_0000.png", compress_level=1)
        Image.fromarray(sample.mask).save(folder / "labelsTr" / f"{sample.id}.png")
    for sample in samples.val:
        name = f"{sample.id}_0000.png"
        shutil.copy(folder / "imagesTr" / name, folder / "imagesVal" / name)
    labels = {"background": 0} | {f"class{n}": n for n in range(1, samples.classes)}
    about = {
        "channel_names": {str(n): f"channel{n}" for n in range(samples.channels)},
        "labels": labels,
        "numTraining": len(samples.train) + len(samples.val),
        "file_ending": ".png",
    }
    write_json(folder / "dataset.json", about)


def scored(study: Study, samples: Iterable[Sample], folder: Path) -> float:
    """The objective of masks that another program has written, inside the field of view."""
    tallies = []
    for sample in samples:
        mask = np.asarray(Image.open(folder / f"{sample.id}.png"))
        classes = range(1, max(2, len(study.fixed.data.labels) + 1))
        each = np.stack([mask == index for index in classes]).astype(np.float32)
        tallies.append(score(each, sample.mask, sample.fov, threshold=0.5))
    return summarize(tallies)[study.metric.name.removeprefix("val/")]
