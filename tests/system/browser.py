"""A person at Airflow's UI: headless Chromium, and pictures of what it shows."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from playwright.sync_api import Page, expect, sync_playwright

from demo.airflow import Login
from demo.shop import ROOT

CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WITHIN_MS = 120_000
IMAGES = ROOT / "docs" / "images"
HIDE_PATHS = """() => document.querySelectorAll("p").forEach(line => {
    if (line.textContent.startsWith('File "')) line.style.display = "none"
})"""
"""Pictures show no folder of the machine that they were taken on."""
KEEP = "BLUEGREEN_IMAGES"
"""Set to write the pictures of the documents anew; else they are taken and thrown away."""


class Browser:
    """
    One person, logged in.

    :param page: the browser's
    :param url: Airflow's
    :param folder: where pictures go
    """

    def __init__(self, page: Page, url: str, folder: Path) -> None:
        self.page, self.url, self.folder = page, url, folder

    def login(self, login: Login) -> None:
        self.page.goto(self.url)
        self.page.fill("input[name=username]", login.user)
        self.page.fill("input[type=password]", login.password)
        self.page.click("button[type=submit]")
        expect(self.page.get_by_role("link", name="Dags").first).to_be_visible()

    def open(self, *parts: str, query: str = "") -> None:
        self.page.goto(f"{self.url}/{'/'.join(quote(part, safe='') for part in parts)}{query}")

    def close(self) -> None:
        """Leave Airflow: an open page asks it for news all the time, which costs a small machine much."""
        self.page.goto("about:blank")

    def sees(self, text: str) -> None:
        """Wait until a text is there to be read."""
        expect(self.page.get_by_text(text).first).to_be_visible()

    def picture(self, name: str, clip: Any = None) -> Path:
        """Take a picture once nothing moves any more."""
        self.page.wait_for_load_state("networkidle")
        self.page.evaluate(HIDE_PATHS)
        self.page.wait_for_timeout(800)  # animations
        path = self.folder / f"{name}.png"
        self.page.screenshot(path=path, clip=clip)
        return path

    def text(self) -> str:
        return self.page.inner_text("body")


@contextmanager
def browser(url: str, login: Login, folder: Path) -> Iterator[Browser]:
    """A logged-in browser whose pictures go to ``folder``, or to the documents where somebody asks for that."""
    images = IMAGES if os.environ.get(KEEP) else folder
    images.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        chromium: Any = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = chromium.new_page(viewport={"width": 1400, "height": 740})
        page.set_default_timeout(WITHIN_MS)
        expect.set_options(timeout=WITHIN_MS)
        found = Browser(page, url, images)
        found.login(login)
        yield found
        chromium.close()
