"""`r2search serve` as a command: its limits, its end, and what it needs."""

import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image
from servers import encoded, make_run, noise, serving

from r2search.cli import main

Make = Callable[..., Path]


def test_limits_are_flags_and_ctrl_c_ends_it(make_bundle: Make, tmp_path: Path) -> None:
    limits = ["--rate", "5", "--megapixels", "1", "--megabytes", "1", "--waiting", "1"]
    with serving(make_bundle(tmp_path), tmp_path / "complaints.txt", *limits, ends=130) as server:
        with server.client() as client:
            model = client.get("/api/model").json()
        assert (model["most_bytes"], model["most_pixels"]) == (10**6, 10**6)
        wide = encoded(Image.new("RGB", (1001, 1000)))
        for content in (bytes(10**6 + 1), wide):
            assert server.post(content).status_code == 413
        large = encoded(Image.new("RGB", (700, 700)))
        with ThreadPoolExecutor(2) as clients:
            one, other = sorted(clients.map(server.post, [large] * 2), key=lambda a: a.status_code)
        assert (one.status_code, other.status_code) == (200, 503)
        assert other.headers["retry-after"] == "1"
        answers = (server.post(encoded(noise())) for _ in range(50))  # more than five a minute
        refused = next(answer for answer in answers if answer.status_code != 200)
        assert refused.status_code == 429
        assert 1 <= int(refused.headers["retry-after"]) <= 12  # five a minute: one in 12 s
        server.process.send_signal(signal.SIGINT)
        server.process.wait(timeout=60)


def test_a_port_that_is_taken_is_said(
    make_bundle: Make, tmp_path: Path, loopback: object, capsys: pytest.CaptureFixture[str]
) -> None:
    port = str(loopback.server_port)
    assert main(["serve", str(make_bundle(tmp_path)), "--port", port]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"r2search: --port {port}: cannot listen there (")


def test_a_missing_package_is_named_with_its_remedy() -> None:
    ran = run("sys.modules['uvicorn'] = None", "serve", "gone")
    assert ran.returncode == 2
    assert ran.stderr == (
        "r2search: uvicorn is not installed; "
        "the web page needs pip install -c constraints.txt '.[serve]'\n"
    )


def test_too_long_a_temporary_folder_is_named_with_its_remedy(
    make_bundle: Make, tmp_path: Path
) -> None:
    long = tmp_path / ("long" * 25)  # the path of a socket has 107 characters at most
    long.mkdir()
    first = f"import tempfile; tempfile.tempdir = {str(long)!r}"
    ran = run(first, "serve", str(make_bundle(tmp_path)), "--port", "0")
    assert ran.returncode == 2
    assert ran.stderr.startswith(f"r2search: TMPDIR={long}: too long a path for a socket; set ")


def test_it_needs_nothing_of_the_search(make_bundle: Make, tmp_path: Path) -> None:
    engines = ("ray", "optuna", "wandb", "plotly", "albumentations", "pooch")
    without = "; ".join(f"sys.modules['{package}'] = None" for package in engines)
    run_dir = make_run(make_bundle, tmp_path / "run")
    with serving(run_dir, tmp_path / "complaints.txt", first=without) as server:
        answer = server.post(encoded(noise()))
        assert (answer.status_code, answer.json()["width"]) == (200, 48)
        with server.client() as client:
            assert client.get("/api/gallery").json()["metric"] == "dice_mean"


def run(first: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command in a process that executes `first` before it."""
    code = f"import sys; {first}; from r2search.cli import main; sys.exit(main(sys.argv[1:]))"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=120
    )
