"""Durations and sizes as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2search.config import BudgetConfig, ResourcesConfig
from r2search.strict import parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (90, 90),
        (0.5, 0.5),
        ("90", 90),
        ("90s", 90),
        ("20m", 1200),
        (" 2h ", 7200),
        ("1h30m", 5400),  # 3600 + 1800
        ("1d2h3m4.5s", 93784.5),  # 86400 + 7200 + 180 + 4.5
    ],
)
def test_a_duration_is_read_in_seconds(text: object, seconds: float) -> None:
    assert parse_duration(text) == seconds
    assert BudgetConfig(time=text).time == seconds


@pytest.mark.parametrize(
    "text", ["", "soon", "-5", "5 minutes", "30m1h", "1.5h", "nan", None, True]
)
def test_what_is_no_duration_is_refused_with_examples(text: object) -> None:
    with pytest.raises(ValueError, match="written like 90s, 20m or 1h30m"):
        parse_duration(text)


@given(st.integers(0, 99), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59))
def test_every_written_duration_is_read_back(d: int, h: int, m: int, s: int) -> None:
    assert parse_duration(f"{d}d{h}h{m}m{s}s") == ((d * 24 + h) * 60 + m) * 60 + s


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (1e9, 1e9),
        ("123", 123),
        ("12B", 12),
        ("500MB", 5e8),
        ("1.5 GB", 1.5e9),
        ("4GiB", 4 * 2**30),
        (" 2TiB ", 2 * 2**40),
        ("16KB", 16_000),
    ],
)
def test_a_size_is_read_in_bytes(text: object, size: float) -> None:
    assert parse_size(text) == size
    assert ResourcesConfig(memory=text).memory == size


@pytest.mark.parametrize(
    "text", ["", "much", "-5GB", "4 gigabytes", "GB", "4iB", "nan", None, True]
)
def test_what_is_no_size_is_refused_with_examples(text: object) -> None:
    with pytest.raises(ValueError, match="written like 500MB or 4GiB"):
        parse_size(text)
