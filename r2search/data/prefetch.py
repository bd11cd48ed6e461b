"""Items of an iterator, made ahead of their use."""

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

T = TypeVar("T")
END: Final = object()


def prefetched(items: Iterable[T], depth: int = 2) -> Generator[T, None, None]:
    """Yield the same items, each made by a thread while the ones before it are used.

    Pays where the thread finds a core of its own: beside a GPU. At most `depth` items wait, and
    none is made before the first is asked for. What the making raises is raised here, after the
    items made before it. `close()` ends the thread, after the item that it is at.
    """
    iterator = iter(items)
    thread = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
    try:
        ahead = deque(thread.submit(next, iterator, END) for _ in range(depth))
        while (item := ahead.popleft().result()) is not END:
            ahead.append(thread.submit(next, iterator, END))
            yield item  # type: ignore[misc]
    finally:
        thread.shutdown(cancel_futures=True)
