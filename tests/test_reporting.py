"""Reports made again from run folders, and several studies in one page."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import chromium, open_page
from rich.console import Console

from r2search.cli import main
from r2search.config import Misuse
from r2search.reporting import labels_of, read_run, report_runs

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory, write_folder: Callable[..., Path]) -> Path:
    """The run folder of the smallest training."""
    root = tmp_path_factory.mktemp("reporting")
    data, out = write_folder(root / "data"), root / "one"
    sets = (
        "model.block=conv model.depth=1 model.base_filters=2 data.patch_size=32 "
        "train.batch_size=2 train.epoch_pixels=4096 inference.tile=32 inference.overlap=8 "
        "budget.max_epochs=2"
    ).split()
    arguments = ["train", "--space", "general.yaml", f"--data={data}", f"--out={out}"]
    assert main([*arguments, *(f"--set={one}" for one in sets)]) == 0
    return out


@pytest.fixture
def run(run_dir: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(run_dir, tmp_path / "one"))


def other(run: Path, **changes: Any) -> Path:
    """A second run folder beside it, with another summary."""
    made = Path(shutil.copytree(run, run.with_name("two")))
    summary = json.loads((run / "summary.json").read_text()) | changes
    (made / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    return made


def test_the_report_of_a_run_is_made_again_from_its_folder(run: Path) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    (run / "report.html").unlink()
    assert main(["report", str(run)]) == 0
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_a_report_without_its_pictures_is_still_one(run: Path) -> None:
    shutil.rmtree(run / "pictures")
    assert main(["report", str(run), "-o", str(run / "again.html")]) == 0
    assert "<img" not in (run / "again.html").read_text()
    assert "<img" in (run / "report.html").read_text(), "only the named file is written"


def test_a_summary_cannot_bring_other_files_into_the_report(run: Path) -> None:
    secret = run.parent / "secret.png"
    secret.write_bytes(b"secret")
    images = {"metric": "m", "scores": [], "shown": [{"file": "../secret.png", "caption": "c"}]}
    made = other(run, images=images)
    assert main(["report", str(made)]) == 0
    assert "<img" not in (made / "report.html").read_text()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


def test_several_studies_stand_side_by_side_in_one_page(
    browser: Any, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run.parent)
    made = other(run)
    report = (made / "report.html").read_bytes()
    assert main(["report", "one", "two", "one"]) == 0
    assert (made / "report.html").read_bytes() == report
    shown = open_page(browser, (run.parent / "comparison.html").as_uri())
    page = shown.page
    page.locator(".plot[data-drawn] #figure-time").wait_for()
    assert page.locator("#figure-time .legendtext").all_text_contents() == ["one", "two"]
    assert page.locator("#figure-time .scatterlayer .js-line").count() == 2
    found = page.locator("table.sortable tbody tr").all_inner_texts()
    assert [row.split("\t")[0] for row in found] == ["one", "two"]
    assert page.locator(".banner").count() == 0
    assert shown.errors == []


def test_studies_that_do_not_compare_say_so(run: Path) -> None:
    summary = json.loads((run / "summary.json").read_text())
    made = other(run, data=summary["data"] | {"fingerprint": "f" * 64, "synthetic": True})
    page = run.parent / "page.html"
    assert main(["report", str(run), str(made), "-o", str(page)]) == 0
    banners = re.findall(r'<p class="banner">([^<]*)', page.read_text())
    assert banners == [
        "Their images or splits differ: the values do not compare.",
        "Synthetic data: these numbers say nothing about real images.",
    ]


def test_folders_of_one_name_are_told_apart_by_those_above(tmp_path: Path) -> None:
    runs = [tmp_path / "a/run", tmp_path / "b/run"]
    assert labels_of(runs) == ["a/run", "b/run"]
    assert labels_of([tmp_path / "a/one", tmp_path / "b/two"]) == ["one", "two"]


def test_a_folder_without_a_study_that_has_ended_is_refused(run: Path, capsys: Capture) -> None:
    (run / "summary.json").unlink()
    assert main(["report", str(run)]) == 2
    said = capsys.readouterr().err
    assert "holds no summary.json" in said
    assert f"r2search tune --resume {run}" in said


@pytest.mark.parametrize("text", ["", "{", "[]", '{"objective": null}'])
def test_a_damaged_summary_is_refused(run: Path, text: str) -> None:
    (run / "summary.json").write_text(text, encoding="utf-8")
    with pytest.raises(Misuse, match=r"summary\.json or trials\.jsonl is damaged"):
        read_run(run)


def test_a_page_goes_into_a_folder_that_is_there(run: Path, console: Console) -> None:
    for out in (run, run / "no" / "page.html"):
        with pytest.raises(Misuse, match="not a file in a folder that exists"):
            report_runs([run], out, console)
