"""The documents: what they point to exists, and what they tell to type is understood."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

from r2search import submitting
from r2search.cli import build_parser
from r2search.space import find_space

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
IGNORED = [line.rstrip("/") for line in (ROOT / ".gitignore").read_text().split()]
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MARKED = re.compile(r"^<!-- newcomer: (\w+) -->\n+```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MACHINE = re.compile(r"(?<![\w.])/(?:work|tmp|home|root)\b")


def entries(folder: Path) -> list[Path]:
    """What a clone of the project has in a folder: nothing hidden, ignored, or without a file."""
    return sorted(
        path
        for path in folder.iterdir()
        if not path.name.startswith(".")
        and not any(fnmatch(path.name, pattern) for pattern in IGNORED)
        and (path.is_file() or any(map(Path.is_file, path.rglob("*"))))
    )


def documents(folder: Path = ROOT) -> Iterator[Path]:
    for path in entries(folder):
        if path.is_dir():
            yield from documents(path)
        elif path.suffix == ".md":
            yield path


def links(text: str) -> list[str]:
    """Where a document points to within the project; code is passed over."""
    prose = re.sub(r"`[^`\n]*`", "", FENCED.sub("", text))
    found: list[str] = re.findall(r"\]\(([^)\s]+)\)", prose)
    return [link for link in found if not re.match(r"\w+:", link)]


def anchors(text: str) -> set[str]:
    """The names that GitHub gives to the headings of a document."""
    heads = re.findall(r"^#+ +(.*?) *$", FENCED.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def tree(text: str, folder: str) -> set[str]:
    """The names that stand in `folder` in a README's tree; "" is the project itself."""
    drawn = next(body for _, body in FENCED.findall(text) if body.startswith("r2search/"))
    above, found = "", set()
    for line in drawn.splitlines():
        name = line.split()[0]
        if not line.startswith(" "):
            above = name
        if (above if line.startswith(" ") else "") == folder:
            found.add(name)
    return found


def commands(text: str) -> list[str]:
    """The commands of ours in code blocks and inline code."""
    blocks = [body for _, body in FENCED.findall(text)]
    blocks += re.findall(r"^(?: {4}.*\n)+", text, re.MULTILINE)
    blocks += re.findall(r"`([^`\n]+)`", FENCED.sub("", text))
    lines = [line.strip().removeprefix("$ ") for block in blocks for line in block.splitlines()]
    ours = ("python launch/tune.py ", "python launch/submit.py ", "r2search ")
    return [re.split(" [#>]", line)[0] for line in lines if line.startswith(ours)]


ALL = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in documents()}
COMMANDS = sorted({command for text in ALL.values() for command in commands(text)})


@pytest.mark.parametrize("name", ALL)
def test_every_link_leads_somewhere(name: str) -> None:
    missing = []
    for link in links(ALL[name]):
        path, _, anchor = link.partition("#")
        target = (ROOT / name).parent / path if path else ROOT / name
        if not target.exists() or (anchor and anchor not in anchors(target.read_text())):
            missing.append(link)
    assert missing == []


def test_a_link_is_found_and_code_is_none() -> None:
    assert links("[a](b.md) ![c](d.png#e) `[f](g)` [h](https://i.org)") == ["b.md", "d.png#e"]
    assert anchors("# What it is: `a`!\n\n## Run it\n") == {"what-it-is-a", "run-it"}


def test_the_readme_has_one_command_to_run_and_one_to_test() -> None:
    assert re.findall("newcomer: *\\w+", README) == ["newcomer: run", "newcomer: test"]
    blocks = dict(MARKED.findall(README))
    assert list(blocks) == ["run", "test"]
    assert "python launch/tune.py --space retina.yaml\n" in blocks["run"]
    assert re.search(
        r"&& pytest -n 2 --dist loadfile$", blocks["test"], re.MULTILINE
    )  # all tests: none deselected


def test_the_tree_of_the_readme_has_the_folders_of_the_project() -> None:
    assert tree(README, "") == {f"{path.name}/" for path in entries(ROOT) if path.is_dir()}


def test_the_tree_of_the_readme_has_every_module_of_the_package() -> None:
    unlisted = {"__init__.py", "py.typed"}
    assert tree(README, "r2search/") == {
        f"{path.name}/" if path.is_dir() else path.name
        for path in entries(ROOT / "r2search")
        if path.name not in unlisted
    }


def test_a_tree_is_read_by_its_indent() -> None:
    text = "```\nr2search/  the package\n  a.py     it\n  data/    them\ntests/  those\n```\n"
    assert tree(text, "") == {"r2search/", "tests/"}
    assert tree(text, "r2search/") == {"a.py", "data/"}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_in_a_document_is_understood(command: str) -> None:
    first, *words = shlex.split(command.replace("python launch/tune.py", "r2search tune"))
    if first == "python":
        words = submitting.command(words[1:])
    if "COMMAND" in words or "--help" in words or len(words) == 1:
        words = [word for word in words if word != "COMMAND"] + ["--help"]
        with pytest.raises(SystemExit) as exit:
            build_parser().parse_args(words)
        assert exit.value.code == 0
        return
    options = build_parser().parse_args(words)
    space = getattr(options, "space", None)
    if space and space == space.lower():  # no FILE to be filled in
        find_space(space)


def test_the_commands_of_the_readme_are_found() -> None:
    named = {" ".join(command.split()[:2]) for command in commands(README)}
    assert {"python launch/tune.py", "r2search predict", "r2search evaluate"} <= named


def test_the_command_of_the_readme_has_a_manual_page() -> None:
    ran = subprocess.run(
        [sys.executable, "launch/tune.py", "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert ran.returncode == 0
    assert ran.stdout.startswith("usage: r2search tune ")


@pytest.mark.parametrize("name", ALL)
def test_no_document_names_a_place_on_some_machine(name: str) -> None:
    assert MACHINE.findall(ALL[name]) == []


@pytest.mark.parametrize(
    ("text", "found"), [("in /tmp/x", True), ("cd /work", True), ("frame/work/a ../root/b", False)]
)
def test_a_place_on_some_machine_is_seen(text: str, found: bool) -> None:
    assert bool(MACHINE.search(text)) is found
