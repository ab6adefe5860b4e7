"""How quick the page is: its rooms and the look inside a model of six layers, in a browser, with the server's share.

    python benchmarks/page.py            # about a minute
    python benchmarks/page.py --turns 15

It takes playwright and a chromium at /usr/bin/chromium. What is timed is what a person waits for: from the key or the
press until the frame with the new picture is painted.
"""

import argparse
import json
import random
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright
from serving import OCTAVO, small_model

LETTERS = "abcdefghijklmnopqrstuvwxyz .,\n"
TOKENS = 256
SIZE = {"width": 1280, "height": 900}
FLAGS = ["--no-sandbox", "--disable-gpu"]
PATIENCE = 20_000  # milliseconds
TOKEN_LIST = ".token-list .tokens"
DRAWN = (TOKEN_LIST, ".heads", ".attention canvas")
# Begins when `act` is called; ends when the frame is painted that has the last change of what `selector` names, once
# `done` holds: a message that is sent in a frame comes when that is painted.
TIMED = """async ([act, selector, done]) => {
  const finished = new Function(`return ${done}`);
  let last = 0;
  const painted = () => new Promise((resolve) => requestAnimationFrame(() => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = ((seen) => () => resolve(seen))(last);
    port2.postMessage(null);
  }));
  const seen = new MutationObserver(() => (last = performance.now()));
  for (const one of document.querySelectorAll(selector)) {
    seen.observe(one, { attributes: true, childList: true, subtree: true, characterData: true });
  }
  const begin = performance.now();
  new Function(act)();
  let end = 0;
  for (let drawn = 0; performance.now() - begin < 10000;) {
    const shown = await painted();
    if (!shown || !finished()) continue;
    if (shown === drawn) {
      if (performance.now() - drawn > 300) break;
      continue;
    }
    drawn = shown;
    end = performance.now();
  }
  seen.disconnect();
  return end - begin;
}"""


def written(seed: int) -> str:
    """A text that fills the context, of words that come again."""
    draw = random.Random(seed)
    words = ["".join(draw.choice(LETTERS[:26]) for _ in range(draw.randrange(2, 9))) for _ in range(20)]
    return " ".join(draw.choice(words) for _ in range(TOKENS))[:TOKENS]


def opened(browser: Browser, home: str, room: str) -> tuple[Page, float, float]:
    """A room in a browser that knows nothing of it, with the milliseconds to its first paint and until it is ready."""
    page = browser.new_context(viewport=SIZE, reduced_motion="reduce").new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(f"{home}/{room}")
    page.locator("body[data-ready]").wait_for()
    ready = page.evaluate("performance.now()")
    page.wait_for_function("performance.getEntriesByName('first-contentful-paint').length > 0")
    paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    return page, paint, ready


def rooms(browser: Browser, home: str, turns: int) -> Iterator[tuple[str, list[float]]]:
    """What passes before there is something to see, and before it can be used."""
    for room in ("play", "look"):
        paints, readies = [], []
        for _ in range(turns + 1):
            page, paint, ready = opened(browser, home, room)
            page.context.close()
            paints.append(paint)
            readies.append(ready)
        yield f"{room}: first paint", paints[1:]  # the first of all reads the files from the disk
        yield f"{room}: ready", readies[1:]


def timed(page: Page, act: str, selector: str, done: str = "true") -> float:
    """Milliseconds from what is done until it is painted."""
    found: float = page.evaluate(TIMED, [act, selector, done])
    if not found:
        raise RuntimeError(f"nothing came of {act}")
    return found


def heads(page: Page, turns: int) -> list[float]:
    """Another head, in turn of the same layer and of another."""
    count = page.locator(".head-cell").count()
    places = [(5 * turn + turn % 2) % count or 1 for turn in range(1, turns + 1)]
    press = "document.querySelectorAll('.head-cell')[{}].click()"
    return [timed(page, press.format(place), ".attention canvas") for place in places]


def tokens(page: Page, turns: int) -> list[float]:
    """Another token, with what each part says of it."""
    press = "document.querySelectorAll('.token-list .token')[{}].click()"
    places = [(37 * turn) % TOKENS for turn in range(1, turns + 1)]
    return [timed(page, press.format(place), ".attention canvas, .tokens") for place in places]


def read(page: Page, texts: list[str], *seen: str) -> list[float]:
    """Texts that are looked at one after the other, until what is named of them is drawn anew."""
    found = []
    for text in texts:
        write = f"const one = document.querySelector('textarea'); one.value = {json.dumps(text)};"
        write += "one.dispatchEvent(new InputEvent('input', { bubbles: true }))"
        shown = "[...document.querySelectorAll('.token-list .token')].map((one) => one.textContent).join('')"
        done = f"{shown} === {json.dumps(text)}"
        found.append(timed(page, write, ", ".join(seen or DRAWN), done))
    return found


def letters(page: Page, turns: int) -> list[float]:
    """A letter more, or one less."""
    text = written(1)
    read(page, [text])
    return read(page, [text[: TOKENS - (turn + 1) % 2] for turn in range(turns)])


def texts(page: Page, turns: int) -> list[float]:
    """Texts that have nothing to do with those before: their tokens and how surprising each was."""
    return read(page, [written(turn + 1) for turn in range(turns)], TOKEN_LIST)


def pictures(page: Page, turns: int) -> list[float]:
    """The same until all that is in sight is drawn, the heads and their arcs last."""
    return read(page, [written(turn + 1) for turn in range(turns)])


def layers(page: Page, turns: int) -> list[float]:
    """The same where what each layer would say is in sight."""
    page.locator(".lens").scroll_into_view_if_needed()
    page.wait_for_timeout(1000)
    return read(page, [written(turn + 50) for turn in range(turns)], *DRAWN, ".lens")


def asked(home: str, path: str, bodies: list[dict[str, object]]) -> list[float]:
    """Milliseconds that the server takes for an answer."""
    found = []
    for body in bodies:
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{home}{path}", json.dumps(body).encode(), headers)
        begin = time.perf_counter()
        with urllib.request.urlopen(request, timeout=60) as answer:
            answer.read()
        found.append(1000 * (time.perf_counter() - begin))
    return found[1:]


def measured(home: str, browser: Browser, turns: int) -> Iterator[tuple[str, list[float]]]:
    """All figures, each under its name."""
    yield from rooms(browser, home, turns)
    page, _, _ = opened(browser, home, "look")
    texts(page, 2)  # so that what is made once is made
    for name, times in (
        ("another head", heads),
        ("another token", tokens),
        ("another letter", letters),
        ("another text, its tokens", texts),
        ("another text, all of it", pictures),
        ("the layers of another text", layers),
    ):
        yield f"look: {name}", times(page, turns)
    bodies: list[dict[str, object]] = [{"text": written(100 + turn), "layer": 0} for turn in range(turns + 1)]
    for part in ("look", "heads"):
        yield f"look: another text, the server's share, {part}", asked(home, f"/page/{part}", bodies)


def row(name: str, times: list[float], aims: Callable[[str], str]) -> str:
    """A line of the table."""
    return f"| {name} | {statistics.median(times):,.0f} ms | {max(times):,.0f} ms | {aims(name)} |"


def aim(name: str) -> str:
    """What it may take."""
    if name.endswith("first paint"):
        return "1,000 ms"
    return "100 ms" if name.startswith("look: another") and "share" not in name else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=9, help="how often each is timed")
    turns = parser.parse_args().turns
    with tempfile.TemporaryDirectory() as folder:
        model = small_model(Path(folder) / "six", context=TOKENS, heads=4, width=192)
        with OCTAVO.started(model) as server, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
            print(f"| six layers, {TOKENS} tokens; {turns} times each | median | slowest | aim |\n|---|---|---|---|")
            for name, times in measured(f"http://127.0.0.1:{server.port}", browser, turns):
                print(row(name, times, aim), flush=True)
            browser.close()


if __name__ == "__main__":
    main()
