"""The page in a real browser: from an image to its mask, numbers and files."""

import base64
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from browser import Opened, chromium, open_page
from PIL import Image
from servers import Server, encoded, noise

DARK, PHONE = {"color_scheme": "dark"}, {"viewport": {"width": 360, "height": 740}}
IMAGE = encoded(noise(60, 80, seed=3))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def open_at(browser: Any) -> Iterator[Callable[..., Opened]]:
    """`open_at(server, **settings)`: its page; at the end it must have complained of nothing."""
    pages = []

    def open_it(server: Server, **settings: Any) -> Opened:
        opened = open_page(browser, server.url, **settings)
        pages.append(opened)
        opened.page.wait_for_selector("#subtitle:not(:empty)")
        return opened

    yield open_it
    for opened in pages:
        opened.page.close()
    assert [error for opened in pages for error in opened.errors] == []


def upload(page: Any, *images: tuple[str, bytes]) -> None:
    """Choose images, and wait until all have been answered."""
    with TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name, _ in images]
        for path, (_, content) in zip(paths, images, strict=True):
            path.write_bytes(content)
        page.set_input_files("#pick", paths)
        await_all(page)


def await_all(page: Any) -> None:
    strip = page.locator(".strip button")
    strip.first.wait_for(state="attached")
    for number in range(strip.count()):
        finished = strip.nth(number).filter(has_text=re.compile("done|not taken"))
        finished.wait_for(state="attached", timeout=60_000)


def areas(page: Any) -> list[list[str]]:
    rows = page.locator("#areas tr").all()
    return [[cell.inner_text() for cell in row.locator("th, td").all()] for row in rows]


def shown(page: Any) -> bytes:
    return base64.b64decode(
        page.evaluate("document.getElementById('canvas').toDataURL()").split(",")[1]
    )


def set_slider(page: Any, which: str, value: int) -> None:
    page.locator(which).fill(str(value))


def saved(page: Any, what: str, folder: Path) -> tuple[str, Path]:
    with page.expect_download() as download:
        page.click(f"[data-save={what}]")
    path = folder / what
    download.value.save_as(path)
    return download.value.suggested_filename, path


def told(server: Server, **query: object) -> list[list[str]]:
    """The rows of the table that the server's own numbers make."""
    answer = server.post(IMAGE, **query).json()
    return [
        [a["name"], f"{a['pixels']:,}", f"{a['percent']:.2f}", f"{a['pieces']:,}"]
        for a in answer["classes"]
    ]


def test_from_an_image_to_numbers_sliders_and_files(
    server: Server, open_at: Callable[..., Opened], tmp_path: Path
) -> None:
    page = open_at(server).page
    assert page.inner_text("h1") == "made-up: foreground"
    assert page.locator("text=Not a medical device").is_visible()
    assert page.locator("#synthetic").is_hidden()
    upload(page, ("eye.png", IMAGE))
    assert page.inner_text("#name") == "eye.png"
    assert areas(page) == told(server)

    # The threshold acts in the browser; the numbers are those that the server would tell.
    files = server.post(IMAGE, files="probability").json()["files"]
    probability = np.asarray(Image.open(io.BytesIO(base64.b64decode(files["probability"][0]))))
    percents = sorted({round(100 * np.quantile(probability / 65535, q)) for q in (0.1, 0.5, 0.9)})
    assert len(percents) == 3
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    for percent in percents:
        set_slider(page, "#threshold", percent)
        assert areas(page) == told(server, threshold=percent / 100)
    assert requests == []

    name, path = saved(page, "mask", tmp_path)
    assert name == "eye_mask.png"
    mask = Image.open(path)
    assert mask.mode == "L"
    assert (np.asarray(mask) == np.where(probability / 65535 >= percents[-1] / 100, 255, 0)).all()
    name, path = saved(page, "probability", tmp_path)
    assert (name, path.read_bytes()) == (
        "eye_probability.png",
        base64.b64decode(files["probability"][0]),
    )
    before = shown(page)
    set_slider(page, "#opacity", 5)
    assert shown(page) != before
    name, path = saved(page, "overlay", tmp_path)
    assert (name, Image.open(path).size) == ("eye_overlay.png", (80, 60))
    page.click("#reset")
    assert areas(page) == told(server)


def test_each_view_shows_something_else(server: Server, open_at: Callable[..., Opened]) -> None:
    page = open_at(server).page
    upload(page, ("eye.png", IMAGE))
    views = set()
    for view in ("overlay", "mask", "probability", "picture"):
        page.locator(f"[for=view-{view}]").click()
        views.add(shown(page))
    assert len(views) == 4
    pixels = np.asarray(Image.open(io.BytesIO(shown(page))).convert("RGB"))
    assert np.abs(pixels.astype(int) - noise(60, 80, seed=3)).mean() < 20  # it was a JPEG


def test_a_bad_file_is_explained_and_the_good_one_beside_it_is_shown(
    server: Server, open_at: Callable[..., Opened]
) -> None:
    opened = open_at(server)
    page = opened.page
    upload(page, ("notes.png", b"no image"), ("eye.png", IMAGE), ("big.png", bytes(20_000_001)))
    assert "notes.png: is not an image of a known kind" in page.inner_text("#failure")
    assert page.locator("#result").is_hidden()
    # All of it by keyboard.
    page.locator(".strip button").nth(1).focus()
    page.keyboard.press("Enter")
    assert page.locator("#failure").is_hidden()
    assert areas(page) == told(server)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert "big.png: is larger than 20 MB" in page.inner_text("#failure")
    (refusal,) = opened.errors  # the browser's own line about the first; the last was not sent
    assert "415" in refusal
    opened.errors.clear()


def test_the_best_and_worst_images_of_the_study_are_shown_until_ones_own_are(
    gallery: Server, open_at: Callable[..., Opened]
) -> None:
    page = open_at(gallery, **PHONE).page
    page.wait_for_selector("#gallery img", state="visible")
    assert page.locator("#gallery img").evaluate_all("all => all.map(i => i.naturalWidth)") == [48]
    assert page.inner_text("#scores-title") == "dice_mean of each image"
    rows = page.locator("#scores tr").all_inner_texts()
    assert [row.split() for row in rows] == [["07L", "0.810"], ["<b>08R</b>", "0.700"]]
    assert page.locator("#scores b").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= page.evaluate("innerWidth")
    assert "07L" in page.inner_text("#pictures figcaption")
    upload(page, ("eye.png", IMAGE))
    assert page.locator("#pictures").is_hidden()
    page.click("#gallery summary")
    assert page.locator("#pictures img").is_visible()


def test_a_server_that_is_gone_is_said(server: Server, open_at: Callable[..., Opened]) -> None:
    opened = open_at(server)
    opened.page.context.set_offline(True)
    upload(opened.page, ("eye.png", IMAGE))
    assert "eye.png: the server does not answer" in opened.page.inner_text("#failure")
    opened.errors.clear()


def test_markup_in_a_name_is_text(server: Server, open_at: Callable[..., Opened]) -> None:
    page = open_at(server).page
    name = "<img src=x onerror=alert(1)>.png"
    upload(page, (name, IMAGE))
    assert page.inner_text("#name") == name
    assert page.locator("main img[src=x]").count() == 0


DATA = """([content, kind]) => {
  const file = new File([Uint8Array.from(content)], "given.png", {type: "image/png"});
  const data = new DataTransfer();
  data.items.add(file);
  const event = kind === "paste"
    ? new ClipboardEvent("paste", {clipboardData: data, bubbles: true})
    : new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true});
  document.body.dispatchEvent(event);
}"""


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_images_can_be_dropped_and_pasted(
    way: str, server: Server, open_at: Callable[..., Opened]
) -> None:
    page = open_at(server).page
    page.evaluate(DATA, [list(IMAGE), way])
    await_all(page)
    assert areas(page) == told(server)


def test_several_classes_have_a_legend_and_no_threshold(
    organs: Server, open_at: Callable[..., Opened], tmp_path: Path
) -> None:
    page = open_at(organs).page
    assert "synthetic" in page.inner_text("#synthetic")
    upload(page, ("slice.png", IMAGE))
    assert page.locator("#threshold").is_hidden()
    assert page.locator("[for=view-probability]").is_hidden()
    assert areas(page) == told(organs)
    assert [row[0] for row in areas(page)] == ["class 1 (mask value 7)", "class 2 (mask value 130)"]
    swatches = page.locator(".swatch").evaluate_all("all => all.map(each => each.style.background)")
    assert swatches == ["rgb(0, 229, 255)", "rgb(255, 214, 0)"]
    _, path = saved(page, "mask", tmp_path)
    mask = base64.b64decode(organs.post(IMAGE).json()["files"]["mask"][0])
    assert (np.asarray(Image.open(path)) == np.asarray(Image.open(io.BytesIO(mask)))).all()
    page.click("#about summary")
    page.wait_for_selector("#sample img", state="visible")
    assert page.locator("#sample img").evaluate("image => image.naturalWidth") == 48


@pytest.mark.parametrize("settings", [{}, DARK, PHONE, DARK | PHONE], ids=str)
def test_it_fits_and_can_be_read_in_any_light_and_width(
    settings: dict[str, Any], server: Server, open_at: Callable[..., Opened]
) -> None:
    page = open_at(server, **settings).page
    upload(page, ("a rather long name of an image.png", IMAGE), ("b.png", IMAGE))
    for details in page.locator("details:not([hidden]) > summary").all():
        details.click()
    width = page.evaluate("innerWidth")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for text, on in (("h1", "body"), (".quiet", "body"), ("#areas th", ".result")):
        ink, paper = (
            page.locator(at).first.evaluate(COLOUR, of)
            for at, of in ((text, "color"), (on, "backgroundColor"))
        )
        assert contrast(ink, paper) >= 4.5, (text, ink, paper)


COLOUR = "(element, of) => getComputedStyle(element)[of].match(/\\d+/g).slice(0, 3).map(Number)"


def contrast(one: list[int], other: list[int]) -> float:
    """The contrast ratio of two colours, as WCAG 2 has it."""

    def luminance(colour: list[int]) -> float:
        shares = [value / 255 for value in colour]
        linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)
