"""report.html in a real browser without network: a simulated study of 500 trials."""

import io
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from big_study import TRIALS, simulate_study
from browser import Opened, chromium, open_page
from PIL import Image

from r2search.report.html import write_report
from r2search.report.pictures import ERRORS

FIGURES = (
    "time flops curves images parallel importance slice-train.lr slice-model.depth "
    "slice-model.block cost-parameters cost-epoch_flops cost-epoch_s spent"
).split()
WIDE, NARROW = {"width": 1180, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("big")
    summary, trials = simulate_study(folder)
    picture = io.BytesIO()
    Image.new("RGB", (1330, 380), "navy").save(picture, format="PNG")
    write_report(folder / "report.html", summary, trials, [("The best image", picture.getvalue())])
    return folder / "report.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


def opened(browser: Any, report: Path, **settings: Any) -> Opened:
    return open_page(browser, report.as_uri(), **{"viewport": WIDE} | settings)


def draw_all(page: Any) -> list[str]:
    """Scroll through the page until every figure is drawn; how each is: light or dark."""
    plots = page.locator(".plot")
    for number in range(plots.count()):
        plots.nth(number).scroll_into_view_if_needed()
        plots.nth(number).locator("xpath=self::*[@data-drawn]").wait_for()
    return [plots.nth(number).get_attribute("data-drawn") for number in range(plots.count())]


def test_a_page_of_500_trials_opens_in_two_seconds_and_stays_below_15_mb(
    browser: Any, report: Path
) -> None:
    assert report.stat().st_size < 15e6
    session = browser.new_browser_cdp_session()

    def renderer_seconds() -> float:  # of the processor: other work changes it little
        processes = session.send("SystemInfo.getProcessInfo")["processInfo"]
        return float(sum(p["cpuTime"] for p in processes if p["type"] == "renderer"))

    before, began = renderer_seconds(), time.monotonic()
    page = opened(browser, report).page
    took, waited = renderer_seconds() - before, time.monotonic() - began
    assert page.locator("table.sortable tbody tr").count() == TRIALS + 1
    page.locator(".plot[data-drawn]").first.wait_for()
    shown = time.monotonic() - began
    print(f"seconds until the page stands: {waited:.2f} ({took:.2f} of the processor)")
    print(f"until its first figure: {shown:.2f}")
    assert took < 2.0
    drawn = page.locator(".plot[data-drawn]").count()
    assert drawn < page.locator(".plot").count() / 2, "others are drawn when they come into view"
    page.close()


def test_every_figure_is_drawn_and_its_title_says_what_it_shows(browser: Any, report: Path) -> None:
    shown = opened(browser, report)
    states = draw_all(shown.page)
    assert set(states) == {"light"}
    for name in FIGURES:
        figure = shown.page.locator(f"figure:has([id='figure-{name}'])")
        assert figure.locator("svg.main-svg").first.bounding_box()["height"] > 150
        assert len(figure.locator("h3").inner_text().split()) > 2
    dots = "#figure-time .scatterlayer path.point"
    assert shown.page.locator(dots).count() >= TRIALS
    assert shown.errors == []
    shown.page.close()


def test_brushing_an_axis_leaves_its_trials_in_the_table(browser: Any, report: Path) -> None:
    shown = opened(browser, report)
    page = shown.page
    page.locator("#figure-parallel").scroll_into_view_if_needed()
    page.locator(".plot[data-drawn] #figure-parallel").wait_for()
    axis = page.locator("#figure-parallel .axis-brush .background").last.bounding_box()
    x, top = axis["x"] + axis["width"] / 2, axis["y"]
    page.mouse.move(x, top + axis["height"] * 0.15)
    page.mouse.down()
    page.mouse.move(x, top - 10, steps=4)
    page.mouse.up()
    page.locator(".brushed:not(:empty)").wait_for()
    rows = page.locator("table.sortable tbody tr:visible")
    kept = rows.count()
    assert 0 < kept < TRIALS / 4
    assert page.locator(".brushed").inner_text().startswith(f"{kept} of ")
    values = [float(text) for text in rows.locator("td:nth-child(3)").all_inner_texts()]
    hidden = page.locator("table.sortable tbody tr[hidden]:not(:has(small)) td:nth-child(3)")
    others = [float(text) for text in hidden.all_text_contents() if text]
    assert min(values) >= max(others) - 0.002, "those of the highest values are left"
    assert shown.errors == []
    page.close()


def test_on_a_narrow_screen_nothing_sticks_out(browser: Any, report: Path) -> None:
    shown = opened(browser, report, viewport=NARROW)
    draw_all(shown.page)
    assert shown.page.evaluate("document.documentElement.scrollWidth") == NARROW["width"]
    assert shown.errors == []
    shown.page.close()


def test_a_dark_screen_gets_a_dark_page_and_light_lines(browser: Any, report: Path) -> None:
    shown = opened(browser, report, color_scheme="dark")
    shown.page.locator(".plot[data-drawn=dark] #figure-time").wait_for()
    backgrounds = shown.page.evaluate(
        "[document.body, document.querySelector('section')]"
        ".map(e => getComputedStyle(e).backgroundColor.match(/\\d+/g).map(Number))"
    )
    assert max(max(colour) for colour in backgrounds) < 60
    figures = shown.page.locator("#figure-time svg.main-svg").first
    assert "rgb(23, 29, 38)" in figures.get_attribute("style")
    label = shown.page.locator("#figure-time .xtick text").first
    assert "rgb(226, 231, 238)" in label.get_attribute("style")
    assert shown.errors == []
    shown.page.close()


def test_a_screen_that_turns_light_while_figures_are_drawn_gets_them_all_light(
    browser: Any, report: Path
) -> None:
    shown = opened(browser, report, color_scheme="dark")
    shown.page.locator(".plot[data-drawn]").first.wait_for()
    shown.page.emulate_media(color_scheme="light")
    draw_all(shown.page)
    shown.page.wait_for_function("!document.querySelector('.plot[data-drawn=dark]')")
    assert shown.errors == []
    shown.page.close()


def test_the_errors_in_pictures_differ_in_lightness_for_every_kind_of_colour_vision() -> None:
    light = sorted(0.299 * r + 0.587 * g + 0.114 * b for r, g, b in ERRORS.values())
    assert min(high - low for low, high in pairwise(light)) > 20
