"""A text with all lenses together: as values, as JSON over a real socket, as it was while the model learned."""

import asyncio
import json
import shutil
import socket
import threading
import time
from base64 import b64decode
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

import octavo
from octavo import lens, training
from octavo.checkpoint import load_snapshot
from octavo.completion import completions
from octavo.config import Asked, ModelConfig
from octavo.errors import ConfigError, DamagedError, RunError
from octavo.looking import Look, look, mapped, open_model, regenerated, shrunk, spelled
from octavo.model import GPT
from octavo.porting import load
from octavo.saved import snapshots
from octavo.server.engine.engine import Engine
from octavo.server.gate import Rules
from octavo.server.models import Models, Served
from octavo.server.page.lenses import PartsRequest, TextRequest
from octavo.server.page.peering import KEPT, Lenses
from octavo.server.refused import RefusedError
from octavo.server.service import listen, service
from octavo.tokenizers import BPETokenizer, SimpleTokenizer, Tokenizer
from test_server import MODELS, Running
from test_worker import until
from texts import sentences

TEXT = "Ada finds the sea"
STEPS = 40
MANY = 40  # questions: more than a pool that is not told how many has threads


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("looking")
    (folder / "text.txt").write_text(sentences(200))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("OCTAVO_HOME", str(folder / "home"))
        asked = Asked(steps=STEPS, layers=2, heads=2, width=32, context=64, batch=4, eval_every=20)
        list(training.begin([str(folder / "text.txt")], asked, out=folder / "run").events())
    return folder / "run"


@pytest.fixture(scope="module")
def opened(run: Path) -> tuple[GPT, Tokenizer]:
    return load(run)


@pytest.fixture(scope="module")
def seen(opened: tuple[GPT, Tokenizer]) -> Look:
    return look(*opened, TEXT)


def test_it_tells_what_the_lenses_find(seen: Look) -> None:
    told = json.loads(json.dumps(seen.to_dict(), allow_nan=False))
    assert "".join(token["text"] for token in told["tokens"]) == TEXT
    assert [token["probability"] for token in told["tokens"]] == [read.probability for read in seen.reads]
    assert told["loss"] == seen.trace.loss and told["tokens"][0]["surprise"] is None
    assert (told["layers"], told["heads"]) == (2, 2) == (len(told["kinds"]), len(told["kinds"][0]))
    assert [layer["layer"] for layer in told["lens"]] == [0, 1, 2]
    assert told["lens"][-1]["says"][-1][0] == told["next"][0]
    assert set(told["kinds"][0][0]) == {"kind", "previous", "first", "itself", "same", "induction"}


def test_a_notebook_shows_it_and_runs_nothing_of_it(opened: tuple[GPT, Tokenizer]) -> None:
    seen = look(*opened, TEXT)
    seen._spelled[seen.trace.tokens[3].item()] = "<img src=x onerror=alert(1)>"
    html = seen._repr_html_()
    assert html.count("<span ") == len(TEXT) and "<img" not in html and "bits" in html and "<table>" in html


def test_weights_are_packed_and_come_back(seen: Look) -> None:
    for layer in range(2):
        told, weights = seen.attention(layer), seen.trace.weights(layer)
        values = np.frombuffer(b64decode(told["data"]), "<u2").reshape(told["heads"], -1) / 65535
        back = torch.zeros_like(weights)
        rows, columns = torch.tril_indices(len(TEXT), len(TEXT))
        back[:, rows, columns] = torch.tensor(values, dtype=back.dtype)
        assert told["tokens"] == len(TEXT)
        torch.testing.assert_close(back, weights, atol=1 / 65535, rtol=0)


def test_thumbnails_hold_the_largest_weight_of_each_square(opened: tuple[GPT, Tokenizer]) -> None:
    seen = look(*opened, (TEXT + ". ") * 3)
    told = seen.thumbnails()
    assert told["size"] == 32 < len(seen.trace)
    small = np.frombuffer(b64decode(told["data"]), np.uint8).reshape(2, 2, 32, 32)
    for layer in range(2):
        peaks = (seen.trace.weights(layer).amax((1, 2)) * 255).round().tolist()
        assert small[layer].max((1, 2)).tolist() == peaks


def test_small_pictures_are_those_of_a_pooling() -> None:
    for whole in (1, 2, 31, 32, 33, 63, 64, 65, 100):
        squares = torch.rand(3, whole, whole, generator=torch.Generator().manual_seed(whole))
        for size in (min(whole, 32), min(whole, 7)):
            assert torch.equal(shrunk(squares, size), F.adaptive_max_pool2d(squares, size))


def test_parts_and_logit_agree(seen: Look) -> None:
    told = seen.parts(4, 2)
    assert sum(part["value"] for part in told["parts"]) == pytest.approx(told["logit"], abs=1e-3)


def test_a_long_text_is_refused_or_its_newest_part_taken(opened: tuple[GPT, Tokenizer]) -> None:
    long = TEXT * 5
    with pytest.raises(ConfigError, match="the text has 85 tokens and 64 can be looked at together; shorten it"):
        look(*opened, long)
    newest = look(*opened, long, newest=True)
    assert newest.left_out == 21 and "".join(newest.texts) == long[-64:]
    with pytest.raises(ConfigError, match="top is 0; give 1 to 100"):
        look(*opened, TEXT, top=0)


def test_a_part_that_is_off_changes_how_the_text_goes_on(opened: tuple[GPT, Tokenizer]) -> None:
    model, tokenizer = opened
    words = {"max_new_tokens": 20, "temperature": 0.8, "seed": 3}
    same = regenerated(model, tokenizer, TEXT, {}, **words)
    usual = completions(model, tokenizer, TEXT, **words)[0].text
    assert same["before"] == same["after"] == {"text": usual, "loss": look(model, tokenizer, TEXT).trace.loss}
    off = {"0": 0.0, "1": 0.0}
    told = regenerated(model, tokenizer, TEXT, off, **words)
    with lens.switched(model, off):
        assert told["after"]["text"] == completions(model, tokenizer, TEXT, **words)[0].text != usual
    assert told["before"] == same["before"] and told["after"]["loss"] != told["before"]["loss"]


def test_every_token_has_a_spelling() -> None:
    bpe = BPETokenizer.train("déjà vu " * 40, vocab_size=260)
    accent = bpe.encode("é")
    spellings = [spelled(bpe, token) for token in range(bpe.vocab_size)]
    assert all(isinstance(text, str) and text for text in spellings)
    assert spelled(bpe, bpe.end_of_text or 0) == "<|endoftext|>"
    if len(accent) == 2:
        assert [spelled(bpe, token) for token in accent] == ["\\xc3", "\\xa9"]
    simple = SimpleTokenizer("ab")
    assert spelled(simple, simple.vocab_size) == f"[{simple.vocab_size}]"
    assert [spelled(simple, token) for token in simple.encode("ab")] == ["a", "b"]


def test_the_map_holds_the_vocabulary(opened: tuple[GPT, Tokenizer]) -> None:
    model, tokenizer = opened
    told = mapped(model, tokenizer, most=5)
    assert [point["text"] for point in told["points"]] == [spelled(tokenizer, token) for token in range(5)]
    assert 0 < sum(told["explained"]) <= 1


def test_a_model_in_half_precision_is_looked_into_with_whole_angles(tmp_path: Path) -> None:
    tokenizer = SimpleTokenizer("Ada finds a sea.")
    config = ModelConfig(dialect="modern", vocab_size=tokenizer.vocab_size, context=64, layers=1, heads=1, width=32)
    octavo.save(GPT(config).to(torch.bfloat16), tokenizer, tmp_path)
    model, _ = open_model(tmp_path)
    whole = GPT(config).rotary
    assert model.rotary is not None and whole is not None
    assert torch.equal(model.rotary.cosine, whole.cosine) and torch.equal(model.rotary.sine, whole.sine)
    assert torch.equal(model.embed.weight, load(tmp_path)[0].embed.weight.float())


# as it was while it learned


def test_every_snapshot_opens_as_the_model_that_it_was(run: Path, opened: tuple[GPT, Tokenizer]) -> None:
    steps = snapshots(run)
    assert steps[0] == 1 and steps[-1] == STEPS and steps == sorted(steps)
    config = opened[0].config
    for step in (steps[0], steps[-1]):
        model = load_snapshot(run, step, config)
        stored = load_file(run / "snapshots" / f"step-{step}.safetensors")
        for name, weight in model.named_parameters():
            assert torch.equal(weight, stored[name].float())
        again, tokenizer = octavo.load(run, step=step, dtype=torch.float64)
        assert torch.equal(again.embed.weight, model.embed.weight.double())
        assert tokenizer.encode(TEXT) == opened[1].encode(TEXT)
    first, last = (look(load_snapshot(run, step, config), opened[1], TEXT).trace.loss for step in (1, STEPS))
    assert first is not None and last is not None and last < first


def test_a_snapshot_that_is_none_is_refused(run: Path, opened: tuple[GPT, Tokenizer], tmp_path: Path) -> None:
    config = opened[0].config
    with pytest.raises(RunError, match="kept no weights of step 5000; there are 1, 2"):
        open_model(run, 5000)
    with pytest.raises(RunError, match="kept no weights of step 5000; there are 1, 2"):
        octavo.load(run, step=5000)
    with pytest.raises(RunError, match="kept no weights of step 1; there are none"):
        open_model(tmp_path, 1)
    with pytest.raises(RunError, match="has no weights yet; wait for the first"):
        open_model(tmp_path)
    (tmp_path / "snapshots").mkdir()
    save_file({"embed.weight": torch.zeros(2, 2)}, tmp_path / "snapshots" / "step-1.safetensors")
    with pytest.raises(DamagedError, match="holds another model's weights"):
        load_snapshot(tmp_path, 1, config)
    (tmp_path / "snapshots" / "step-1.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(DamagedError, match="cannot be read"):
        load_snapshot(tmp_path, 1, config)


def test_a_tied_snapshot_stays_tied(tmp_path: Path) -> None:
    from octavo.checkpoint import save_snapshot

    model = GPT(ModelConfig(vocab_size=9, context=8, layers=1, heads=1, width=4))
    save_snapshot(tmp_path, 3, model)
    again = load_snapshot(tmp_path, 3, model.config)
    assert again.unembed.weight is again.embed.weight
    tokens = torch.tensor([[1, 2, 3]])
    torch.testing.assert_close(again(tokens), model.eval()(tokens), atol=0.01, rtol=0.05)


# over a socket


@pytest.fixture(scope="module")
def port(run: Path, opened: tuple[GPT, Tokenizer]) -> Iterator[int]:
    models = Models([Served("here", Engine(*opened), run=run, source=run)])
    server, at = service(models, Rules(), lambda line: None), listen("127.0.0.1", 0)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([at])))
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield at.getsockname()[1]
    server.should_exit = True
    thread.join()


def ask(port: int, path: str, **body: Any) -> tuple[int, dict[str, Any]]:
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("POST", f"/page/{path}", json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    told = json.loads(answer.read())
    connection.close()
    return answer.status, told


def test_the_page_is_told_what_the_library_finds(port: int, seen: Look) -> None:
    status, told = ask(port, "look", text=TEXT)
    assert status == 200 and "lens" not in told
    heads, of = ask(port, "heads", text=TEXT)[1], {"written": told["written"]}
    all_of_it = told | heads | ask(port, "layers", text=TEXT)[1]
    assert all_of_it == json.loads(json.dumps({**seen.to_dict(), "thumbnails": seen.thumbnails()})) | of
    assert ask(port, "attention", text=TEXT, layer=1)[1] == seen.attention(1) | of
    assert ask(port, "heads", text=TEXT, layer=1)[1] == heads | {"attention": seen.attention(1)}
    assert ask(port, "parts", text=TEXT, position=3, token=2)[1] == seen.parts(3, 2) | of


def test_the_page_is_told_of_parts_that_are_off(port: int, opened: tuple[GPT, Tokenizer]) -> None:
    off = ["0.1", "1.feed_forward"]
    told = ask(port, "look", model="here", text=TEXT, off=off)[1]
    assert told["loss"] == look(*opened, TEXT, changes=dict.fromkeys(off, 0.0)).trace.loss
    told = ask(port, "regenerate", text=TEXT, off=off, max_new_tokens=8, temperature=0.5, seed=4)[1]
    words = {"max_new_tokens": 8, "temperature": 0.5, "seed": 4}
    assert told == regenerated(*opened, TEXT, dict.fromkeys(off, 0.0), **words)


def test_the_page_is_told_how_it_was(port: int, run: Path, opened: tuple[GPT, Tokenizer]) -> None:
    was = look(load_snapshot(run, 1, opened[0].config), opened[1], TEXT)
    assert ask(port, "look", text=TEXT, step=1)[1]["loss"] == was.trace.loss
    figures = {one["name"]: one for one in ask(port, "weights", model="here")[1]["weights"]}
    first = {one["name"]: one for one in ask(port, "weights", step=1)[1]["weights"]}
    assert figures["embed.weight"]["update"] > 0 == first["embed.weight"]["update"]
    assert figures["embed.weight"]["shape"] == [opened[0].config.vocab_size, 32]
    assert len(ask(port, "map")[1]["points"]) == opened[1].vocab_size


def test_what_is_asked_of_a_look_is_answered_from_its_weights_while_others_are_written(
    run: Path, opened: tuple[GPT, Tokenizer], tmp_path: Path
) -> None:
    shutil.copytree(run, tmp_path / "run")
    lenses = Lenses(lambda: {"run": tmp_path / "run"})
    asked = PartsRequest(text=TEXT, position=3, token=2)
    before = lenses.look(TextRequest(text=TEXT))
    octavo.save(load_snapshot(run, 1, opened[0].config), opened[1], tmp_path / "other")
    (tmp_path / "other/model.safetensors").replace(tmp_path / "run/model.safetensors")
    named = asked.model_copy(update={"written": before["written"]})
    assert lenses.parts(named) == look(*opened, TEXT).parts(3, 2) | {"written": before["written"]}
    after = lenses.parts(asked)
    assert after["logit"] != lenses.parts(named)["logit"] and after["written"] != before["written"]
    first, *later = (lenses.look(TextRequest(text=TEXT, step=step)) for step in snapshots(run)[: KEPT + 1])
    kept = asked.model_copy(update={"step": snapshots(run)[0], "written": first["written"]})
    assert len(later) == KEPT and lenses.parts(kept)["written"] == first["written"]  # it stands where it stood
    with pytest.raises(RefusedError, match="run has other weights by now; look at the text again") as refused:
        lenses.parts(named)
    assert (refused.value.status_code, refused.value.code) == (409, "other_weights")
    assert lenses.look(TextRequest(text=TEXT, written=after["written"])) | {"written": ""} != before | {"written": ""}


def test_the_page_is_told_how_good_it_is(port: int, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from octavo.report import report

    monkeypatch.setenv("OCTAVO_HOME", str(run.parent / "home"))

    def told() -> dict[str, Any]:
        connection = HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request("GET", "/page/report?model=here")
        answer = connection.getresponse()
        found = json.loads(answer.read())
        connection.close()
        return found

    seen = [told()]
    while not seen[-1]["ready"]:
        assert seen[-1]["report"] is None and 0 <= seen[-1]["progress"] < 1
        time.sleep(0.05)
        seen.append(told())
    assert [one["progress"] for one in seen] == sorted(one["progress"] for one in seen)
    assert seen[-1]["report"] == json.loads(json.dumps(report(run).to_dict()))
    (run / "octavo.toml").rename(run / "octavo.toml.away")
    try:
        assert told()["ready"]  # it was made before
    finally:
        (run / "octavo.toml.away").rename(run / "octavo.toml")


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("look", {"text": "a", "model": "../here"}, 404, "no model '../here' can be looked into; there is here"),
        ("look", {"text": TEXT * 5}, 400, "64 can be looked at together"),
        ("look", {"text": "a", "step": 3000}, 400, "kept no weights of step 3000"),
        ("look", {"text": "a", "off": ["7.0"]}, 400, "there is no layer 7; the model has layers 0 to 1"),
        ("look", {"text": "a\x00"}, 400, "it holds U+0000"),
        ("look", {"text": "a" * 65537}, 400, "text: it has 65537 characters, and 65536 can be looked at together"),
        ("look", {"text": "a", "top": 1000}, 400, "top"),
        ("layers", {"text": "a", "off": ["x"]}, 400, "'x' is no part of a model"),
        ("attention", {"text": "a", "layer": 2}, 400, "there is no layer 2"),
        ("parts", {"text": "a", "position": 1, "token": 0}, 400, "there is no position 1"),
        ("parts", {"text": "a", "position": 0, "token": 5000}, 400, "id 5000 is no token"),
        ("regenerate", {"text": "a", "temperature": -1}, 400, "temperature"),
        ("map", {"step": -1}, 400, "step"),
        ("look", {"text": "a", "step": 10**300}, 400, "step"),
    ],
)
def test_the_page_is_refused_what_cannot_be(port: int, path: str, body: dict[str, Any], status: int, said: str) -> None:
    got, told = ask(port, path, **body)
    assert got == status and said in told["error"]["message"], told


def asking(port: int, path: str, body: dict[str, Any]) -> socket.socket:
    """A connection over which something is asked, and on which nobody listens yet."""
    content = json.dumps(body)
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    connection = socket.create_connection(("127.0.0.1", port), timeout=20)
    connection.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n{content}".encode())
    return connection


def threads() -> set[threading.Thread]:
    """Those in which questions wait."""
    return {thread for thread in threading.enumerate() if thread.name.startswith("octavo lenses")}


def test_questions_that_nobody_waits_for_are_not_looked_into_and_hold_up_no_conversation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    octavo.save(*MODELS["plain"], tmp_path)
    seen, begun, go_on, before = list[str](), threading.Event(), threading.Event(), threads()

    def held(model: GPT, tokenizer: Tokenizer, text: str, **words: Any) -> Look:
        seen.append(text)
        begun.set()
        assert go_on.wait(60)
        return look(model, tokenizer, text, **words)

    monkeypatch.setattr("octavo.looking.look", held)
    plain = Served("plain", Engine(*MODELS["plain"]), source=tmp_path)
    running = Running(Rules(), served=[plain, Served("chatty", Engine(*MODELS["chatty"]))])
    first = asking(running.port, "/page/look", {"text": "Ada finds"})
    crowd = []
    try:
        assert begun.wait(60)
        crowd = [asking(running.port, "/page/look", {"text": f"Emmy{' ' * n}"}) for n in range(MANY)]
        until(lambda: len(running.server.server_state.tasks) == 1 + MANY)
        assert running.refusal("POST", "/tokenize", b"no JSON")[0] == 400  # its turn came after theirs
        for connection in crowd:
            connection.close()
        until(lambda: sum(line.startswith("POST /page/look 499 ") for line in running.lines) == MANY)
        chat = {"model": "chatty", "messages": [{"role": "user", "content": "Ada"}], "max_tokens": 4, "seed": 1}
        assert running.call("POST", "/v1/chat/completions", chat)[0] == 200
        assert seen == ["Ada finds"]  # and is still being looked into
        go_on.set()
        assert first.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert running.call("POST", "/page/look", {"text": "Grace draws"})[0] == 200
        assert seen == ["Ada finds", "Grace draws"]
    finally:
        go_on.set()
        for connection in (first, *crowd):
            connection.close()
        running.stop()
    assert threads() == before
