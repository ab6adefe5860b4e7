"""Take the pictures of the page anew: `python docs/photograph.py [TEXT] [MINUTES]` trains a model and walks its rooms.

It takes playwright and a chromium at /usr/bin/chromium; TEXT is Shakespeare and MINUTES 1 where they are not given.
"""

import re
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from playwright.sync_api import Locator, Page, sync_playwright

import octavo

HERE = Path(__file__).resolve().parent
SIZE = {"width": 1280, "height": 800}  # a picture of it takes about a hundred kilobytes
BEGINNING = "ROMEO:\nWhat is"
FLAGS = ["--no-sandbox", "--disable-gpu"]


def opened(page: Page, port: int, room: str) -> Page:
    """A room that is ready."""
    page.goto(f"http://127.0.0.1:{port}/{room}")
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
    sys.path.append(str(HERE.parent / "benchmarks"))
    from serving import OCTAVO

    torch.set_num_threads(1)  # so small a model is slowed by more
    with TemporaryDirectory() as scratch:
        run = octavo.train(text, minutes=float(minutes), split=0.9, out=Path(scratch) / "shakespeare")
        with OCTAVO.started(run) as server, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
            for walk in (learn, play, look, talk):
                page = browser.new_page(viewport=SIZE, color_scheme="light", reduced_motion="reduce")
                top = walk(opened(page, server.port, walk.__name__))
                top.evaluate("(one) => scrollTo(0, one.getBoundingClientRect().top + scrollY - 24)")
                page.wait_for_timeout(500)
                page.screenshot(path=HERE / "pictures" / f"{walk.__name__}.png")
                page.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
