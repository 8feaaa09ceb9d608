"""
Debian's Chromium, driven by playwright: pages, what they ask for, and what axe says of them.

Where it is not installed the test is skipped, and the end of the run says so; with
JTR_TOOLS_REQUIRED=1, as in CI, it fails.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Dialog,
    Page,
    Request,
    sync_playwright,
)

from tests.deploy.tools import tool

WIDE = {"width": 1280, "height": 900}
NARROW = {"width": 320, "height": 640}
ZOOMED = {"width": 640, "height": 450}  # 1280 by 900 at 200 %
PATIENCE = 30_000.0  # milliseconds that something may take on a machine with much else to do


@dataclass
class Tab:
    """One page in a context of its own, and all that it did besides being shown."""

    page: Page
    origin: str
    errors: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)

    def heed(self) -> None:
        """Note what goes on."""

        def console(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning"):
                self.errors.append(message.text)

        def request(found: Request) -> None:
            self.asked.append(found.url)

        self.page.on("console", console)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", request)

        def dialog(found: Dialog) -> None:
            self.dialogs.append(found.message)
            found.dismiss()

        self.page.on("dialog", dialog)

    def open(self, path: str) -> None:
        self.page.goto(self.origin + path, wait_until="load")

    def foreign(self) -> list[str]:
        """What was asked of anybody else."""
        return [url for url in self.asked if not url.startswith((self.origin + "/", "data:"))]

    def sound(self) -> None:
        """Nothing went wrong, nothing ran that is not ours, nobody else was asked."""
        assert self.errors == []
        assert self.dialogs == []
        assert self.foreign() == []

    def accessible(self) -> None:
        """axe finds nothing, and nothing has to be scrolled sideways."""
        found = Axe().run(self.page).response["violations"]
        assert [(one["id"], [node["html"] for node in one["nodes"]][:2]) for one in found] == []
        assert self.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start it for a module; its event loop holds the thread for as long."""
    path = tool("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def tab(browser: Browser, url: str, **options: Any) -> Iterator[Tab]:
    parts = urlsplit(url)
    context: BrowserContext = browser.new_context(**({"viewport": WIDE} | options))
    context.set_default_timeout(PATIENCE)
    try:
        made = Tab(context.new_page(), f"{parts.scheme}://{parts.netloc}")
        made.heed()
        yield made
    finally:
        context.close()
