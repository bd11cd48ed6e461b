"""What is sent to a cluster: the code and the space file, never data."""

from pathlib import Path

import pytest

from r2search.config import Misuse
from r2search.tuning.packing import pack


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A clone in which somebody has worked."""
    root = tmp_path / "clone"
    for place in (
        "r2search/cli.py",
        "r2search/data/samples.py",
        "r2search/data/__pycache__/samples.cpython-311.pyc",
        "launch/tune.py",
        "launch/cluster/aws.yaml",
        "search_spaces/retina.yaml",
        "search_spaces/mine/image.png",
        "pyproject.toml",
        "constraints.txt",
        "README.md",
        "tests/test_x.py",
        "data/chase_db1/image.png",
        "runs/first/summary.json",
        ".git/config",
        ".venv/bin/python",
        "launch/.secret",
    ):
        path = root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(place)
    return root


def test_only_what_a_job_needs_is_packed(project: Path) -> None:
    assert set(pack(root=project).files) == {
        "r2search/cli.py",
        "r2search/data/samples.py",
        "launch/tune.py",
        "launch/cluster/aws.yaml",
        "search_spaces/retina.yaml",
        "pyproject.toml",
        "constraints.txt",
    }


def test_the_files_are_staged_as_they_are(project: Path, tmp_path: Path) -> None:
    package = pack(root=project)
    package.stage(tmp_path / "staged")
    staged = [path for path in (tmp_path / "staged").rglob("*") if path.is_file()]
    assert len(staged) == len(package.files)
    assert (tmp_path / "staged/r2search/cli.py").read_text() == "r2search/cli.py"
    assert package.size == sum(path.stat().st_size for path in staged)


def test_a_space_file_of_ones_own_comes_where_its_name_is_looked_for_first(
    project: Path, tmp_path: Path
) -> None:
    mine = tmp_path / "retina.yaml"
    mine.write_text("name: mine\n")
    package = pack(str(mine), root=project)
    assert (package.space, package.files["retina.yaml"]) == ("retina.yaml", mine)
    assert "search_spaces/retina.yaml" in package.files


def test_a_shipped_space_file_goes_by_its_name(project: Path) -> None:
    package = pack("quick", root=project)
    assert package.space == "quick.yaml"
    assert "quick.yaml" not in package.files


def test_the_largest_files_of_too_much_are_named(project: Path) -> None:
    (project / "r2search/movie.npy").write_bytes(bytes(3000))
    (project / "launch/cluster/notes.txt").write_bytes(bytes(2000))
    with pytest.raises(Misuse, match=r"more than 4 KiB; .*: r2search/movie.npy \(3 KiB\), launch/"):
        pack(root=project, limit=4096)


def test_without_a_clone_there_is_nothing_to_run(tmp_path: Path) -> None:
    with pytest.raises(
        Misuse, match=r"launch/tune\.py, which the job runs, is not here; submit from"
    ):
        pack(root=tmp_path)


def test_this_project_is_far_below_the_limit() -> None:
    package = pack("retina.yaml")
    assert package.size < 2 * 2**20
    assert {"launch/tune.py", "r2search/report/page.js"} <= set(package.files)
