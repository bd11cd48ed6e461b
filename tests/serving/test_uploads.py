"""What an upload may be: kinds by content, names, rates and places; all without a server."""

import pytest
from bad_uploads import SVG
from hypothesis import given
from hypothesis import strategies as st
from servers import encoded, noise

from r2search.serving.uploads import (
    KINDS,
    MOST_ADDRESSES,
    MOST_NAME,
    Limits,
    Rate,
    Refused,
    Slots,
    kind_of,
    require_size,
    safe_name,
)


@pytest.mark.parametrize(
    ("kind", "suffix"),
    [
        ("PNG", ".png"),
        ("JPEG", ".jpg"),
        ("TIFF", ".tif"),
        ("BMP", ".bmp"),
        ("GIF", ".gif"),
        ("WEBP", ".webp"),
        ("PPM", ".ppm"),
    ],
)
def test_a_kind_is_told_by_its_first_bytes(kind: str, suffix: str) -> None:
    assert kind_of("x.txt", encoded(noise(), kind)[:132]) == suffix


@given(st.binary(max_size=200))
def test_any_bytes_are_a_known_kind_or_refused(head: bytes) -> None:
    known = any(head[at : at + len(magic)] == magic for at, magic, _ in KINDS)
    if known:
        assert kind_of("a", head).startswith(".")
        return
    with pytest.raises(Refused) as refused:
        kind_of("a", head)
    assert refused.value.status == (415 if head else 422)


def test_an_svg_is_no_image_whatever_its_name() -> None:
    with pytest.raises(Refused, match=r"a\.png: is not an image of a known kind; send PNG, "):
        kind_of("a.png", SVG)


@given(st.text())
def test_a_name_has_no_folder_and_is_short_and_printable(given: str) -> None:
    name = safe_name(given)
    assert 0 < len(name) <= MOST_NAME
    assert name.isprintable()
    assert not {"/", "\\"} & set(name)
    assert name not in (".", "..")


def test_a_plain_name_stays_as_it_is() -> None:
    assert safe_name("Bild 1 (ä).png") == "Bild 1 (ä).png"
    assert safe_name("C:\\eyes\\left.png") == "left.png"
    assert safe_name("..") == "image"


def test_a_file_may_have_the_most_bytes_and_no_more() -> None:
    limits = Limits(bytes=1000)
    require_size("a", 1000, limits)
    with pytest.raises(Refused, match=r"a: is larger than 0\.001 MB"):
        require_size("a", 1001, limits)


def test_an_address_has_a_minutes_worth_at_once_and_then_the_rate() -> None:
    rate = Rate(6)
    for _ in range(6):
        rate.take("a", now=100.0)
    with pytest.raises(Refused) as refused:
        rate.take("a", now=100.0)
    assert (refused.value.status, refused.value.wait_s) == (429, 10.0)  # 6 a minute: one in 10 s
    rate.take("b", now=100.0)  # another address has its own
    with pytest.raises(Refused):
        rate.take("a", now=109.0)
    rate.take("a", now=110.0)


def test_the_rates_of_many_addresses_take_no_more_memory() -> None:
    rate = Rate(1)
    for number in range(2 * MOST_ADDRESSES):
        rate.take(str(number), now=0.0)
    assert len(rate._levels) == MOST_ADDRESSES


def test_a_slot_is_free_again_whatever_happened_in_it() -> None:
    def fail_in_it() -> None:
        with slots.one():
            with pytest.raises(Refused) as refused, slots.one():
                pass
            assert refused.value.status == 503
            raise ZeroDivisionError

    slots = Slots(1)
    with pytest.raises(ZeroDivisionError):
        fail_in_it()
    assert slots.taken == 0
