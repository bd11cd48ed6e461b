"""What need not last does not: folders of living processes stay, those of killed ones go."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from r2search.config import Misuse
from r2search.scratch import own_scratch, shared_scratch

HOLD = """
from r2search.scratch import own_scratch
with own_scratch("ray") as folder:
    (folder / "file").touch()
    print(folder, flush=True)
    input()
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def test_a_folder_is_gone_when_it_is_done_with(temporary: Path) -> None:
    with own_scratch("ray") as folder:
        (folder / "file").touch()
        assert folder.stat().st_mode & 0o077 == 0
    assert list(temporary.iterdir()) == []


def test_a_folder_of_a_process_that_lives_stays_and_that_of_a_killed_one_goes() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout
        theirs = Path(other.stdout.readline().strip())
        with own_scratch("ray") as mine:
            assert theirs.is_dir()
            assert mine != theirs
        other.kill()
    assert theirs.is_dir()
    with own_scratch("ray") as mine:
        assert not theirs.exists()
        assert mine.is_dir()


def test_processes_find_a_shared_folder_by_its_name() -> None:
    assert shared_scratch("bucket") == shared_scratch("bucket")
    assert shared_scratch("bucket") != shared_scratch("other")


def test_a_folder_that_others_may_read_is_closed_to_them() -> None:
    shared_scratch("bucket").chmod(0o755)
    assert shared_scratch("bucket").stat().st_mode & 0o777 == 0o700


def test_a_folder_that_others_may_write_is_not_used() -> None:
    folder = shared_scratch("bucket")
    folder.chmod(0o777)
    with pytest.raises(Misuse, match="not a private folder"):
        shared_scratch("bucket")


def test_a_link_that_somebody_has_laid_is_not_followed(temporary: Path) -> None:
    folder = shared_scratch("bucket")
    folder.rmdir()
    (temporary / "elsewhere").mkdir()
    folder.symlink_to(temporary / "elsewhere")
    with pytest.raises(Misuse, match="not a private folder"):
        shared_scratch("bucket")
