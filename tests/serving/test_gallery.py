"""A run folder that is served: its study beside its network."""

from collections.abc import Callable
from pathlib import Path

import pytest
from servers import encoded, make_run, noise, serving

from r2search.config import Misuse
from r2search.serving.gallery import find

Make = Callable[..., Path]


@pytest.fixture
def run_dir(make_bundle: Make, tmp_path: Path) -> Path:
    return make_run(make_bundle, tmp_path / "run")


def test_a_run_folder_is_its_bundle_with_the_pictures_that_are_there(run_dir: Path) -> None:
    bundle, study = find(run_dir)
    assert bundle == run_dir / "bundle"
    assert study.gallery is not None
    assert [shown.file for shown in study.gallery.shown] == ["pictures/best.png"]
    assert list(study.pictures) == ["pictures/best.png"]
    assert [score.id for score in study.gallery.scores] == ["07L", "<b>08R</b>"]


def test_a_bundle_alone_shows_no_study(run_dir: Path) -> None:
    bundle, study = find(run_dir / "bundle")
    assert (bundle, study.gallery, study.pictures) == (run_dir / "bundle", None, {})
    assert find(run_dir / "gone")[0] == run_dir / "gone"
    (run_dir / "summary.json").write_text('{"images": null}')
    assert find(run_dir)[1].gallery is None


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[1]",
        '{"images": 3}',
        '{"images": {"metric": "m", "scores": [], "shown": [{"file": "../x.png", "caption": ""}]}}',
        '{"images": {"metric": "m", "scores": [], "shown": [{"file": "pictures/../../a.png", '
        '"caption": ""}]}}',
    ],
)
def test_a_damaged_summary_is_refused(run_dir: Path, content: str) -> None:
    (run_dir / "summary.json").write_text(content)
    with pytest.raises(Misuse, match=r"summary.json: missing or damaged \(.*serve its bundle"):
        find(run_dir)


def test_what_is_no_picture_or_leads_elsewhere_is_not_served(run_dir: Path) -> None:
    best = run_dir / "pictures" / "best.png"
    best.unlink()
    best.symlink_to(run_dir / "pictures" / "other.png")
    assert find(run_dir)[1].pictures == {}
    best.unlink()
    best.write_text("<script>")
    assert find(run_dir)[1].pictures == {}


def test_only_the_pictures_of_the_gallery_can_be_had(run_dir: Path, tmp_path: Path) -> None:
    with serving(run_dir, tmp_path / "complaints.txt") as server, server.client() as client:
        gallery = client.get("/api/gallery").json()
        assert [shown["file"] for shown in gallery["shown"]] == ["pictures/best.png"]
        answer = client.get("/pictures/best.png")
        assert answer.headers["content-type"] == "image/png"
        assert answer.content == encoded(noise())
        for path in ("other.png", "worst.png", "../summary.json", "%2e%2e/summary.json", ""):
            assert client.get(f"/pictures/{path}").status_code == 404
