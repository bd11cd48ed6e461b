"""Pages in a real headless Chromium that has no network but loopback."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest


@dataclass
class Opened:
    """A page, and what it complained of."""

    page: Any  # playwright's Page
    errors: list[str] = field(default_factory=list)  # of its console, and requests that failed


@contextmanager
def chromium() -> Iterator[Any]:
    """The browser of this machine, by playwright; the test is skipped where there is none."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("there is no chromium to open pages in")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path,
            args=["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"],
        )
        yield browser
        browser.close()


def open_page(browser: Any, address: str, **settings: Any) -> Opened:
    """A new page at an address; `settings` as `Browser.new_page` has them."""
    opened = Opened(browser.new_page(**settings))
    opened.page.on(
        "console",
        lambda message: message.type == "error" and opened.errors.append(message.text),
    )
    opened.page.on("pageerror", lambda error: opened.errors.append(str(error)))
    opened.page.on("requestfailed", lambda request: opened.errors.append(request.url))
    opened.page.goto(address)
    return opened
