"""What is imported only where it is used, and what of it is not installed, told with its remedy."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from r2search.config import Misuse


@contextmanager
def installed(what: str = "searching and training need", extra: str = "search") -> Iterator[None]:
    """Misuse that names the extra to install when an import in here fails.

    The collector of garbage is off meanwhile, and never looks through what was imported: see
    `tuning.startup`.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    except ModuleNotFoundError as error:
        install = f"pip install -c constraints.txt '.[{extra}]'"
        raise Misuse(f"{error.name} is not installed; {what} {install}") from None
    finally:
        gc.freeze()
        if collects:
            gc.enable()
