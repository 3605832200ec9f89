"""A page in headless Chromium that can resolve no name and reach nothing but this machine."""

import contextlib
import os
import pathlib
import subprocess
import urllib.parse

from playwright.sync_api import sync_playwright

PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1280, "height": 900}

# Without the network flags Chromium looks for updates and settings of its maker at every start.
FLAGS = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
]


class Outside(Exception):
    """The page asked for something that is not on this machine."""


@contextlib.contextmanager
def open_page(viewport):
    """A new page; asking for anything beyond loopback, or an error in a script, fails the test at its end."""
    chromium = subprocess.run(
        [pathlib.Path(__file__).with_name("chromium")], check=True, capture_output=True, text=True
    ).stdout.strip()
    # Chromium's sandbox refuses to run as root.
    flags = FLAGS + (["--no-sandbox"] if os.geteuid() == 0 else [])
    problems = []

    def watch(request):
        parts = urllib.parse.urlsplit(request.url)
        if parts.scheme in ("http", "https", "ws", "wss") and not parts.hostname.startswith("127."):
            problems.append(f"asked for {request.url}")

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=flags)
        try:
            page = browser.new_page(viewport=viewport)
            page.on("request", watch)
            page.on("pageerror", lambda error: problems.append(f"script error: {error}"))
            yield page
        finally:
            browser.close()
    if problems:
        raise Outside("; ".join(problems))


def assert_fits(page):
    """Nothing scrolls sideways."""
    width, seen = page.evaluate("[document.scrollingElement.scrollWidth, document.scrollingElement.clientWidth]")
    assert width <= seen, f"the page is {width} px wide, the window shows {seen}"


def wanted():
    """Whether SCREENSHOTS names a folder for pictures."""
    return bool(os.environ.get("SCREENSHOTS"))


def screenshot(page, name):
    """Keeps a picture, if they are wanted."""
    if wanted():
        page.screenshot(path=str(pathlib.Path(os.environ["SCREENSHOTS"]) / f"{name}.png"))
