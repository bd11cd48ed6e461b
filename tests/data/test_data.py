"""What `load` and `resolve` settle before a study: windows of volumes, pools of them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ct_files import make_chaos, make_msd, write_nifti

from r2search.config import DataConfig, PoolMember
from r2search.data import load, resolve


def ct(root: Path, **settings: Any) -> DataConfig:
    return DataConfig(reader="msd", root=make_msd(root), channels="grey", **settings)


def test_ct_that_names_no_window_gets_the_one_it_is_read_with(tmp_path: Path) -> None:
    assert resolve(ct(tmp_path)).window == (-160, 240)


def test_a_window_that_a_person_named_is_kept(tmp_path: Path) -> None:
    assert resolve(ct(tmp_path, window=(-50, 150))).window == (-50, 150)


def test_magnetic_resonance_has_no_window(tmp_path: Path) -> None:
    config = ct(tmp_path)
    path = tmp_path / "dataset.json"
    task = json.loads(path.read_text(encoding="utf-8")) | {"modality": {"0": "MRI"}}
    path.write_text(json.dumps(task), encoding="utf-8")
    assert resolve(config).window is None


@pytest.fixture
def pool(tmp_path: Path) -> DataConfig:
    roots = {"msd": make_msd(tmp_path / "msd"), "chaos": make_chaos(tmp_path / "chaos")}
    for number, name in enumerate(
        ("spleen_2", "spleen_10", "spleen_19")
    ):  # slices of air alone, all equal
        path = roots["msd"] / "imagesTr" / f"{name}.nii.gz"
        blank = np.full((3, 20, 24), -1000, np.int16)
        blank[0, 5:9, 5:9] = 100 + 20 * number
        write_nifti(path, blank)
    members = tuple(PoolMember(reader=reader, root=root) for reader, root in roots.items())
    return DataConfig(reader="pool", pool=members, channels="grey")


def test_a_pool_of_ct_has_one_window(pool: DataConfig) -> None:
    assert resolve(pool).window == (-160, 240)


def test_equal_blank_slices_of_a_volume_in_a_pool_are_no_fault(pool: DataConfig) -> None:
    samples = load(pool)
    assert len(samples.train) + len(samples.val) + len(samples.test) == 18
