"""The arithmetic of what a config needs of memory, against counts on the network itself."""

import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from r2search.config import DataConfig, InferenceConfig, ModelConfig, TrainConfig, TrialConfig
from r2search.models.blocks import ACTIVATIONS, BLOCKS, NORMS
from r2search.models.memory import (
    LOSSES,
    SIZES,
    STATES,
    Dtype,
    choose_micro_batch,
    inference_memory,
    step_memory,
    trial_memory,
)
from r2search.models.unet import DOWNSAMPLING, UPSAMPLING, build_model
from r2search.train.losses import LOSSES as ALL_LOSSES
from r2search.train.optim import OPTIMIZERS

BENCHMARK = runpy.run_path(
    str(Path(__file__).parents[2] / "benchmarks" / "cost_model.py"), run_name="benchmark"
)
step_bytes, inference_bytes = BENCHMARK["step_bytes"], BENCHMARK["inference_bytes"]
CLOSE = 0.15


def trial(patch: int = 64, **changes: Any) -> TrialConfig:
    """A small trial; settings of the network and of the training by their names."""
    parts: dict[str, dict[str, Any]] = {"model": {"depth": 2, "base_filters": 8}, "train": {}}
    for name, value in changes.items():
        parts["model" if name in ModelConfig.model_fields else "train"][name] = value
    classes = parts["model"].get("classes", 1)
    labels = tuple(range(1, classes)) if classes > 2 else ()
    return TrialConfig(
        data=DataConfig(patch_size=patch, labels=labels),
        model=ModelConfig.model_validate(parts["model"]),
        train=TrainConfig.model_validate(parts["train"]),
        inference=InferenceConfig(tile=64, overlap=8, batch_size=2),
    )


trials = st.fixed_dictionaries(
    {
        "patch": st.integers(33, 80),
        "block": st.sampled_from(sorted(BLOCKS)),
        "norm": st.sampled_from(sorted(NORMS)),
        "activation": st.sampled_from(sorted(ACTIVATIONS)),
        "upsampling": st.sampled_from(sorted(UPSAMPLING)),
        "downsampling": st.sampled_from(sorted(DOWNSAMPLING)),
        "skip": st.sampled_from(["concat", "add"]),
        "recurrent_norm": st.sampled_from(["per_step", "shared"]),
        "conv_bias": st.booleans(),
        "depth": st.integers(1, 4),
        "base_filters": st.sampled_from([8, 16, 24]),
        "recurrence": st.integers(0, 3),
        "dropout": st.sampled_from([0.0, 0.3]),
        "classes": st.sampled_from([1, 2, 4]),
        "optimizer": st.sampled_from(sorted(OPTIMIZERS)),
        "loss": st.sampled_from(sorted(ALL_LOSSES)),
        "batch_size": st.integers(2, 8),
        "checkpoint_activations": st.booleans(),
    }
).map(lambda drawn: trial(**drawn))
dtypes = st.sampled_from(sorted(SIZES))
# Slow to shrink.
few = settings(max_examples=6, deadline=None, phases=[Phase.reuse, Phase.generate])


def test_the_tables_know_every_name() -> None:
    assert LOSSES.keys() == ALL_LOSSES.keys()
    assert STATES.keys() == OPTIMIZERS.keys()


@given(config=trials, dtype=dtypes, passes=st.integers(1, 2))
@few
def test_a_step_needs_what_is_predicted(config: TrialConfig, dtype: Dtype, passes: int) -> None:
    micro_batch = -(-config.train.batch_size // passes)
    counted = step_bytes(config, dtype, micro_batch)
    assert step_memory(config, dtype, micro_batch) == pytest.approx(counted, rel=CLOSE)


@given(config=trials, dtype=dtypes)
@few
def test_predicting_needs_what_is_predicted(config: TrialConfig, dtype: Dtype) -> None:
    counted = inference_bytes(config, dtype)
    assert inference_memory(config, dtype) == pytest.approx(counted, rel=CLOSE)


@pytest.mark.parametrize("loss", sorted(LOSSES))
@pytest.mark.parametrize("classes", [1, 3])
def test_of_a_narrow_network_the_loss_is_what_counts(loss: str, classes: int) -> None:
    config = trial(loss=loss, classes=classes, block="conv", depth=1, base_filters=1, batch_size=2)
    assert step_memory(config, "float32", 2) == pytest.approx(
        step_bytes(config, "float32", 2), rel=CLOSE
    )


@pytest.mark.parametrize("block", sorted(BLOCKS))
def test_computing_blocks_again_needs_less_memory(block: str) -> None:
    plain, again = (
        step_memory(trial(block=block, depth=4, checkpoint_activations=on), "bfloat16", 16)
        for on in (False, True)
    )
    assert again < 0.8 * plain


def test_a_step_needs_more_for_each_patch() -> None:
    needs = [step_memory(trial(batch_size=16), "bfloat16", n) for n in (1, 2, 4, 8, 16)]
    assert needs == sorted(set(needs))


def test_a_trial_needs_memory_for_a_step_and_for_the_validation_after_it() -> None:
    config = trial(patch=16, base_filters=32)
    validating = inference_memory(config, "float32", training=True)
    # Between two steps there are gradients and the state of the optimizer: three more numbers.
    parameters = sum(p.numel() for p in build_model(config.model).parameters())
    assert validating == inference_memory(config, "float32") + 3 * 4 * parameters
    assert trial_memory(config, "float32", 1) == validating
    assert trial_memory(config, "float32", 400) == step_memory(config, "float32", 400)


@given(config=trials, dtype=dtypes, share=st.floats(0.3, 1.2))
@settings(max_examples=40)
def test_the_micro_batch_is_the_largest_that_fits(
    config: TrialConfig, dtype: Dtype, share: float
) -> None:
    batch = config.train.batch_size
    limit = share * step_memory(config, dtype, batch)
    chosen = choose_micro_batch(config, dtype, limit)
    fitting = [n for n in range(1, batch + 1) if step_memory(config, dtype, n) <= limit]
    assert chosen == max(fitting, default=0)


def test_the_memory_of_a_config_needs_no_torch() -> None:
    code = "import sys, r2search.models.memory; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
