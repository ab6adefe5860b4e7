"""Take the pictures of the page anew: `python docs/photograph.py [TEXT] [MINUTES]` trains a model and walks its rooms.

It takes playwright and a chromium at /usr/bin/chromium; TEXT is Shakespeare and MINUTES 1 where they are not given.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from playwright.sync_api import Locator, Page, sync_playwright

import octavo

PICTURES = Path(__file__).resolve().parent / "pictures"
SIZE = {"width": 1280, "height": 800}  # a picture of it takes about a hundred kilobytes
BEGINNING = "ROMEO:\nWhat is"
FLAGS = ["--no-sandbox", "--disable-gpu"]


@contextmanager
def served(run: Path) -> Iterator[str]:
    """The address of a page on this run, for as long as it is needed."""
    words = [sys.executable, "-m", "octavo", "serve", str(run), "--port", "0"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            yield next(found[1] for line in process.stderr if (found := re.search(r"the page is at (\S+)", line)))
        finally:
            process.terminate()


def opened(page: Page, home: str, room: str) -> Page:
    """A room that is ready."""
    page.goto(f"{home}/{room}")
    page.locator("body[data-ready]").wait_for()
    return page


def learn(page: Page) -> Locator:
    """A training's losses, with those of plain counting."""
    page.locator(".level text").last.wait_for()
    return page.locator(".facts.wide")


def play(page: Page) -> Locator:
    """Two texts, and what else a token might have been."""
    for name, value in {"Beginning": BEGINNING, "Side by side": "2", "Seed": "1", "Tokens": "110"}.items():
        page.get_by_label(name, exact=True).fill(value)
    page.get_by_role("button", name="Write").click()
    page.locator(".page-leaf footer button:visible").nth(1).wait_for()
    page.locator(".token").nth(30).hover()
    return page.locator(".desk")


def look(page: Page) -> Locator:
    """The heads, and where one of them looks."""
    page.locator(".head-cell").last.click()
    page.get_by_role("heading", name=re.compile("Layer .*, head")).wait_for()
    page.locator(".tokens .token").nth(-4).click()
    page.mouse.move(0, 0)
    page.evaluate("document.activeElement.blur()")
    return page.locator(".layer").nth(-3)


def talk(page: Page) -> Locator:
    """Two turns of a conversation."""
    for words in ("My lord, I", "The king is"):
        page.get_by_label("Your words").fill(words)
        page.keyboard.press("Enter")
        page.locator(".talk-desk .primary:enabled").wait_for()
    page.get_by_label("Your words").evaluate("(one) => one.blur()")
    return page.locator(".head")


def main(text: str = "shakespeare", minutes: str = "1") -> None:
    """All four pictures."""
    torch.set_num_threads(1)  # so small a model is slowed by more
    with TemporaryDirectory() as scratch, sync_playwright() as playwright:
        run = octavo.train(text, minutes=float(minutes), split=0.9, out=Path(scratch) / "shakespeare")
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        with served(run) as home:
            for walk in (learn, play, look, talk):
                page = browser.new_page(viewport=SIZE, color_scheme="light", reduced_motion="reduce")
                top = walk(opened(page, home, walk.__name__))
                top.evaluate("(one) => scrollTo(0, one.getBoundingClientRect().top + scrollY - 24)")
                page.wait_for_timeout(500)
                page.screenshot(path=PICTURES / f"{walk.__name__}.png")
                page.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
