"""The page in a browser: operated as people do, by pointer and by keyboard, and fed with what means it ill."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

import octavo
from hostile import hostile
from octavo.server.engine.engine import Engine
from octavo.server.gate import Rules
from octavo.server.models import Served
from page_answers import ANSWERS, STEPS
from test_server import KEY, MODELS, Running
from texts import sentences

CHROMIUM = Path("/usr/bin/chromium")
try:
    from axe_playwright_python.base import AXE_FILE_PATH
    from playwright.sync_api import Browser, Page, Request, Route, expect, sync_playwright
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
ROOMS = ("learn", "play", "look", "talk")
SLOW = 20_000  # milliseconds that a busy machine may take
Json = dict[str, Any]


class Visit:
    """A page that is open, what it asked and what it complained of."""

    def __init__(self, page: "Page", base: str) -> None:
        self.page, self.base = page, base
        self.asked: list[tuple[str, Json]] = []
        self.complaints: list[str] = []
        self.answers: dict[str, Callable[[Json], Any]] = dict(ANSWERS)
        page.set_default_timeout(SLOW)
        page.on("console", lambda said: self.complaints.append(f"{said.type}: {said.text}"))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", self.note)
        page.route(re.compile(r"/(page|v1)/"), self.answer)

    def note(self, request: "Request") -> None:
        if not request.url.startswith((self.base + "/", "blob:" + self.base)):
            self.complaints.append(f"a request to {request.url}")

    def answer(self, route: "Route") -> None:
        """What the other half would answer, in its place; everything else goes to the service itself."""
        url = urlsplit(route.request.url)
        self.asked.append((url.path, json.loads(route.request.post_data or "{}")))
        if url.path == "/page/state":
            state = route.fetch().json()
            state["models"] = [one | {"steps": list(STEPS), "learned": True} for one in state["models"]]
            return route.fulfill(json=state | {"rooms": ROOMS} | self.answers.get("state", dict)({}))  # type: ignore[arg-type]
        if url.path not in self.answers:
            return route.continue_()
        told = self.answers[url.path](self.asked[-1][1])
        if isinstance(told, str):
            return route.fulfill(content_type="text/event-stream", body=told.encode("utf-8", "replace"))
        return route.fulfill(content_type="application/json", body=json.dumps(told))

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


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that has learned a little, and above all not to end its text."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "text.txt").write_text(sentences(200))
    shape = {"layers": 2, "heads": 2, "width": 32, "context": 64, "batch": 8, "tokenizer": "character", "dropout": 0.0}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OCTAVO_HOME", str(folder / "home"))
        patch.setattr("octavo.evaluation.SAMPLE_TOKENS", 8)
        return octavo.train(str(folder / "text.txt"), out=folder / "ada", steps=40, eval_every=20, **shape)


@pytest.fixture(scope="module")
def running(run: Path) -> Iterator[Running]:
    ada = Served("ada", Engine(*octavo.load(run), bitwise=True), run=run)
    service = Running(Rules(), served=[ada, Served("chatty", Engine(*MODELS["chatty"]))])
    yield service
    service.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


@contextmanager
def visiting(browser: "Browser", running: Running, **wishes: Any) -> Iterator[Visit]:
    context = browser.new_context(**{"viewport": {"width": 1100, "height": 800}, "reduced_motion": "reduce", **wishes})
    visit = Visit(context.new_page(), f"http://127.0.0.1:{running.port}")
    yield visit
    context.close()
    assert visit.complaints == []


@pytest.fixture
def visit(browser: "Browser", running: Running) -> Iterator[Visit]:
    with visiting(browser, running) as found:
        yield found


def events(*told: Any) -> str:
    """A stream of the API."""
    return "".join(f"data: {json.dumps(one)}\n\n" for one in told) + "data: [DONE]\n\n"


def write(page: "Page", prompt: str, **knobs: Any) -> None:
    page.get_by_label("Beginning").fill(prompt)
    for name, value in knobs.items():
        page.get_by_label(name.replace("_", " "), exact=True).fill(str(value))
    page.get_by_role("button", name="Write").click()


# Play


def test_a_text_is_written_and_had_again_by_its_seed(visit: Visit) -> None:
    page = visit.open("play")
    write(page, "Ada ", Tokens=20, Side_by_side=2, Seed=5)
    expect(page.locator(".page-leaf footer button:visible")).to_have_count(2)
    texts = page.locator(".page-leaf .tokens").all_inner_texts()
    assert len(texts) == 2 and texts[0] != texts[1] and texts[0].startswith("Ada ")
    assert page.locator(".page-leaf").first.locator(".token").count() == 20
    page.get_by_role("button", name="seed 6").click()
    assert page.get_by_label("Seed", exact=True).input_value() == "6"
    write(page, "Ada ", Side_by_side=1)
    expect(page.locator(".page-leaf footer button:visible")).to_have_count(1)
    assert page.locator(".page-leaf .tokens").inner_text() == texts[1]


def test_another_way_is_taken_from_a_token_by_the_keyboard(visit: Visit, running: Running) -> None:
    spelling = running.models.find("ada").tokenizer
    page = visit.open("play")
    write(page, "Ada ", Tokens=12, Seed=5)
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
    assert branch["seed"] == 5 and branch["prompt"][:4] == spelling.encode("Ada ") and len(branch["prompt"]) == 7
    first, second = page.locator(".page-leaf .tokens").all()
    said = [cell.text_content() for cell in second.locator(".token").all()]
    assert len(said) == 15 and said[:2] == [cell.text_content() for cell in first.locator(".token").all()][:2]
    assert spelling.decode(branch["prompt"]) == "Ada " + "".join(said[:3])  # type: ignore[arg-type]
    assert wanted in (said[2], {" ": "␣", "\n": "↵"}.get(said[2] or ""))
    assert page.get_by_role("heading", name="Branch at token 3").is_visible()


def test_writing_is_stopped_and_refusals_are_said(visit: Visit) -> None:
    page = visit.open("play")
    write(page, "Ada ", Tokens=4000)
    page.locator(".token").nth(5).wait_for()
    page.keyboard.press("Escape")
    expect(page.locator(".page-leaf .status")).to_contain_text("stopped")
    visit.answers["/v1/completions"] = lambda asked: events({"error": {"message": "<b>too hot</b>"}})
    page.get_by_role("button", name="Write").click()
    expect(page.get_by_role("alert")).to_contain_text("<b>too hot</b>")


def test_a_character_of_several_tokens_stands_at_the_first_of_them(visit: Visit) -> None:
    table = {"tokens": ["�", "�", "x"], "token_logprobs": [-1.0] * 3, "top_tokens": [[]] * 3}
    whole = {"tokens": ["é", " "], "token_logprobs": [-1.0] * 2, "top_tokens": [[]] * 2}
    pieces = [
        {"index": 0, "text": "éx", "token_ids": [1, 2, 3], "logprobs": table, "finish_reason": None},
        {"index": 0, "text": "é ", "token_ids": [4, 5], "logprobs": whole, "finish_reason": "length"},
    ]
    opening = {"index": 0, "text": "", "token_ids": [], "prompt_token_ids": [9], "logprobs": None}
    visit.answers["/v1/completions"] = lambda asked: events(*({"choices": [one]} for one in [opening, *pieces]))
    page = visit.open("play")
    write(page, "caf")
    expect(page.locator(".page-leaf .token")).to_have_text(["éx", "", "", "é", " "])
    page.get_by_role("button", name="Go on").click()
    expect(page.locator(".page-leaf .token")).to_have_count(10)
    assert visit.last("/v1/completions")["prompt"] == [9, 1, 2, 3, 4, 5]


# Talk


def test_a_conversation_is_held_mended_kept_and_taken_along(visit: Visit) -> None:
    page = visit.open("talk")
    expect(page.get_by_text("This model was never taught a conversation")).to_be_visible()
    page.get_by_text("How", exact=True).click()
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
    page.get_by_role("textbox", name="Your words").first.fill("Emmy\nfinds")
    page.keyboard.press("Control+Enter")
    page.locator(".talk-desk .primary:enabled").wait_for()
    expect(page.locator(".turn.mine .words")).to_have_text("Emmy\nfinds")
    assert [one["content"] for one in visit.last("/v1/chat/completions")["messages"]] == ["Emmy\nfinds"]
    expect(page.locator(".turn")).to_have_count(2)
    answer = page.locator(".turn .words").last.text_content() or ""
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save as JSON").click()
    kept = json.loads(Path(saved.value.path()).read_text("utf-8"))
    assert [one["role"] for one in kept["messages"]] == ["user", "assistant"]
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save as Markdown").click()
    assert "> Emmy\n> finds" in Path(saved.value.path()).read_text("utf-8")
    visit.open("talk")
    expect(page.locator(".turn .words").last).to_have_text(answer)
    page.get_by_role("button", name="Clear").click()
    page.get_by_role("button", name="Forget it all?").click()
    expect(page.locator(".turn")).to_have_count(0)


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
    expect(page.locator(".head-cell")).to_have_count(12)
    page.locator(".head-cell").first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Layer 1, head 1")).to_be_visible()
    assert visit.last("/page/attention")["layer"] == 1
    page.keyboard.press("x")
    expect(page.locator(".columns article")).to_have_count(2)
    assert visit.last("/page/look")["off"] == visit.last("/page/regenerate")["off"] == ["1.1"]
    expect(page.get_by_text("0.250 more")).to_be_visible()
    page.get_by_role("button", name="Switch off feed-forward of layer 2").click()
    expect(page.get_by_text("0.500 more")).to_be_visible()
    page.get_by_role("button", name="All on").click()
    expect(page.locator(".chips")).to_be_hidden()
    assert "off" not in visit.last("/page/look")


def test_the_sections_follow_the_token_that_is_chosen(visit: Visit) -> None:
    page = visit.open("look")
    page.get_by_label("A text").fill("one two three two one")
    expect(page.locator(".tokens .token")).to_have_count(5)
    page.locator(".tokens .token").nth(2).click()
    expect(page.locator(".attention .reading")).to_contain_text("three (3) looks at")
    expect(page.locator(".bars li").first).to_be_visible()
    visit.until(lambda: visit.last("/page/parts")["position"] == 2)
    assert visit.last("/page/parts")["token"] == 103
    page.get_by_role("button", name="Matrix").click()
    page.locator(".attention canvas").focus()
    page.keyboard.press("End")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowUp")
    expect(page.locator(".attention .reading")).to_contain_text(re.compile(r"two \(2\) looks at two \(2\)"))
    page.locator(".lens td").first.focus()
    page.keyboard.press("ArrowDown")
    expect(page.get_by_text("After layer 1, one is followed by")).to_be_visible()
    for name, wait in (("A map of its tokens", "59 tokens; these two"), ("Its weights in figures", "Moved: how far")):
        page.get_by_text(name).click()
        expect(page.get_by_text(wait)).to_be_visible()
    page.get_by_label("Find a token").fill("Q")
    expect(page.get_by_text("Q; near it")).to_be_visible()
    page.get_by_role("button", name="Norm").click()
    expect(page.locator("th[aria-sort=descending]")).to_have_text("Norm")


def test_the_slider_goes_back_to_how_it_was(visit: Visit) -> None:
    page = visit.open("look")
    assert "step" not in visit.last("/page/look")
    page.get_by_label("Step of the training").focus()
    page.keyboard.press("Home")
    expect(page.locator(".time output")).to_have_text("step 1")
    page.keyboard.press("ArrowRight")
    expect(page.locator(".time output")).to_have_text("step 10")
    visit.until(lambda: [visit.last(path).get("step") for path in ("/page/look", "/page/attention")] == [10, 10])
    visit.answers["/page/look"] = lambda asked: {} if asked.get("step") else ANSWERS["/page/look"](asked)


# Learn


def test_losses_are_read_by_the_keyboard_and_samples_by_a_slider(visit: Visit) -> None:
    page = visit.open("learn")
    page.get_by_role("slider", name="Losses by step").focus()
    page.keyboard.press("End")
    expect(page.locator(".chart-box .reading")).to_contain_text("step 700")
    page.keyboard.press("ArrowLeft")
    value = page.get_by_role("slider", name="Losses by step").get_attribute("aria-valuetext")
    assert value is not None and value.startswith("step 699: batch") and "held out 2." in value
    labels = page.locator(".level text").all_text_contents()
    assert labels == ["2-gram 3.900", "3-gram 2.860", "5-gram 2.740"]
    before = page.locator(".curve.val").get_attribute("d")
    page.get_by_label("steps by tens").check()
    assert page.locator(".curve.val").get_attribute("d") != before
    page.get_by_label("Which sample").press("Home")
    expect(page.locator(".sample")).to_contain_text("eaoht")
    page.get_by_role("tab", name="Training").press("ArrowRight")
    expect(page.get_by_role("heading", name="Compression")).to_be_visible()
    assert page.locator(".report td").all_text_contents()[:3] == ["octavo", "2.110", "12.500"]
    assert page.locator(".report th").all_text_contents()[3:6] == ["Text", "Place source", "Place line"]
    expect(page.get_by_role("heading", name="Samples 1")).to_be_visible()


def test_a_training_is_watched_stopped_and_gone_on_with(visit: Visit) -> None:
    running = [True]
    baselines: list[Any] = [None]
    line = {"step": 701, "train_loss": 2.0, "val_loss": 1.987, "seconds": 150.0, "tokens_per_second": 1.0}
    news = "".join(
        f"event: {name}\ndata: {json.dumps(data)}\n\n"
        for name, data in (("metrics", line), ("sample", {"step": 701, "text": "The crown."}))
    )
    visit.answers |= {
        "state": lambda asked: {"training": {"model": "ada", "running": running[0]}},
        "/page/learn": lambda asked: ANSWERS["/page/learn"](asked) | {"running": running[0], "baselines": baselines[0]},
        "/page/learn/events": lambda asked: news,
        "/page/learn/stop": lambda asked: {"running": False},
        "/page/learn/resume": lambda asked: {"running": True},
    }
    page = visit.open("learn")
    expect(page.get_by_text("701 of 1,000")).to_be_visible()
    expect(page.get_by_text("1.987")).to_be_visible()
    expect(page.locator(".sample")).to_have_text("The crown.")
    expect(page.get_by_text("Time left")).to_be_visible()
    assert page.locator(".level text").count() == 0
    baselines[0] = [{"name": "3-gram", "loss": 2.5}]
    expect(page.locator(".level text")).to_have_text("3-gram 2.500")
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_text("It is at rest.")).to_be_visible()
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_text("It is learning.")).to_be_visible()
    page.get_by_role("button", name="Stop").click()


# all rooms


def filled(visit: Visit, room: str) -> "Page":
    """A room with something in it."""
    page = visit.open(room)
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
    reached = set()
    for _ in range(wanted + 12):
        page.keyboard.press("Tab")
        place, ring = page.evaluate(
            "[document.activeElement.dataset.walk, getComputedStyle(document.activeElement).outlineStyle]"
        )
        if place is not None:
            assert ring != "none", page.evaluate("document.activeElement.outerHTML")
            reached.add(place)
    return wanted, len(reached)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_is_open_to_all(room: str, visit: Visit) -> None:
    page = filled(visit, room)
    page.evaluate(AXE_FILE_PATH.read_text("utf-8"))
    assert grave(page, "light", {}) + grave(page, "dark", {"runOnly": ["color-contrast"]}) == []
    page.mouse.move(0, 0)
    page.evaluate("document.activeElement.blur()")
    expect(page.locator(".leaf:visible")).to_have_count(0)
    wanted, reached = walk(page)
    assert wanted == reached > 8
    page.set_viewport_size({"width": 375, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth") <= 375


def test_a_page_waits_for_a_training_and_offers_the_rooms_that_work(visit: Visit) -> None:
    models: list[Json] = []
    visit.answers["state"] = lambda asked: {"rooms": ["learn"], **({} if models else {"models": []})}
    page = visit.page
    page.goto(f"{visit.base}/learn")
    expect(page.get_by_text("wait for the training to begin")).to_be_visible()
    models.append({})
    page.locator("body[data-ready]").wait_for()
    assert page.locator("nav a").all_text_contents() == ["Learn"]
    page.goto(f"{visit.base}/look")
    expect(page.get_by_text("This room is not open here.")).to_be_visible()


def test_light_and_dark_are_chosen_and_remembered(visit: Visit) -> None:
    page = visit.open("play")
    paper = "getComputedStyle(document.documentElement).backgroundColor"
    light = page.evaluate(paper)
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate(paper)
    assert light != dark
    page.get_by_role("button", name=re.compile("Light page|Dark page")).click()
    assert page.evaluate(paper) == light
    visit.open("talk")
    assert page.evaluate(paper) == light


def test_a_service_with_a_key_asks_for_it_once(browser: "Browser") -> None:
    service = Running(Rules(key=KEY))
    try:
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{service.port}/play")
        page.get_by_label("Key", exact=True).fill(KEY)
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
    assert page.locator("main :is(script, img, iframe, style, base, meta, form, math, object, b b, a)").count() == 0
    names = page.evaluate("[...document.querySelectorAll('main *')].flatMap((one) => one.getAttributeNames())")
    assert not [name for name in names if name.startswith("on")]
    shown = page.locator("main").text_content() or ""
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200f\u202e\u2066\ufeff\U000e0041]", shown)
    assert shown.count("<script>window.pwned = 1</script>") >= parts
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_whatever_is_written_is_but_text_in_play(visit: Visit) -> None:
    rows = [{"id": 1, "token": text, "logprob": -1.0} for text in TEXTS[:8]]
    table = {"tokens": TEXTS, "token_logprobs": [-1.0] * 200, "top_tokens": [rows] * 200}
    piece = {"index": 0, "text": "".join(TEXTS), "token_ids": [1] * 200, "logprobs": table, "finish_reason": "<b>b</b>"}
    visit.answers["/v1/completions"] = lambda asked: events({"choices": [piece]})
    page = visit.open("play")
    write(page, "<img src=x onerror=pwned=1>\u202e")
    page.locator(".token").nth(199).wait_for(state="attached")
    page.locator(".token").first.focus()
    inert(page, 2)


def test_whatever_is_said_is_but_text_in_talk(visit: Visit) -> None:
    pieces = [{"index": 0, "delta": {"content": text}, "finish_reason": None} for text in TEXTS]
    visit.answers["/v1/chat/completions"] = lambda asked: events(*({"choices": [one]} for one in pieces))
    page = visit.open("talk")
    page.get_by_label("Your words").fill(TEXTS[0])
    page.keyboard.press("Enter")
    page.locator(".talk-desk .primary:enabled").wait_for()
    inert(page, 2)
    visit.open("talk")
    inert(page, 2)


def test_whatever_a_vocabulary_holds_is_but_text_in_look(visit: Visit) -> None:
    def look(asked: Json) -> Json:
        told = ANSWERS["/page/look"]({"text": "a " * 99 + "a"})
        for token, text in zip(told["tokens"], TEXTS, strict=False):
            token["text"] = text
            token["alternatives"] = [{"id": 1, "text": one, "probability": 0.1} for one in TEXTS[:5]]
        for layer in told["lens"]:
            for place, says in enumerate(layer["says"]):
                says[0]["text"] = TEXTS[place]
        return told

    attention = ANSWERS["/page/attention"]
    visit.answers |= {"/page/look": look, "/page/attention": lambda asked: attention(asked | {"text": "a " * 99 + "a"})}
    visit.answers["/page/map"] = lambda asked: {
        "points": [{"id": 1, "text": text, "x": place, "y": 1} for place, text in enumerate(TEXTS)],
        "explained": [0.5, 0.1],
    }
    page = visit.open("look")
    page.get_by_text("A map of its tokens").click()
    page.locator(".token").nth(1).focus()
    page.locator(".lens td").first.focus()
    inert(page, 1)
    page.locator(".lens td").nth(40).click()
    inert(page, 1)
