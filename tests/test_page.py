"""The page in a browser: operated as people do, by pointer and by keyboard, and fed with what means it ill."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

import octavo
from hostile import hostile
from octavo import looking
from octavo.saved import snapshot_file, snapshots
from octavo.server.engine.engine import Engine
from octavo.server.gate import Rules
from octavo.server.models import Served
from test_learning import GENTLY, Room, ended
from test_server import KEY, MODELS, Running
from texts import sentences

CHROMIUM = Path("/usr/bin/chromium")
try:
    from axe_playwright_python.base import AXE_FILE_PATH
    from playwright.sync_api import Browser, Page, Request, Response, Route, expect, sync_playwright
except ImportError:
    CHROMIUM = Path("/nowhere")

pytestmark = pytest.mark.skipif(
    not CHROMIUM.exists(), reason="the page is tested with playwright, axe and /usr/bin/chromium"
)
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    *(f"--disable-{what}" for what in ("background-networking", "component-update", "sync", "quic")),
    "--no-first-run",
]
SPEAKERS = ("user", "assistant")
ROOMS = ("learn", "play", "look", "talk")
SIZE: Any = {"width": 1100, "height": 800}
SLOW = 20_000  # milliseconds that a busy machine may take
Json = dict[str, Any]


class Visit:
    """A page that is open, what it asked and what it complained of."""

    def __init__(self, page: "Page", base: str) -> None:
        self.page, self.base = page, base
        self.asked: list[tuple[str, Json]] = []
        self.complaints: list[str] = []
        page.set_default_timeout(SLOW)
        for event, hear in self.heard.items():
            page.on(event, hear)  # type: ignore[call-overload]

    @property
    def heard(self) -> dict[str, Callable[[Any], None]]:
        return {"console": self.complain, "pageerror": self.complain, "request": self.note, "response": self.listen}

    def leave(self) -> None:
        """Hear no more of the page, and have the service say what it says."""
        for event, hear in self.heard.items():
            self.page.remove_listener(event, hear)
        self.page.unroute_all(behavior="ignoreErrors")
        assert not self.complaints, "\n".join(self.complaints)

    def complain(self, said: Any) -> None:
        self.complaints.append(f"{said.type}: {said.text}" if hasattr(said, "type") else str(said))

    def note(self, request: "Request") -> None:
        if not request.url.startswith((self.base + "/", "blob:" + self.base)):
            self.complaints.append(f"a request to {request.url}")
        path = urlsplit(request.url).path
        if path.startswith(("/page/", "/v1/")):
            self.asked.append((path, json.loads(request.post_data or "{}")))

    def listen(self, answer: "Response") -> None:
        """What a refusal says, for whoever reads that there was one."""
        request = answer.request
        if answer.status >= 400:
            self.complaints.append(f"{request.method} {request.url} {request.post_data or ''}: {answer.text()}")

    def tell(self, path: str, turned: Callable[[Any], Any]) -> None:
        """Have the service say what it would not: its own answer turned into another."""

        def answer(route: "Route") -> None:
            route.fulfill(content_type="application/json", body=json.dumps(turned(route.fetch().json())))

        self.page.route(re.compile(f"{path}([?]|$)"), answer)

    def hold(self, path: str) -> list["Route"]:
        """Have what is asked at these paths wait for an answer, until it gets one: the routes, as they are asked."""
        held: list[Route] = []
        self.page.route(re.compile(f"{path}([?]|$)"), lambda route: held.append(route))
        return held

    def stream(self, path: str, *told: Any) -> None:
        """Have the API stream this instead of what it would."""
        body = "".join(f"data: {json.dumps(one)}\n\n" for one in told) + "data: [DONE]\n\n"
        words = {"content_type": "text/event-stream", "body": body.encode("utf-8", "replace")}
        self.page.route(re.compile(f"{path}$"), lambda route: route.fulfill(**words))

    def endlessly(self, path: str, ends: int) -> None:
        """Have the service never draw the token that ends a text: what is stopped must not have ended by itself."""

        def ask(route: "Route") -> None:
            route.continue_(post_data={**route.request.post_data_json, "logit_bias": {str(ends): -100}})

        self.page.route(re.compile(f"{path}$"), ask)

    def open(self, room: str) -> "Page":
        self.page.goto(f"{self.base}/{room}")
        self.page.locator("body[data-ready]").wait_for()
        return self.page

    def until(self, holds: Callable[[], bool]) -> None:
        for _ in range(SLOW // 20):
            if holds():
                return
            self.page.wait_for_timeout(20)
        raise AssertionError("it never came to that")

    def last(self, path: str) -> Json:
        return next(body for asked, body in reversed(self.asked) if asked == path)


SHAPE = {"layers": 2, "heads": 2, "width": 32, "context": 64, "batch": 8, "tokenizer": "character", "dropout": 0.0}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A model that has learned a little, and above all not to end its text."""
    folder = tmp_path_factory.mktemp("page")
    text = sentences(300)
    (folder / "text.txt").write_text(text + text[:300])  # what is held out is not all new
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OCTAVO_HOME", str(folder / "home"))  # where the report looks for the text
        patch.setattr("octavo.evaluation.SAMPLE_TOKENS", 8)
        patch.setattr("octavo.report.making.SAMPLES", 4)
        yield octavo.train(str(folder / "text.txt"), out=folder / "ada", steps=40, eval_every=20, **SHAPE)


@pytest.fixture(scope="module")
def running(run: Path) -> Iterator[Running]:
    ada = Served("ada", Engine(*octavo.load(run), bitwise=True), run=run, source=run)
    service = Running(Rules(), served=[ada, Served("chatty", Engine(*MODELS["chatty"]))])
    yield service
    service.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    expect.set_options(timeout=SLOW)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


@contextmanager
def visiting(browser: "Browser", port: int) -> Iterator[Visit]:
    context = browser.new_context(viewport=SIZE, reduced_motion="reduce")
    visit = Visit(context.new_page(), f"http://127.0.0.1:{port}")
    yield visit
    visit.leave()
    context.close()


@pytest.fixture(scope="module")
def tab(browser: "Browser") -> "Page":
    """One page for most tests: a new one is a new process for the browser, and all modules are compiled again."""
    return browser.new_context(viewport=SIZE, reduced_motion="reduce").new_page()


@pytest.fixture
def visit(tab: "Page", running: Running) -> Iterator[Visit]:
    """A page that remembers nothing."""
    tab.set_viewport_size(SIZE)
    tab.emulate_media(color_scheme="light")
    tab.mouse.move(0, 0)
    found = Visit(tab, f"http://127.0.0.1:{running.port}")
    yield found
    tab.evaluate("localStorage.clear(), sessionStorage.clear()")
    tab.goto("about:blank")
    found.leave()


@pytest.fixture
def endless(visit: Visit, run: Path) -> None:
    """The model does not end its text by itself, whatever it draws."""
    ends = octavo.load(run)[1].end_of_text
    assert ends is not None
    visit.endlessly("/v1(/chat)?/completions", ends)


def write(page: "Page", prompt: str, **knobs: Any) -> None:
    page.get_by_label("Beginning").fill(prompt)
    for name, value in knobs.items():
        page.get_by_label(name.replace("_", " "), exact=True).fill(str(value))
    page.get_by_role("button", name="Write").click()


# Play


def test_a_text_is_written_and_had_again_by_its_seed(visit: Visit) -> None:
    page = visit.open("play")
    write(page, "Ada ", Tokens=20, Side_by_side=2, Seed=7)
    expect(page.locator(".page-leaf footer button:visible")).to_have_count(2)
    texts = page.locator(".page-leaf .tokens").all_inner_texts()
    assert len(texts) == 2 and texts[0] != texts[1] and texts[0].startswith("Ada ")
    assert page.locator(".page-leaf").first.locator(".token").count() == 20
    page.get_by_role("button", name="seed 8").click()
    assert page.get_by_label("Seed", exact=True).input_value() == "8"
    write(page, "Ada ", Side_by_side=1)
    expect(page.locator(".page-leaf footer button:visible")).to_have_count(1)
    assert page.locator(".page-leaf .tokens").inner_text() == texts[1]


def test_text_from_right_to_left_keeps_its_figures_and_foreign_words(visit: Visit) -> None:
    word = "\u05e7\u05e8\u05d0 1998 Ada"  # in Hebrew, read in 1998
    row = {"id": 7, "token": word[0], "logprob": -1.0}
    table = {"tokens": list(word), "token_logprobs": [-1.0] * len(word), "top_tokens": [[row]] * len(word)}
    piece = {"index": 0, "text": word, "token_ids": [7] * len(word), "logprobs": table, "finish_reason": "length"}
    visit.stream("/v1/completions", {"choices": [piece]})
    page = visit.open("play")
    write(page, word[:4])
    cells = page.locator(".page-leaf .token")
    expect(cells).to_have_count(len(word))
    places = [box["x"] for box in (cell.bounding_box() for cell in cells.all()) if box]
    assert places[0] > places[1] > places[2] > places[7]
    assert places[4:8] == sorted(places[4:8]) and places[9:] == sorted(places[9:])
    assert page.get_by_label("Beginning").evaluate("(one) => getComputedStyle(one).direction") == "rtl"
    cells.first.focus()
    expect(page.get_by_role("button", name=f"Go on with \u2068{word[0]}\u2069, 37 %")).to_be_visible()


def test_another_way_is_taken_from_a_token_by_the_keyboard(visit: Visit, running: Running) -> None:
    spelling = running.models.find("ada").tokenizer
    page = visit.open("play")
    write(page, "Ada ", Tokens=12, Seed=7)
    expect(page.locator(".page-leaf footer button:visible")).to_have_count(1)
    page.locator(".token").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement === document.querySelectorAll('.token')[2]")
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowDown")
    wanted = page.evaluate("document.activeElement.querySelector('.word').textContent")
    page.keyboard.press("Enter")
    expect(page.locator(".page-leaf footer button:visible")).to_have_count(2)
    branch = visit.last("/v1/completions")
    assert branch["seed"] == 7 and branch["prompt"][:4] == spelling.encode("Ada ") and len(branch["prompt"]) == 7
    first, second = page.locator(".page-leaf .tokens").all()
    said = [cell.text_content() for cell in second.locator(".token").all()]
    assert len(said) == 15 and said[:2] == [cell.text_content() for cell in first.locator(".token").all()][:2]
    assert spelling.decode(branch["prompt"]) == "Ada " + "".join(said[:3])  # type: ignore[arg-type]
    assert wanted in (said[2], {" ": "␣", "\n": "↵"}.get(said[2] or ""))
    assert page.get_by_role("heading", name="Branch at token 3").is_visible()


def test_writing_is_stopped_and_refusals_are_said(visit: Visit, endless: None) -> None:
    page = visit.open("play")
    write(page, "Ada ", Tokens=4000)
    tokens = page.locator(".page-leaf .token")
    tokens.nth(5).focus()
    expect(page.locator(".leaf:visible")).to_have_count(1)
    page.keyboard.press("Escape")  # puts what else it might have been away
    expect(page.locator(".leaf:visible")).to_have_count(0)
    tokens.nth(tokens.count() + 1).wait_for()
    page.keyboard.press("Escape")
    expect(page.locator(".page-leaf .status")).to_contain_text("stopped")
    page.route(re.compile("/v1/completions$"), lambda route: None)  # which never answers
    write(page, "Ada ")
    page.get_by_role("button", name="Clear").click()
    expect(page.get_by_role("button", name="Stop")).to_be_disabled()
    page.unroute_all()
    ended = {"index": 0, "text": "a", "token_ids": [1], "finish_reason": "length"}
    refused = {"error": {"message": "<b>too hot</b>"}}
    visit.stream(
        "/v1/completions", {"choices": [ended]}, {"choices": [ended | {"index": 1, "finish_reason": None}]}, refused
    )
    write(page, "Ada ", Side_by_side=2)
    expect(page.get_by_role("alert")).to_contain_text("<b>too hot</b>")
    expect(page.locator(".page-leaf .status")).to_have_text(
        ["0 tokens · as long as was asked", "0 tokens · not written"]
    )


BROKEN = """() => { const piece = new TextEncoder().encode('data: {"choices": []}\\n\\n')
    window.fetch = async () => new Response(new ReadableStream({ start: (it) => it.enqueue(piece),
        pull: (it) => it.error(new TypeError("network error")) })) }"""


def test_a_service_that_ends_in_the_midst_of_a_text_is_told_of_in_octavos_words(visit: Visit) -> None:
    page = visit.open("play")
    page.evaluate(BROKEN)
    write(page, "Ada ")
    expect(page.get_by_role("alert")).to_contain_text("octavo does not answer; is it still running?")
    expect(page.locator(".page-leaf .status")).to_have_text("0 tokens · not written")


def test_a_character_of_several_tokens_stands_at_the_first_of_them(visit: Visit) -> None:
    table = {"tokens": ["�", "�", "x"], "token_logprobs": [-1.0] * 3, "top_tokens": [[]] * 3}
    whole = {"tokens": ["é", " "], "token_logprobs": [-1.0] * 2, "top_tokens": [[]] * 2}
    pieces = [
        {"index": 0, "text": "éx", "token_ids": [1, 2, 3], "logprobs": table, "finish_reason": None},
        {"index": 0, "text": "é ", "token_ids": [4, 5], "logprobs": whole, "finish_reason": "length"},
    ]
    opening = {"index": 0, "text": "", "token_ids": [], "prompt_token_ids": [9], "logprobs": None}
    visit.stream("/v1/completions", *({"choices": [one]} for one in [opening, *pieces]))
    page = visit.open("play")
    write(page, "caf")
    expect(page.locator(".page-leaf .token")).to_have_text(["éx", "", "", "é", " "])
    page.get_by_role("button", name="Go on").click()
    expect(page.locator(".page-leaf .token")).to_have_count(10)
    assert visit.last("/v1/completions")["prompt"] == [9, 1, 2, 3, 4, 5]


def test_tokens_of_any_writing_stand_as_their_text_does(visit: Visit) -> None:
    tokens = ["ב", "1", "2", "م", "ی", "\u200c", "خ", "👩", "\u200d", "🚀"]
    row = [{"id": 1, "token": token, "logprob": -1.0} for token in ("\u3000", "\u064e", "😀" * 30)]
    table = {"tokens": tokens, "token_logprobs": [-1.0] * 10, "top_tokens": [row] * 10}
    piece = {"index": 0, "text": "".join(tokens), "token_ids": [1] * 10, "logprobs": table, "finish_reason": "length"}
    visit.stream("/v1/completions", {"choices": [piece]})
    page = visit.open("play")
    write(page, "שלום עליכם.")
    cells = page.locator(".page-leaf .token")
    expect(cells).to_have_text(tokens)
    hebrew, one, two, meem, *_ = [cell.bounding_box() or {} for cell in cells.all()]
    assert hebrew["x"] > two["x"] > one["x"] > meem["x"]  # from right to left, but the number from left to right
    assert page.get_by_label("Beginning").evaluate("(box) => getComputedStyle(box).direction") == "rtl"
    cells.nth(5).focus()
    expect(cells.nth(5)).to_have_attribute("aria-label", re.compile("^‹200C›, "))
    expect(page.locator(".leaf-head b")).to_have_text("‹200C›")
    expect(page.locator(".alternatives .word")).to_have_text(["‹3000›", "◌\u064e", f"{'😀' * 24}…"])


# Talk


def test_a_knob_of_a_conversation_is_heeded_or_says_why_not(visit: Visit) -> None:
    page = visit.open("talk")
    page.get_by_text("How it answers").click()
    page.get_by_label("Tokens").fill("4")
    page.get_by_label("Temperature").fill("2.5")
    page.get_by_text("How it answers").click()
    page.get_by_label("Your words").fill("Ada")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Temperature")).to_be_focused()  # where the browser says what is wrong with it
    expect(page.get_by_label("Your words")).to_have_value("Ada")
    assert all(path != "/v1/chat/completions" for path, _ in visit.asked)
    page.get_by_label("Temperature").fill("0.72")
    page.get_by_role("button", name="Say").click()
    expect(page.locator(".turn")).to_have_count(2)
    page.locator(".primary:enabled").first.wait_for()
    assert visit.last("/v1/chat/completions")["temperature"] == 0.72


@pytest.mark.parametrize("why", ["length", "stop"])
def test_an_answer_that_was_cut_off_is_called_so(visit: Visit, why: str) -> None:
    pieces = [{"delta": {"content": "The capital of"}, "finish_reason": None}, {"delta": {}, "finish_reason": why}]
    visit.stream("/v1/chat/completions", *({"choices": [one]} for one in pieces))
    page = visit.open("talk")
    page.get_by_label("Your words").fill("Where?")
    page.keyboard.press("Enter")
    page.locator(".talk-desk .primary:enabled").wait_for()
    expect(page.get_by_text("It was cut off there, where the Tokens")).to_have_count(int(why == "length"))


def test_where_a_browser_may_keep_nothing_the_page_works_without(browser: "Browser", running: Running) -> None:
    forbidden = "for (const name of ['localStorage', 'sessionStorage'])" + (
        "Object.defineProperty(window, name, { get() { throw new DOMException('', 'SecurityError'); } })"
    )
    with visiting(browser, running.port) as visit:
        visit.page.add_init_script(forbidden)
        for room in ROOMS:
            page = visit.open(room)
            expect(page.locator("#notice p")).to_have_count(0)
        page = visit.open("play")
        write(page, "Ada ", Tokens=1)
        expect(page.locator(".page-leaf .status")).to_have_text("1 token · as long as was asked")


def test_a_conversation_is_held_mended_kept_and_taken_along(visit: Visit) -> None:
    page = visit.open("talk")
    expect(page.get_by_text("This model was never taught a conversation")).to_be_visible()
    page.get_by_text("How it answers").click()
    page.get_by_label("Tokens").fill("8")

    def say(words: str, turns: int) -> None:
        page.get_by_label("Your words").fill(words)
        page.keyboard.press("Enter")
        expect(page.locator(".turn")).to_have_count(turns)
        page.locator(".primary:enabled").first.wait_for()

    say("Ada", 2)
    say("Grace", 4)
    page.get_by_role("button", name="Retry: ada").first.click()
    expect(page.locator(".turn")).to_have_count(2)
    page.locator(".talk-desk .primary:enabled").wait_for()
    page.get_by_role("button", name="Edit: You").click()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Edit: You")).to_be_focused()
    page.keyboard.press("Enter")
    page.get_by_role("textbox", name="Your words").first.fill("Emmy\nfinds")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("button", name="Edit: You")).to_be_focused()
    page.locator(".talk-desk .primary:enabled").wait_for()
    expect(page.locator(".turn.mine .words")).to_have_text("Emmy\nfinds")
    assert [one["content"] for one in visit.last("/v1/chat/completions")["messages"]] == ["Emmy\nfinds"]
    expect(page.locator(".turn")).to_have_count(2)
    answer = page.locator(".turn .words").last.text_content() or ""
    heard = page.get_by_role("status").last  # by those who do not see it: whole, not piece by piece
    assert heard.text_content() == f"ada: {answer}"
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save as JSON").click()
    kept = json.loads(Path(saved.value.path()).read_text("utf-8"))
    assert [one["role"] for one in kept["messages"]] == ["user", "assistant"]
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save as Markdown").click()
    assert "> Emmy\n> finds" in Path(saved.value.path()).read_text("utf-8")
    visit.open("talk")
    expect(page.locator(".turn .words").last).to_have_text(answer)
    say("Ada", 4)
    page.get_by_role("button", name="Clear").click()
    page.get_by_role("button", name="Forget it all?").click()
    expect(page.locator(".turn")).to_have_count(0)
    expect(heard).to_be_empty()


def test_a_conversation_goes_on_in_another_tab(visit: Visit) -> None:
    def say(page: "Page", words: str, turns: int) -> None:
        page.get_by_label("Your words").fill(words)
        page.keyboard.press("Enter")
        expect(page.locator(".turn")).to_have_count(turns)
        page.locator(".talk-desk .primary:enabled").wait_for()

    page, other = visit.open("talk"), visit.page.context.new_page()
    other.goto(f"{visit.base}/talk")
    say(page, "Ada", 2)
    expect(other.locator(".turn")).to_have_count(2)
    say(other, "Grace", 4)
    expect(page.locator(".turn.mine .words")).to_have_text(["Ada", "Grace"])
    other.close()
    visit.open("talk")
    expect(page.locator(".turn")).to_have_count(4)


def test_what_is_to_be_forgotten_while_it_is_answered_is_forgotten(visit: Visit, endless: None) -> None:
    page = visit.open("talk")
    page.get_by_text("How it answers").click()
    page.get_by_label("Tokens").fill("4000")
    page.get_by_label("Your words").fill("Ada")
    page.keyboard.press("Enter")
    expect(page.locator(".turn .words").last).to_have_text(re.compile("."))
    page.get_by_role("button", name="Edit: You").click()
    page.keyboard.press("Escape")  # leaves the words as they are, and the answer goes on
    expect(page.get_by_label("Your words")).to_have_count(1)
    so_far = page.locator(".turn .words").last.text_content() or ""
    expect(page.locator(".turn .words").last).not_to_have_text(so_far)
    expect(page.get_by_text("Writing… Escape stops it.")).to_be_visible()
    page.get_by_role("button", name="Clear").click()
    page.get_by_role("button", name="Forget it all?").click()
    page.locator(".talk-desk .primary:enabled").wait_for()
    expect(page.locator(".turn")).to_have_count(0)
    page.wait_for_function("localStorage.getItem('octavo.talk.ada') === '[]'")
    visit.open("talk")
    expect(page.locator(".turn")).to_have_count(0)


def test_a_model_that_says_nothing_is_asked_again_and_then_it_is_told_why(visit: Visit) -> None:
    nothing = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    visit.stream("/v1/chat/completions", nothing)
    page = visit.open("talk")
    page.get_by_label("Your words").fill("Farewell.")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Begin a sentence, and it goes on.")).to_be_visible()
    assert [path for path, _ in visit.asked].count("/v1/chat/completions") == 4
    expect(page.locator(".turn")).to_have_count(1)


def test_words_that_nobody_answered_are_taken_back(visit: Visit) -> None:
    page = visit.open("talk")
    words = page.get_by_label("Your words")
    visit.stream("/v1/chat/completions", {"error": {"message": "too hot"}})
    words.fill("Ada")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("too hot")
    expect(page.locator(".turn")).to_have_count(0)
    assert words.input_value() == "Ada"
    page.unroute_all()
    page.route(re.compile("/v1/chat/completions$"), lambda route: None)  # which never answers
    page.keyboard.press("Enter")
    expect(page.locator(".turn")).to_have_count(2)
    words.fill("and Grace")
    page.keyboard.press("Escape")
    expect(page.locator(".turn")).to_have_count(0)
    assert words.input_value() == "Ada\nand Grace"
    page.get_by_role("button", name="Say").click()
    expect(page.locator(".turn")).to_have_count(2)
    page.unroute_all()
    page.get_by_role("button", name="Retry: ada").press("Enter")  # before its first token
    expect(page.get_by_role("button", name="Retry: ada")).to_be_focused()
    page.locator(".talk-desk .primary:enabled").wait_for()
    expect(page.locator(".turn")).to_have_count(2)
    assert [one["content"] for one in visit.last("/v1/chat/completions")["messages"]] == ["Ada\nand Grace"]
    assert words.input_value() == ""


def test_a_conversation_that_is_too_long_goes_on_without_its_oldest_turns(visit: Visit) -> None:
    said = [{"role": role, "content": f"{n} {'Ada finds a circle. ' * 3}"} for n in range(9) for role in SPEAKERS]
    page = visit.open("talk")
    page.evaluate("turns => localStorage.setItem('octavo.talk.chatty', turns)", json.dumps(said))
    page.get_by_label("Model").select_option("chatty")
    expect(page.locator(".turn")).to_have_count(18)
    page.get_by_label("Your words").fill("Why?")
    page.keyboard.press("Enter")
    expect(page.get_by_text("It answers without the oldest turns")).to_be_visible()
    expect(page.locator(".turn")).to_have_count(20)
    asked = [body["messages"] for path, body in visit.asked if path == "/v1/chat/completions"]
    assert len(asked) > 2 and asked[0] == [*said, {"role": "user", "content": "Why?"}]
    assert [len(one) for one in asked] == [19 - 2 * tries for tries in range(len(asked))]
    visit.until(lambda: len(visit.complaints) == 2 * (len(asked) - 1))  # a browser tells its console of refusals
    assert all("400 (" in one or "context_length_exceeded" in one for one in visit.complaints)
    visit.complaints.clear()


def test_a_single_turn_that_leaves_little_room_is_answered_for_as_long_as_there_is_some(visit: Visit) -> None:
    page = visit.open("talk")
    page.get_by_label("Model").select_option("chatty")
    page.get_by_text("A conversation with chatty").wait_for()
    page.get_by_label("Your words").fill("~" * 120)  # a token each
    page.keyboard.press("Enter")
    page.locator(".talk-desk .primary:enabled").wait_for()
    asked = [body for path, body in visit.asked if path == "/v1/chat/completions"]
    assert [body.get("max_tokens") for body in asked] == [200, None]
    assert asked[0]["messages"] == asked[1]["messages"] == [{"role": "user", "content": "~" * 120}]
    visit.until(lambda: len(visit.complaints) == 2)
    assert any("200 more are asked for" in one for one in visit.complaints)
    visit.complaints.clear()


def test_another_model_is_chosen_and_remembered(visit: Visit) -> None:
    page = visit.open("talk")
    page.get_by_label("Model").select_option("chatty")
    expect(page.get_by_text("A conversation with chatty")).to_be_visible()
    expect(page.get_by_text("never taught")).to_have_count(0)
    visit.open("play")
    assert page.get_by_label("Model").input_value() == "chatty"


# Look


def test_a_head_is_switched_off_and_on_again(visit: Visit) -> None:
    page = visit.open("look")
    expect(page.locator(".head-cell")).to_have_count(4)
    page.locator(".head-cell").first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Layer 1, head 1")).to_be_visible()
    assert visit.last("/page/attention")["layer"] == 1
    loss = page.locator(".look-desk ~ div .reading").first
    before = loss.text_content()
    page.keyboard.press("x")
    expect(page.locator(".columns article")).to_have_count(2)
    assert visit.last("/page/look")["off"] == visit.last("/page/regenerate")["off"] == ["1.1"]
    expect(page.get_by_text(re.compile(r"and \d\.\d+ without: 0\.\d+ (more|less)"))).to_be_visible()
    assert loss.text_content() != before
    page.get_by_role("button", name="Switch off feed-forward of layer 1").click()
    visit.until(lambda: visit.last("/page/regenerate")["off"] == ["1.1", "1.feed_forward"])
    page.get_by_role("button", name="Switch layer 1 head 1 on again").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Switch layer 1 feed-forward on again")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_label("A text")).to_be_focused()
    expect(page.locator(".chips")).to_be_hidden()
    expect(loss).to_have_text(before or "")
    assert "off" not in visit.last("/page/look")


def test_what_is_written_without_a_part_is_of_what_is_seen(visit: Visit, run: Path) -> None:
    written = json.dumps({name: {"text": name, "loss": 1.0} for name in ("before", "after")})
    page = visit.open("look")
    columns, held = page.locator(".columns article"), visit.hold("/page/regenerate")

    def let_go() -> Json:
        """Give what is asked for its answer, and say what it was."""
        visit.until(lambda: bool(held))
        route = held.pop()
        route.fulfill(content_type="application/json", body=written)
        expect(page.locator(".found:not([aria-busy]) article")).to_have_count(2)
        return json.loads(route.request.post_data or "")

    page.locator(".head-cell").first.press("x")
    assert let_go()["off"] == ["0.0"]
    page.get_by_label("A text").fill("Ada finds")
    expect(page.locator(".found[aria-busy] article")).to_have_count(2)  # those of before are so no longer
    assert let_go()["text"] == "Ada finds"
    page.get_by_label("Step of the training").press("Home")
    assert let_go()["step"] == snapshots(run)[0]
    page.locator(".head-cell").last.press("x")
    visit.until(lambda: bool(held))
    page.get_by_role("button", name="All on").click()
    expect(page.get_by_text("and see what is missed")).to_be_visible()
    expect(columns).to_have_count(0)
    held.clear()
    looks = visit.hold("/page/look")
    page.get_by_label("A text").fill("Ada")
    page.get_by_role("button", name="Write on with and without").click()  # it is of the text that will be seen
    visit.until(lambda: bool(looks))
    looks[0].continue_()
    assert let_go()["text"] == "Ada"
    page.get_by_label("A text").fill("")
    expect(columns).to_have_count(0)


def test_the_sections_follow_the_token_that_is_chosen(visit: Visit, running: Running) -> None:
    spelling = running.models.find("ada").tokenizer
    visit.tell("/page/learn", lambda log: log | {"samples": [*log["samples"], {"step": 40, "text": ""}]})
    page = visit.open("look")
    beginning = page.get_by_label("A text").input_value()  # in letters that the model knows
    assert spelling.decode(spelling.encode(beginning)) == beginning != ""
    expect(page.locator(".token.here")).to_have_text(beginning[-1])
    page.get_by_label("A text").fill("Ada finds")
    expect(page.locator(".tokens .token")).to_have_text(list("Ada finds"))
    page.locator(".tokens .token").nth(2).click()
    expect(page.locator(".attention .reading")).to_contain_text("a (3) looks at")
    expect(page.locator(".bars li").first).to_be_visible()
    visit.until(lambda: visit.last("/page/parts")["position"] == 2)
    assert visit.last("/page/parts")["token"] == spelling.encode(" ")[0]
    expect(page.get_by_text("after a, the logit of space is")).to_be_visible()
    page.get_by_role("button", name="Matrix").click()
    page.locator(".attention canvas").focus()
    page.keyboard.press("End")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowUp")
    expect(page.locator(".attention .reading")).to_contain_text(re.compile(r"d \(2\) looks at d \(2\) with"))
    page.mouse.move(0, 0)  # or it would point at a cell once the page has moved under it
    page.locator(".lens td").first.focus()
    page.keyboard.press("ArrowDown")
    expect(page.get_by_text("After layer 0, A is followed by")).to_be_visible()
    expect(page.locator(".lens thead th")).to_have_text(["after", *"Ada", "␣", *"finds"])
    assert visit.last("/page/layers")["text"] == "Ada finds"
    for name, wait in (("A map of its tokens", " tokens; these two"), ("Its weights in figures", "Moved: how far")):
        page.get_by_text(name).click()
        expect(page.get_by_text(wait)).to_be_visible()
    expect(page.get_by_role("rowheader", name="embed.weight", exact=True)).to_be_visible()
    page.get_by_label("Find a token").fill("A")
    expect(page.get_by_text("A; near it")).to_be_visible()
    page.get_by_role("button", name="Norm").click()
    expect(page.locator("th[aria-sort=descending]")).to_have_text("Norm")


def test_the_slider_goes_back_to_how_it_was(visit: Visit, run: Path) -> None:
    steps = snapshots(run)
    page = visit.open("look")
    assert "step" not in visit.last("/page/look")
    page.get_by_label("Step of the training").focus()
    page.keyboard.press("Home")
    expect(page.locator(".time output")).to_have_text("step 1")
    page.keyboard.press("ArrowRight")
    expect(page.locator(".time output")).to_have_text(f"step {steps[1]}")
    visit.until(lambda: visit.last("/page/look").get("step") == steps[1])
    page.locator(".head-cell").last.click()
    visit.until(lambda: visit.last("/page/attention").get("step") == steps[1])


WAITING = """() => { const later = setTimeout; window.waiting = []
    window.setTimeout = (call, wait) => wait === 700 ? waiting.push(call) : later(call, wait) }"""


def test_it_is_watched_while_it_learns_and_held(visit: Visit, run: Path) -> None:
    page = visit.open("look")
    said, watch, hold = (page.locator(".time").locator(one) for one in ("output", "text=Watch", "text=Hold"))
    page.evaluate(WAITING)
    watch.click()
    expect(said).to_have_text("step 1")
    hold.click()
    watch.click()  # before the first watching wakes
    for step in snapshots(run)[1:]:
        page.evaluate("waiting.splice(0).forEach((call) => call())")
        expect(said).to_have_text(f"step {step}")
        assert page.evaluate("waiting.length") == 1
    page.evaluate("waiting.pop()()")
    expect(said).to_have_text("as trained")
    page.evaluate("waiting.pop()()")
    expect(watch).to_be_visible()


def test_it_is_known_to_learn_whatever_is_told_of_it_first(visit: Visit) -> None:
    told = {"metrics": {"step": 3, "train_loss": 2.0}, "state": {"running": True, "steps": 40}}
    body = "".join(f"event: {kind}\ndata: {json.dumps(one)}\n\n" for kind, one in told.items())
    news = {"content_type": "text/event-stream", "body": body}
    visit.page.route(re.compile("/page/learn/events"), lambda route: route.fulfill(**news))
    expect(visit.open("look").locator(".time output")).to_have_text("the best so far")


def test_what_is_to_be_written_without_a_part_is_written_of_newer_weights(visit: Visit) -> None:
    page = visit.open("look")
    expect(page.locator(".head-cell").first).to_be_visible()
    gone = json.dumps({"error": {"message": "other weights", "type": "", "param": None, "code": "other_weights"}})
    refused = {"status": 409, "content_type": "application/json", "body": gone}
    visit.page.route(re.compile("/page/regenerate$"), lambda route: route.fulfill(**refused), times=1)
    page.get_by_role("button", name="Write on with and without").click()
    expect(page.get_by_text("With parts off")).to_be_visible()
    visit.complaints = [one for one in visit.complaints if "409" not in one and "other_weights" not in one]


def test_the_newest_weights_are_asked_for_each_time_and_a_snapshot_once(visit: Visit, run: Path) -> None:
    parts = {"/page/map": "A map of its tokens", "/page/weights": "Its weights in figures"}

    def wait(*steps: int | None, paths: Iterable[str] = parts) -> None:
        """Until these have been asked for, one after the other."""
        for path in paths:
            visit.until(partial(asked, path, [*steps]))

    def asked(path: str, steps: list[int | None]) -> bool:
        return [body.get("step") for one, body in visit.asked if one == path] == steps

    def press(name: str, times: int) -> None:
        """Open and close, and let the page hear of each time: two that come together are told to it as one, later."""
        for _ in range(times):
            page.evaluate("window.heard = false, addEventListener('toggle', () => (window.heard = true), true)")
            page.get_by_text(name).click()
            visit.until(lambda: page.evaluate("window.heard"))

    page = visit.open("look")
    for path, name in parts.items():
        press(name, 1)
        wait(None, paths=[path])
        press(name, 2)
        wait(None, None, paths=[path])
    first = snapshots(run)[0]
    page.get_by_label("Step of the training").press("Home")
    expect(page.locator(".weight-name ~ td:last-child").first).to_have_text("0.000")  # it has not moved from itself
    press(parts["/page/weights"], 2)
    wait(None, None, first)
    page.get_by_label("Step of the training").press("End")
    wait(None, None, first, None)


def test_a_head_that_is_chosen_while_a_text_is_read_raises_no_alarm(visit: Visit) -> None:
    page = visit.open("look")
    page.locator(".bars li").first.wait_for()
    held = visit.hold("/page/(heads|attention)")
    page.get_by_label("A text").fill("Ada finds")
    visit.until(lambda: len(held) == 1)
    page.locator(".head-cell").nth(2).click()  # of the other layer
    visit.until(lambda: len(held) == 2)
    held[0].continue_()  # the heads are there, and those of the other layer are asked for with them
    visit.until(lambda: len(held) == 3)
    page.locator(".head-cell").nth(3).click()
    visit.until(lambda: len(held) == 4)
    held[3].continue_()
    visit.until(lambda: visit.last("/page/parts")["text"] == "Ada finds")
    expect(page.get_by_role("heading", name="Layer 1, head 1")).to_be_visible()
    expect(page.locator("#notice")).to_be_empty()


def test_whoever_is_quicker_than_the_service_is_in_nobodys_way(visit: Visit) -> None:
    heads, learn = visit.hold("/page/heads"), visit.hold("/page/learn")
    page = visit.page
    page.goto(f"{visit.base}/look")
    page.locator(".tokens .token").nth(2).click()
    page.get_by_role("button", name="Matrix").click()
    heads[0].continue_()
    expect(page.locator(".attention .reading")).to_contain_text("looks at")
    visit.until(lambda: bool(learn))  # it fetches a text in its own letters
    page.get_by_label("A text").fill("Ada finds")
    learn[0].continue_()
    page.locator("body[data-ready]").wait_for()
    expect(page.locator(".tokens .token")).to_have_text(list("Ada finds"))
    assert page.get_by_label("A text").input_value() == "Ada finds"


def test_all_that_is_seen_is_of_the_same_weights(visit: Visit) -> None:
    page = visit.open("look")
    page.locator(".bars li").first.wait_for()
    page.get_by_role("heading", name="Layer by layer").scroll_into_view_if_needed()
    page.locator(".lens td").first.wait_for()
    visit.tell("/page/heads", lambda told: told | {"written": "1"})  # others were written between the two answers
    page.get_by_label("A text").fill("Ada finds")
    for path in ("/page/heads", "/page/layers", "/page/parts"):
        visit.until(partial(lambda path: visit.last(path)["text"] == "Ada finds", path))
    written = visit.last("/page/parts")["written"]
    assert visit.last("/page/heads")["written"] == visit.last("/page/layers")["written"] == written
    gone = {"error": {"message": "ada has other weights by now", "code": "other_weights"}}
    refusal = {"status": 409, "content_type": "application/json", "body": json.dumps(gone)}
    page.route(re.compile("/page/attention$"), lambda route: route.fulfill(**refusal), times=1)
    before = len(visit.asked)
    page.locator(".head-cell").last.click()
    visit.until(lambda: [path for path, _ in visit.asked[before:]].count("/page/parts") == 1)
    assert [path for path, _ in visit.asked[before:]][:3] == ["/page/attention", "/page/look", "/page/heads"]
    assert "written" not in visit.last("/page/look") and page.locator("#notice").inner_text() == ""
    expect(page.get_by_role("heading", name="Layer 1, head 1")).to_be_visible()
    visit.until(lambda: len(visit.complaints) == 2)  # a browser tells its console of the refusal
    visit.complaints.clear()


def test_drawings_are_read_with_a_finger(browser: "Browser", running: Running) -> None:
    def tap(one: str, across: float, down: float) -> None:
        place = page.locator(one).last
        place.scroll_into_view_if_needed()
        box = place.bounding_box()
        assert box is not None
        page.touchscreen.tap(box["x"] + across * box["width"], box["y"] + down * box["height"])

    context = browser.new_context(viewport=SIZE, reduced_motion="reduce", has_touch=True)
    visit = Visit(context.new_page(), f"http://127.0.0.1:{running.port}")
    page = visit.open("learn")
    tap("svg.chart", 0.55, 0.5)
    expect(page.locator(".chart-box .reading")).to_have_text(re.compile("^step 2[0-2] "))
    page = visit.open("look")
    page.get_by_label("A text").fill("Ada")
    expect(page.locator(".attention .reading")).to_contain_text("a (3) looks at")
    tap(".attention canvas", 0.1, 0.8)
    expect(page.locator(".attention .reading")).to_contain_text("A (1) looks at")
    page.get_by_role("button", name="Matrix").tap()
    tap(".attention canvas", 0.76, 0.9)
    expect(page.locator(".attention .reading")).to_contain_text("a (3) looks at d (2)")
    page.get_by_text("A map of its tokens").tap()
    points = page.locator("details.later .reading").first
    expect(points).to_contain_text("these two directions")
    for place in range(1, 40):
        tap("details.later canvas", place / 40, 0.5)
    expect(points).to_contain_text("near it")
    visit.leave()
    context.close()


def test_a_token_is_explained_in_its_own_text_while_another_one_is_read(visit: Visit) -> None:
    page = visit.open("look")
    page.get_by_label("A text").fill("Ada finds")
    expect(page.locator(".tokens .token")).to_have_text(list("Ada finds"))
    held = visit.hold("/page/look")
    page.get_by_label("A text").fill("Ada")
    visit.until(lambda: bool(held))
    page.locator(".tokens .token").nth(6).click()  # the last one of the text that stood there first is 7
    visit.until(lambda: visit.last("/page/parts")["position"] == 6)
    assert visit.last("/page/parts")["text"] == "Ada finds"
    held[0].continue_()
    expect(page.locator(".tokens .token")).to_have_text(list("Ada"))
    visit.until(lambda: visit.last("/page/parts")["text"] == "Ada")


def test_a_model_without_a_record_of_its_training_can_still_be_looked_into(visit: Visit) -> None:
    page = visit.open("learn")
    page.get_by_label("Model").select_option("chatty")
    expect(page.get_by_text("chatty comes without a record of its training")).to_be_visible()


# Learn


def test_losses_are_read_by_the_keyboard_and_samples_by_a_slider(visit: Visit, run: Path) -> None:
    held, samples = (
        [line for line in map(json.loads, (run / name).read_text("utf-8").splitlines()) if key in line]
        for name, key in (("metrics.jsonl", "val_loss"), ("samples.jsonl", "text"))
    )
    page = visit.open("learn")
    page.get_by_role("slider", name="Losses by step").focus()
    page.keyboard.press("End")
    expect(page.locator(".chart-box .reading")).to_contain_text("step 40")
    page.keyboard.press("ArrowLeft")
    value = page.get_by_role("slider", name="Losses by step").get_attribute("aria-valuetext")
    assert value is not None and value.startswith("step 39: batch") and f"held out {held[0]['val_loss']:.3f}" in value
    expect(page.get_by_text("40 of 40")).to_be_visible()
    expect(page.get_by_text(f"{held[-1]['val_loss']:.3f}", exact=True)).to_be_visible()
    expect(page.get_by_text("It has come to its end.")).to_be_visible()
    expect(page.locator(".level text").last).to_contain_text(re.compile(r"-gram \d\.\d{3}"))
    before = page.locator(".curve.val").get_attribute("d")
    page.get_by_label("logarithmic steps").check()
    assert page.locator(".curve.val").get_attribute("d") != before
    page.get_by_label("Which sample").press("Home")
    expect(page.locator(".sample-step")).to_have_text(f"step {samples[0]['step']}")
    assert page.locator(".sample").text_content() == samples[0]["text"]
    kept = max(step for step in snapshots(run) if step <= samples[0]["step"])
    page.get_by_role("link", name=f"Look inside, as it was after step {kept}").click()
    page.locator("body[data-room=look][data-ready]").wait_for()
    expect(page.locator(".time output")).to_have_text(f"step {kept}")
    assert visit.last("/page/look")["step"] == kept


def test_a_training_may_be_long(visit: Visit) -> None:
    def told(step: int) -> Json:
        return {"step": step, "train_loss": 2.0} | ({"val_loss": 2.5} if step % 1000 == 0 else {})

    lines = "".join(f"event: metrics\ndata: {json.dumps(told(step))}\n\n" for step in range(200_001, 206_001))
    rest = 'event: state\ndata: {"running": false}\n\n'
    held = visit.hold("/page/learn/events")
    metrics = [told(step) for step in range(1, 200_001)]
    visit.tell("/page/learn", lambda log: log | {"metrics": metrics, "running": True, "steps": 206_000})
    page = visit.open("learn")
    page.get_by_role("slider", name="Losses by step").focus()
    page.keyboard.press("End")
    expect(page.locator(".chart-box .reading")).to_contain_text("step 200,000 ")
    visit.until(lambda: bool(held))
    held[0].fulfill(content_type="text/event-stream", body=lines + rest)
    expect(page.get_by_text("206,000 of 206,000")).to_be_visible()
    expect(page.get_by_text("It has come to its end.")).to_be_visible()
    expect(page.locator(".chart-box .reading")).to_contain_text("step 200,000 ")
    page.keyboard.press("Home")
    expect(page.locator(".chart-box .reading")).to_contain_text("step 1 ")
    shown = int(page.get_by_role("slider", name="Losses by step").get_attribute("aria-valuemax") or 0) + 1
    assert 2000 < shown <= 4001 + 206  # and each evaluation


def test_a_step_that_is_read_is_read_no_more_once_the_training_went_back_behind_it(visit: Visit) -> None:
    held, logs = visit.hold("/page/learn/events"), [[], [{"step": step, "train_loss": 2.0} for step in (1, 2)]]
    visit.tell("/page/learn", lambda log: log | {"metrics": logs.pop(), "running": True})
    page = visit.open("learn")
    page.get_by_role("slider", name="Losses by step").focus()
    expect(page.locator(".chart-box .reading")).to_contain_text("step 2 ")
    visit.until(lambda: bool(held))
    held[0].fulfill(content_type="text/event-stream", body="event: reset\n\nevent: state\ndata: {}\n\n")
    expect(page.locator(".chart-box .reading")).to_be_empty()
    expect(page.locator(".facts.wide dd").first).to_have_text("–")


def test_the_report_is_waited_for_and_says_what_was_found(visit: Visit, running: Running) -> None:
    def copied(told: Json) -> Json:
        """One that copies, as this small model cannot yet, and that newer weights have overtaken."""
        if told["ready"]:
            told["earlier"] = True
            sample = told["report"]["copying"]["samples"][0]
            place = {"source": "text.txt", "line": 7}
            overlaps = [{"start": start, "end": end, "place": place} for start, end in ((2, 8), (5, 12), (8, 14))]
            sample |= {"copied": 1.0, "overlaps": overlaps, "text": "so she wrote the poems"}
        return told

    visit.tell("/page/report", copied)
    page = visit.open("learn")
    page.get_by_role("tab", name="Training").press("ArrowRight")
    expect(page.locator("article.report")).to_be_visible()
    expect(page.get_by_text("The training has come to better weights meanwhile")).to_be_visible()
    found = json.loads(running.call("GET", "/page/report?model=ada")[1])["report"]
    scores = sorted([found["model"], *found["baselines"]], key=lambda one: one["bits_per_byte"])
    assert page.locator(".rival").all_text_contents() == [one["name"] for one in scores]
    assert page.locator(".rivals .part-value").all_text_contents() == [f"{one['bits_per_byte']:.3f}" for one in scores]
    assert page.get_by_role("table").last.get_by_role("rowheader").count() > 0
    assert page.locator(".reliability circle").count() == sum(one["tokens"] > 0 for one in found["calibration"]["bins"])
    passages = page.locator(".columns .passage blockquote").all_text_contents()
    assert passages == [one["text"].lstrip("\n") for one in (*found["easiest"], *found["hardest"])]
    written = page.locator(".passage:has(.same) blockquote").all_text_contents()
    first, *others = found["copying"]["samples"]
    assert written == [f"{first['prompt']}so she w1rote t2he poems", *(one["prompt"] + one["text"] for one in others)]
    assert page.locator("mark").all_text_contents() == [" she w", "rote t"]
    assert page.locator("figcaption li").all_text_contents() == ["6 characters of text.txt, line 7"] * 2
    assert found["duplicates"]["longest"] and page.get_by_text(re.compile(r"text\.txt, line \d+, as in ")).count() > 0


def test_a_model_that_sees_little_is_looked_into_with_a_text_as_short(visit: Visit) -> None:
    def narrow(told: Json) -> Json:
        return told | {"models": [{**one, "context": 16} for one in told["models"]]}

    visit.tell("/page/state", narrow)
    page = visit.open("look")
    expect(page.locator(".tokens .token").first).to_be_visible()
    assert 0 < len(page.get_by_label("A text").input_value()) <= 16
    assert all(len(asked["text"]) <= 16 for path, asked in visit.asked if path == "/page/look")


def test_how_long_a_text_may_be_is_said_where_the_model_sees_more(visit: Visit) -> None:
    def wide(told: Json) -> Json:
        return told | {"models": [{**one, "context": looking.LONGEST + 1} for one in told["models"]]}

    expect(visit.open("look").get_by_text("ada sees 64 tokens", exact=True)).to_be_visible()
    visit.tell("/page/state", wide)
    words = f"ada sees {looking.LONGEST + 1} tokens; {looking.LONGEST} can be looked at together"
    expect(visit.open("look").get_by_text(words, exact=True)).to_be_visible()


def test_what_a_token_might_have_been_is_said_of_it(visit: Visit) -> None:
    page = visit.open("look")
    page.locator(".tokens .token").nth(1).focus()
    leaf = page.locator(f"#{page.locator('.token:focus').get_attribute('aria-describedby')}")
    expect(leaf).to_be_visible()
    expect(leaf).to_contain_text("%")
    page.keyboard.press("Escape")
    assert page.locator("[aria-describedby^=leaf]").count() == 0


def test_figures_stay_behind_the_words_from_right_to_left_that_they_are_of(visit: Visit) -> None:
    def hebrew(told: Json) -> Json:
        return told | {"tokens": [token | {"text": "שלום"} for token in told["tokens"]]}

    visit.tell("/page/look", hebrew)
    page = visit.open("look")
    page.locator(".tokens .token").nth(2).click()
    isolated = "\u2068שלום\u2069"
    expect(page.locator(".attention .reading")).to_contain_text(re.compile(rf"{isolated} \(3\) looks at {isolated} \("))


def test_the_report_says_how_far_off_the_best_without_a_model_is(visit: Visit) -> None:
    def worse(told: Json) -> Json:
        if told["ready"]:
            best = min(one["bits_per_byte"] for one in told["report"]["baselines"])
            told["report"]["model"]["bits_per_byte"] = 3 * best
            told["report"]["interval"] = {"low": 2 * best, "high": 4 * best}
        return told

    visit.tell("/page/report", worse)
    page = visit.open("learn")
    page.get_by_role("tab", name="Training").press("ArrowRight")
    expect(page.get_by_text(re.compile(r"this model needs 3\.0 times as many\."))).to_be_visible()
    lane, bracket = (
        page.locator(f".rivals {name}").first.bounding_box() for name in (".track:has(.bracket)", ".bracket")
    )
    assert lane is not None and bracket is not None
    assert bracket["x"] + bracket["width"] <= lane["x"] + lane["width"] + 1


def test_a_training_is_watched_stopped_and_gone_on_with(browser: "Browser", run: Path, tmp_path: Path) -> None:
    asked = {"out": tmp_path / "live", "steps": 100_000, "eval_every": 100, **SHAPE, "layers": 1}
    words = [word for name, value in asked.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    process = subprocess.Popen(
        [sys.executable, "-c", GENTLY, "train", str(run.parent / "text.txt"), "--page", *words],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    with process, ended(process):
        assert process.stderr is not None
        line = next(line for line in process.stderr if line.startswith("the page is at"))
        with visiting(browser, int(re.findall(r":(\d+)/learn", line)[0])) as visit:
            watch(visit)
            look = visit.open("look")
            expect(look.locator(".head-cell")).to_have_count(2)
            look.goto("about:blank")
        process.terminate()


SOON = "window.setTimeout = ((later) => (call, wait) => later(call, wait / 10))(setTimeout)"


def test_who_looks_on_counts_in_each_room_and_is_told_what_comes(browser: "Browser", run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "ada")
    *kept, last = snapshots(run)
    snapshot_file(tmp_path / "ada", last).rename(tmp_path / "last")
    room = Room(tmp_path / "ada")
    try:
        with visiting(browser, room.port) as visit:
            visit.page.context.add_init_script(SOON)
            page = visit.open("learn")
            expect(page.get_by_text("It is learning.")).to_be_visible()
            expect(page.locator(".level text").last).to_contain_text("-gram")
            look = page.context.new_page()
            look.goto(f"{visit.base}/look")
            look.locator("body[data-ready]").wait_for()
            visit.until(lambda: room.words[-1:] == [{"watchers": 2}])
            expect(look.locator(".time output")).to_have_text("the best so far")
            slider = look.get_by_label("Step of the training")
            slider.press("ArrowLeft")
            expect(look.locator(".time output")).to_have_text(f"step {kept[-1]}")
            (tmp_path / "last").rename(snapshot_file(tmp_path / "ada", last))
            with (tmp_path / "ada/metrics.jsonl").open("a") as log, (tmp_path / "ada/samples.jsonl").open("a") as texts:
                log.write('{"step": 41, "val_loss": 2.5}\n')
                texts.write('{"step": 41, "text": "Ada finds"}\n')
            expect(slider).to_have_attribute("max", str(len(kept) + 1))
            expect(look.locator(".time output")).to_have_text(f"step {kept[-1]}")
            slider.press("ArrowRight")
            expect(look.locator(".time output")).to_have_text(f"step {last}")
            expect(page.get_by_role("link", name=f"Look inside, as it was after step {last}")).to_be_visible()
            room.training.hear({"state": "finished"})
            slider.press("End")
            expect(look.locator(".time output")).to_have_text("as trained")
            room.training.hear({"state": "running"})
            expect(page.get_by_text("It is learning.")).to_be_visible()
            room.stop()
            expect(page.get_by_text("octavo has ended; what it told stays here")).to_be_visible()
            expect(look.get_by_role("alert")).to_contain_text("octavo has ended")
            assert page.get_by_text("It is learning.").count() == page.get_by_role("button", name="Stop").count() == 0
            expect(page.get_by_text("41 of 40")).to_be_visible()
            visit.until(lambda: len(visit.complaints) == 3)  # a browser tells its console of each try
            assert all("net::ERR_" in one for one in visit.complaints)
            visit.complaints.clear()
    finally:
        room.stop()


def test_the_best_so_far_is_looked_at_anew_when_it_is_bettered(browser: "Browser", run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "ada")
    room = Room(tmp_path / "ada")

    def better(step: int) -> str:
        os.utime(tmp_path / "ada/model.safetensors", ns=(step, step))
        with (tmp_path / "ada/metrics.jsonl").open("a") as log:
            log.write(f'{{"step": {step}, "val_loss": 2.0}}\n')
        return str(step)

    try:
        with visiting(browser, room.port) as visit:
            page = visit.open("look")
            page.locator(".bars li").first.wait_for()
            page.get_by_text("Its weights in figures").click()
            expect(page.get_by_text("Moved: how far")).to_be_visible()
            page.locator(".tokens .token").nth(3).hover()
            written, before = better(41), len(visit.asked)
            visit.until(lambda: visit.last("/page/parts").get("written") == written)
            assert {"/page/look", "/page/heads", "/page/weights"} <= {path for path, _ in visit.asked[before:]}
            expect(page.locator(".leaf")).to_be_visible()
            page.get_by_label("Step of the training").press("Home")
            first = snapshots(run)[0]
            visit.until(lambda: visit.last("/page/parts").get("step") == first)
            before = len(visit.asked)
            better(42)
            visit.until(lambda: [path for path, _ in visit.asked[before:]] == ["/page/state"])
            page.get_by_label("Step of the training").press("End")
            visit.until(lambda: visit.last("/page/parts").get("written") == "42")
    finally:
        room.stop()


def watch(visit: Visit) -> None:
    """See it learn, stop it and have it go on."""
    page = visit.open("learn")
    step = page.locator(".facts.wide dd").first
    expect(page.get_by_text("It is learning.")).to_be_visible()
    expect(page.get_by_text("Time left")).to_be_visible()
    page.locator(".sample").get_by_text(re.compile(".")).wait_for()
    expect(page.locator(".level text").last).to_contain_text("-gram")
    assert page.locator("nav a").all_text_contents() == ["Learn", "Look"]
    page.get_by_role("button", name="Stop").press("Enter")
    expect(page.get_by_text("It is at rest.")).to_be_visible()
    rested = step.text_content()
    expect(page.get_by_role("button", name="Go on")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_text("It is learning.")).to_be_visible()
    expect(step).not_to_have_text(rested or "")
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_text("It is at rest.")).to_be_visible()


# all rooms


def filled(visit: Visit, room: str) -> "Page":
    """A room with something in it."""
    page = visit.open("learn" if room == "report" else room)
    if room == "report":
        page.get_by_role("tab", name="Report").click()
        page.locator("article.report").wait_for()
        for summary in page.locator(".report summary").all():
            summary.click()
    if room == "play":
        write(page, "Ada ", Tokens=10, Seed=1)
        page.locator(".page-leaf footer button:visible").wait_for()
        page.locator(".token").nth(3).hover()
    if room == "talk":
        page.get_by_label("Your words").fill("Ada")
        page.get_by_role("button", name="Say").click()
        page.locator(".talk-desk .primary:enabled").wait_for()
    if room == "look":
        for summary in page.locator("summary").all():
            summary.click()
        page.locator(".bars li").first.wait_for()
    return page


def grave(page: "Page", scheme: Any, options: Json) -> list[tuple[str, ...]]:
    """The serious and critical faults that axe finds."""
    page.emulate_media(color_scheme=scheme)
    options |= {"resultTypes": ["violations"]}  # of what is in order, not every place is told
    found = page.evaluate("(options) => axe.run(options).then((found) => found.violations)", options)
    first = [(one, one["nodes"][0]) for one in found if one["impact"] in ("serious", "critical")]
    return [(scheme, one["id"], node["html"], node["failureSummary"]) for one, node in first]


def walk(page: "Page") -> tuple[int, int]:
    """Go through a room with Tab alone: how many things there are to reach, and how many were."""
    wanted = page.evaluate(
        "[...document.querySelectorAll('a,button,input,select,textarea,summary,[tabindex=\"0\"]')]"
        ".filter((one) => one.checkVisibility({checkVisibilityCSS: true}) && !one.disabled && one.tabIndex >= 0)"
        ".map((one, index) => (one.dataset.walk = index)).length"
    )
    page.evaluate(
        "window.reached = {}; document.addEventListener('focusin', ({target}) => { if ('walk' in target.dataset)"
        " reached[target.dataset.walk] = [getComputedStyle(target).outlineStyle, target.outerHTML] })"
    )
    for _ in range(wanted + 12):
        page.keyboard.press("Tab")
    reached = page.evaluate("reached")
    assert [html for ring, html in reached.values() if ring == "none"] == []
    return wanted, len(reached)


@pytest.mark.parametrize("room", [*ROOMS, "report"])
def test_a_room_is_open_to_all(room: str, visit: Visit) -> None:
    page = filled(visit, room)
    page.evaluate(AXE_FILE_PATH.read_text("utf-8"))
    assert grave(page, "light", {}) + grave(page, "dark", {"runOnly": ["color-contrast"]}) == []
    page.mouse.move(0, 0)
    page.evaluate("document.activeElement.blur()")
    expect(page.locator(".leaf:visible")).to_have_count(0)
    wanted, reached = walk(page)
    assert wanted == reached > 8
    page.locator("select[aria-label=Model] option").first.evaluate("(one) => (one.textContent = 'ada'.repeat(30))")
    page.set_viewport_size({"width": 320, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth") <= 320


def test_a_page_waits_for_a_training_and_offers_the_rooms_that_work(browser: "Browser", run: Path) -> None:
    room = Room(None)
    try:
        with visiting(browser, room.port) as visit:
            page = visit.page
            page.goto(f"{visit.base}/learn")
            expect(page.get_by_text("wait for the training to begin")).to_be_visible()
            room.training.hear({"run": str(run), "state": "waiting"})
            page.locator("body[data-ready]").wait_for()
            assert page.locator("nav a").all_text_contents() == ["Learn", "Look"]
            page.goto(f"{visit.base}/play")
            expect(page.get_by_text("This room is not open here.")).to_be_visible()
    finally:
        room.stop()


def test_light_and_dark_are_chosen_and_remembered(visit: Visit) -> None:
    page = visit.open("look")
    paper = "getComputedStyle(document.documentElement).backgroundColor"
    tints = "[...document.querySelectorAll('.token')].map((one) => getComputedStyle(one).backgroundColor)"
    light, tinted = page.evaluate(paper), page.evaluate(tints)
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate(paper)
    assert light != dark
    assert tinted[1].startswith("rgb") and page.evaluate(tints)[1] != tinted[1]
    page.get_by_role("button", name=re.compile("Light page|Dark page")).click()
    assert page.evaluate(paper) == light and page.evaluate(tints) == tinted
    visit.open("talk")
    assert page.evaluate(paper) == light


def test_what_is_told_by_colour_is_told_in_a_systems_own_colours_and_on_paper(visit: Visit) -> None:
    def told(one: str, what: str) -> list[str]:
        return page.evaluate(
            "([one, what]) => [...document.querySelectorAll(one)].map((one) => getComputedStyle(one)[what])",
            [one, what],
        )

    page = visit.open("look")
    page.locator(".bars li").first.wait_for()
    page.get_by_role("button", name=re.compile("Dark page")).click()
    tints, bars = told(".tokens .token", "backgroundColor"), told(".bar", "backgroundColor")
    inks = told("body", "color")
    try:
        page.emulate_media(forced_colors="active")
        there = [told("nav a", "borderBottomColor")[index] for index in (ROOMS.index("look"), 0)]
        chosen = told(".attention .choice", "backgroundColor")
        assert len(set(told(".tokens .token", "backgroundColor"))) == len(set(tints)) > 2
        assert "gradient" in told("input[type=range]", "backgroundImage")[0]
        assert there[0] != there[1] and chosen[0] != chosen[1]
        assert told("body", "backgroundColor")[0] not in told(".bar", "backgroundColor")
        page.emulate_media(forced_colors="none", media="print")
        assert set(told(".token, .bar", "printColorAdjust")) == {"exact"}
        assert told("body", "color") != inks and told(".bar", "backgroundColor") != bars
    finally:
        page.emulate_media(forced_colors="none", media="screen")


def test_a_service_with_a_key_asks_for_it_once_and_takes_nothing_that_is_none(browser: "Browser") -> None:
    service = Running(Rules(key=KEY))
    try:
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{service.port}/play")
        page.get_by_label("Key", exact=True).fill(f"{KEY}…")
        page.keyboard.press("Enter")
        expect(page.get_by_text("This is no key: a key is a single word")).to_be_visible()
        page.get_by_label("Key", exact=True).fill("another")
        page.keyboard.press("Enter")
        expect(page.get_by_text("This service has another key.")).to_be_visible()
        page.get_by_label("Key", exact=True).fill(f" {KEY} ")
        page.keyboard.press("Enter")
        page.locator("body[data-ready]").wait_for()
        page.goto(f"http://127.0.0.1:{service.port}/talk")
        page.locator("body[data-ready]").wait_for()
        context.close()
    finally:
        service.stop()


# what a model may come to say

TEXTS = hostile()


def inert(page: "Page", parts: int) -> None:
    """Nothing of it became an element, ran, or turned the page round."""
    assert page.evaluate("window.pwned === undefined && document.title.endsWith(' · octavo')")
    assert page.locator("main :is(script, img, iframe, style, base, meta, form, math, object, b b)").count() == 0
    assert page.locator("main a:not(.inside a)").count() == 0  # the page's own leads inside a model
    names = page.evaluate("[...document.querySelectorAll('main *')].flatMap((one) => one.getAttributeNames())")
    assert not [name for name in names if name.startswith("on")]
    shown = page.locator("main").text_content() or ""
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\u2066\ufeff\U000e0041]", shown)
    assert shown.count("<script>window.pwned = 1</script>") >= parts
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_whatever_is_written_is_but_text_in_play(visit: Visit) -> None:
    rows = [{"id": 1, "token": text, "logprob": -1.0} for text in TEXTS[:8]]
    table = {"tokens": TEXTS, "token_logprobs": [-1.0] * 200, "top_tokens": [rows] * 200}
    piece = {"index": 0, "text": "".join(TEXTS), "token_ids": [1] * 200, "logprobs": table, "finish_reason": "<b>b</b>"}
    visit.stream("/v1/completions", {"choices": [piece]})
    page = visit.open("play")
    write(page, "<img src=x onerror=pwned=1>\u202e")
    page.locator(".token").nth(199).wait_for(state="attached")
    page.locator(".token").first.focus()
    inert(page, 2)


def test_whatever_is_said_is_but_text_in_talk(visit: Visit) -> None:
    pieces = [{"index": 0, "delta": {"content": text}, "finish_reason": None} for text in TEXTS]
    visit.stream("/v1/chat/completions", *({"choices": [one]} for one in pieces))
    page = visit.open("talk")
    page.get_by_label("Your words").fill(TEXTS[0])
    page.keyboard.press("Enter")
    page.locator(".talk-desk .primary:enabled").wait_for()
    inert(page, 2)
    visit.open("talk")
    inert(page, 2)


def test_whatever_a_vocabulary_holds_is_but_text_in_look(visit: Visit) -> None:
    def look(told: Json) -> Json:
        texts = cycle(TEXTS)
        for token in told["tokens"]:
            token["text"] = next(texts)
            for one in token["alternatives"]:
                one["text"] = next(texts)
        return told

    def layers(told: Json) -> Json:
        texts = cycle(TEXTS)
        for says in (says for layer in told["lens"] for says in layer["says"]):
            says[0]["text"] = next(texts)
        return told

    points = [{"id": 1, "text": text, "x": place, "y": 1} for place, text in enumerate(TEXTS)]
    visit.tell("/page/look", look)
    visit.tell("/page/layers", layers)
    visit.tell("/page/map", lambda told: told | {"points": points})
    page = visit.open("look")
    page.get_by_label("A text").fill(sentences(3)[:60])
    page.locator(".lens td").nth(60 * 3 - 1).wait_for(state="attached")
    page.get_by_text("A map of its tokens").click()
    page.locator(".token").nth(1).focus()
    page.locator(".lens td").first.focus()
    inert(page, 1)
    page.locator(".lens td").nth(40).click()
    inert(page, 1)


def test_whatever_a_training_says_is_but_text_in_learn(visit: Visit) -> None:
    def turned(told: Any, texts: Iterator[str]) -> Any:
        if isinstance(told, str):
            return next(texts)
        if isinstance(told, list):
            return [turned(one, texts) for one in told]
        return {name: turned(one, texts) for name, one in told.items()} if isinstance(told, dict) else told

    learned = {
        "samples": [{"step": step, "text": text} for step, text in enumerate(TEXTS)],
        "settings": dict(enumerate(TEXTS)),
        "baselines": [{"name": text, "loss": 2.0} for text in TEXTS[:9]],
    }
    visit.tell("/page/learn", lambda told: told | learned)
    visit.tell("/page/report", lambda told: told | {"report": turned(told["report"], cycle(TEXTS))})
    page = visit.open("learn")
    inert(page, 1)
    page.get_by_role("tab", name="Report").click()
    page.locator("article.report").wait_for()
    inert(page, 1)
