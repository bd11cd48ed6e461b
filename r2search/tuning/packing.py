"""What a job on a cluster needs of this project: the code, and the space file. Never data."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import r2search
from r2search.config import Misuse
from r2search.space import SPACES_DIR, find_space

ROOT = Path(r2search.__file__).parent.parent
LIMIT = 20 * 2**20  # bytes of all files; ours are one, and the dashboard takes no more than 100
# Of search_spaces/ only the files: a folder in it is somebody's own.
PARTS = ("r2search/**/*", "launch/**/*", "search_spaces/*", "pyproject.toml", "constraints.txt")
NAMED = 5  # of the largest files, when there is too much


@dataclass(frozen=True, slots=True)
class Package:
    """Files by their place in the job's folder, and the name of the space file there."""

    files: dict[str, Path]
    space: str

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(path.stat().st_size for path in self.files.values())

    def stage(self, folder: Path) -> None:
        """Copy the files to their places below `folder`."""
        for place, path in self.files.items():
            target = folder / place
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


def pack(space: str | None = None, root: Path = ROOT, limit: int = LIMIT) -> Package:
    """What a job needs of the project in `root`; with a space file, also that.

    A space file from outside search_spaces/ comes to lie beside launch/, where its name finds it
    first. Raises Misuse, with the largest files, when all together have more than `limit` bytes.
    """
    if not (root / "launch" / "tune.py").is_file():
        raise Misuse(
            f"{root}: launch/tune.py, which the job runs, is not here; submit from a clone of the "
            "project, installed with pip install -e"
        )
    files = {
        path.relative_to(root).as_posix(): path
        for part in PARTS
        for path in sorted(root.glob(part))
        if path.is_file() and not _is_left_out(path.relative_to(root))
    }
    name = ""
    if space is not None:
        found = find_space(space)
        name = found.name
        if found.parent.resolve() != SPACES_DIR.resolve():
            files[name] = found
    package = Package(files, name)
    if package.size > limit:
        largest = sorted(files, key=lambda place: -files[place].stat().st_size)[:NAMED]
        listed = ", ".join(f"{place} ({size_of(files[place].stat().st_size)})" for place in largest)
        raise Misuse(
            f"{root}: {size_of(package.size)} would be sent to the cluster, more than "
            f"{size_of(limit)}; move what is no code out of these folders: {listed}"
        )
    return package


def _is_left_out(place: Path) -> bool:
    """Whether a file is made by running something, or hidden."""
    made = any(part == "__pycache__" or part.startswith(".") for part in place.parts)
    return made or place.suffix in {".pyc", ".part"}


def size_of(count: float) -> str:
    """Bytes for the eye."""
    return f"{count / 2**20:.1f} MiB" if count >= 2**20 else f"{count / 2**10:.0f} KiB"
