"""What is not installed, told with its remedy."""

from collections.abc import Iterator
from contextlib import contextmanager

from r2search.config import Misuse


@contextmanager
def installed(what: str = "searching and training need", extra: str = "search") -> Iterator[None]:
    """Misuse that names the extra to install when an import in here fails."""
    try:
        yield
    except ModuleNotFoundError as error:
        install = f"pip install -c constraints.txt '.[{extra}]'"
        raise Misuse(f"{error.name} is not installed; {what} {install}") from None
