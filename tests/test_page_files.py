"""The page as files: which there are, who gets them, and what they may do in a browser."""

import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

import octavo
from octavo.server.engine.engine import Engine
from octavo.server.gate import Rules
from octavo.server.models import Served
from octavo.server.page import files
from octavo.server.page.files import ASSETS, OPEN, POLICY, ROOMS
from octavo.server.page.state import described
from test_server import KEY, MODELS, PLAIN, Running

STATIC = Path(files.__file__).parent / "static"


@pytest.fixture(scope="module")
def guarded() -> Iterator[Running]:
    service = Running(Rules(key=KEY))
    yield service
    service.stop()


def headers(running: Running, path: str) -> tuple[int, list[tuple[str, str]]]:
    connection = HTTPConnection("127.0.0.1", running.port, timeout=20)
    connection.request("GET", path)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status, [(name.lower(), value) for name, value in answer.getheaders()]


def test_the_table_names_each_file_that_there_is_and_no_other() -> None:
    assert {path.name for path in STATIC.iterdir()} == {*ASSETS, "shell.html"}


def test_no_file_of_the_page_is_long_or_asks_anybody_else() -> None:
    for path in STATIC.iterdir():
        text = path.read_text("utf-8")
        assert len(text.splitlines()) < 300, path.name
        assert "https://" not in text and "//cdn" not in text, path.name
        assert "http://" not in text.replace("http://www.w3.org/2000/svg", ""), path.name
        assert "innerHTML" not in text and "insertAdjacentHTML" not in text and "eval(" not in text, path.name


def test_rooms_and_assets_have_one_policy_which_is_the_pages_own(running: Running) -> None:
    for path in sorted(OPEN - {"/"}):
        status, told = headers(running, path)
        named = dict(told)
        assert status == 200 and [value for name, value in told if name == "content-security-policy"] == [POLICY]
        assert named["cache-control"] == "no-cache" and named["x-content-type-options"] == "nosniff"
        kind = "text/html; charset=utf-8" if path in ROOMS else ASSETS[path.split("/")[-1]]
        assert named["content-type"] == kind
    assert dict(headers(running, "/health")[1])["content-security-policy"].startswith(
        "default-src 'none'; frame-ancest"
    )


def test_the_page_opens_where_there_is_something_to_do(running: Running) -> None:
    status, told = headers(running, "/")
    assert (status, dict(told)["location"]) == (307, "/play")
    state = running.server.config.app.app.state  # type: ignore[union-attr]
    state.home = "/learn"
    assert dict(headers(running, "/")[1])["location"] == "/learn"
    state.home = "/play"


@pytest.mark.parametrize("name", ["shell.html", "__init__.py", "files.py", "..", "%2e%2e", "main.js%00", "x" * 5000])
def test_an_asset_is_a_name_of_the_table_and_never_a_path(name: str, running: Running) -> None:
    status, error = running.refusal("GET", f"/assets/{name}")
    assert status in (400, 404)
    if status == 404 and "%" not in name and name != "..":
        assert error["message"].startswith("no file ") and error["message"].endswith("belongs to the page; open /play")


def test_a_service_with_a_key_shows_its_page_and_nothing_that_is_anybodys(guarded: Running) -> None:
    for path in OPEN:
        assert guarded.call("GET", path)[0] == guarded.call("HEAD", path)[0] in (200, 307)
        assert guarded.call("POST", path, {})[0] == guarded.call("PUT", path)[0] == 401
        assert guarded.call("GET", path, Host="evil.example")[0] == 403
    for path in ("/page/state", "/assets/", "/assets/none.js", "/%6cook", "/look/", "//look", "/v1/models", "/nowhere"):
        assert guarded.call("GET", path)[0] == 401
    state = json.loads(guarded.call("GET", "/page/state", Authorization=f"Bearer {KEY}")[1])
    assert state["key"] is True


def test_the_page_is_told_what_there_is(running: Running) -> None:
    state = json.loads(running.call("GET", "/page/state")[1])
    assert state["rooms"] == ["learn", "play", "look", "talk"] and state["training"] is None and state["key"] is False
    plain, chatty = state["models"]
    assert (plain["name"], plain["answers"], chatty["answers"]) == ("plain", False, True)
    assert (plain["layers"], plain["heads"], plain["width"], plain["context"]) == (2, 2, 32, 256)
    assert plain["parameters"] == sum(weight.numel() for weight in MODELS["plain"][0].parameters())
    assert plain["vocab_size"] == PLAIN.vocab_size and plain["dialect"] == "modern"
    assert plain["steps"] == [] and plain["learned"] is False


def test_snapshots_are_found_by_their_names(tmp_path: Path) -> None:
    served = Served("ada", Engine(*MODELS["plain"]), run=tmp_path)
    assert (described(served)["steps"], described(served)["learned"]) == ([], False)
    (tmp_path / "snapshots").mkdir()
    for name in ("step-10.safetensors", "step-2.safetensors", "step-x.safetensors", "step-3.safetensors.tmp", "other"):
        (tmp_path / "snapshots" / name).touch()
    (tmp_path / "metrics.jsonl").touch()
    assert (described(served)["steps"], described(served)["learned"]) == ([2, 10], True)


def test_a_completion_tells_its_ids_where_they_are_asked_for(running: Running) -> None:
    asked = {"model": "plain", "prompt": "Ada", "max_tokens": 6, "seed": 3, "logprobs": 2}
    plain = json.loads(running.call("POST", "/v1/completions", asked)[1])["choices"][0]
    asked |= {"return_token_ids": True}
    told = json.loads(running.call("POST", "/v1/completions", asked)[1])["choices"][0]
    assert told["prompt_token_ids"] == PLAIN.encode("Ada") and "token_ids" not in plain
    assert PLAIN.decode(told["token_ids"]) == told["text"] == plain["text"]
    assert [len(row) for row in told["logprobs"]["top_tokens"]] == [2] * 6
    first = told["logprobs"]["top_tokens"][0][0]
    assert PLAIN.decode([first["id"]], special=True) == first["token"]
    streamed = running.call("POST", "/v1/completions", {**asked, "stream": True})[1].decode()
    chunks = [json.loads(line[6:])["choices"][0] for line in streamed.split("\n\n") if line.startswith("data: {")]
    assert chunks[0]["prompt_token_ids"] == told["prompt_token_ids"] and chunks[0]["text"] == ""
    assert [token for chunk in chunks for token in chunk["token_ids"]] == told["token_ids"]


def test_a_page_comes_with_the_package() -> None:
    package = Path(octavo.__file__).parent
    configured = tomllib.loads((package.parents[1] / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    assert configured["packages"]["find"] == {"where": ["src"]}
    taken = {path for pattern in configured["package-data"]["octavo"] for path in package.glob(pattern)}
    needed = {path for path in package.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert taken == needed and len(needed) > len(ASSETS)


def test_the_files_are_served_without_torch() -> None:
    lines = "import sys, octavo.server.page.files; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", lines], check=False).returncode == 0
