"""Items made ahead of their use by a thread."""

import threading
from collections.abc import Iterator
from itertools import count

import pytest

from r2search.data.prefetch import prefetched


def threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("prefetch")]


def test_the_items_come_in_their_order_and_the_thread_ends_with_them() -> None:
    assert list(prefetched(range(10))) == list(range(10))
    assert list(prefetched([])) == []
    assert threads() == []


def test_an_item_may_be_none_or_false() -> None:
    assert list(prefetched([None, False, 0])) == [None, False, 0]


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_items_are_made_in_one_other_thread_and_only_so_far_ahead(depth: int) -> None:
    made: list[int] = []
    makers: set[int] = set()

    def numbers() -> Iterator[int]:
        for number in range(20):
            made.append(number)
            makers.add(threading.get_ident())
            yield number

    for number in prefetched(numbers(), depth):
        assert len(made) <= number + 1 + depth
    assert len(made) == 20
    assert len(makers) == 1
    assert threading.get_ident() not in makers


def test_nothing_is_made_before_the_first_is_asked_for() -> None:
    items = count()
    ahead = prefetched(items)
    assert next(items) == 0
    assert next(ahead) == 1
    ahead.close()


def test_what_fails_in_the_thread_is_raised_here_after_what_was_made_before() -> None:
    def numbers() -> Iterator[int]:
        yield 1
        yield 2
        raise OSError("disk gone")

    ahead = prefetched(numbers())
    assert [next(ahead), next(ahead)] == [1, 2]
    with pytest.raises(OSError, match="disk gone"):
        next(ahead)
    assert threads() == []


def test_who_stops_early_leaves_no_thread_behind() -> None:
    ended = []

    def numbers() -> Iterator[int]:
        try:
            yield from count()
        finally:
            ended.append(True)

    ahead = prefetched(numbers())
    assert next(ahead) == 0
    ahead.close()
    assert threads() == []
    del ahead
    assert ended == [True]
