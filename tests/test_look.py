"""`octavo look` and its pictures: what the lenses find, in words, as JSON and drawn."""

import io
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest

from octavo import lens, training
from octavo.checkpoint import load_snapshot
from octavo.cli import run as command
from octavo.cli.showing import LENSES, show
from octavo.config import Asked
from octavo.errors import ConfigError
from octavo.looking import look, open_model
from octavo.pictures import DRAWN, LONGEST, as_png, picture
from texts import sentences

TEXT = "Ada finds the sea. Ada finds"
Said = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("look")
    (folder / "text.txt").write_text(sentences(200))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("OCTAVO_HOME", str(folder / "home"))
        asked = Asked(steps=40, layers=2, heads=2, width=32, context=160, batch=4, eval_every=20)
        list(training.begin(["text.txt"], asked, out=folder / "runs" / "book").events())
    return folder


@pytest.fixture
def said(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Said:
    """Runs `octavo look` and gives its exit status, standard output and standard error."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("NO_COLOR", "1")

    def call(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = command(["look", *words])
        return status, *capsys.readouterr()

    return call


def test_a_text_alone_is_looked_at_in_the_newest_run(said: Said) -> None:
    status, output, errors = said(TEXT)
    assert (status, errors) == (0, "")
    for part in (TEXT, "nats a token", "what surprised it most", "heads, by what", "logit lens", "embedding"):
        assert part in output
    assert "\x1b" not in output


@pytest.mark.parametrize("words", [[], ["-"], ["book", "-"], ["book"]])
def test_a_text_may_come_from_a_pipe(said: Said, monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(TEXT.encode())))
    status, output, errors = said(*words, "--lens", "surprise")
    assert (status, errors) == (0, "") and TEXT in output


@pytest.mark.parametrize("name", ["surprise", "next", "heads", "logits", "attention", "parts", "map", "weights"])
def test_each_lens_is_shown_and_is_the_librarys(said: Said, folder: Path, name: str) -> None:
    status, output, errors = said("book", TEXT, "--lens", name)
    assert (status, errors) == (0, "")
    seen = look(*open_model(folder / "runs" / "book"), TEXT)
    first = seen.following[0]
    shown = {
        "surprise": f"{max(read.surprise or 0 for read in seen.reads):.1f}",
        "next": f"{100 * first.probability:.0f} %",
        "heads": seen.kinds[1][1].kind,
        "logits": f"{100 * seen.said[1].choices[-1][0].probability:.0f} %",
        "attention": "looks at",
        "parts": f"{seen.parts(len(seen.trace) - 1, first.id)['logit']:.3f}",
        "map": "the other end",
        "weights": "blocks.1.attention.mix.weight",
    }
    assert shown[name] in output


@pytest.mark.parametrize("columns", ["20", "80"])
@pytest.mark.parametrize("name", sorted(LENSES))
def test_nothing_is_cut_however_narrow_it_is(
    said: Said, monkeypatch: pytest.MonkeyPatch, name: str, columns: str
) -> None:
    wide = said("book", TEXT, "--lens", name)[1]
    monkeypatch.setenv("COLUMNS", columns)
    piped = said("book", TEXT, "--lens", name)[1]
    assert "…" not in wide + piped and set(piped.split()) == set(wide.split())
    shown = on_a_terminal(said, monkeypatch, "--lens", name)
    signs = [sorted("".join(text.split())) for text in (shown, wide)]  # of names in two lines, too
    assert set(shown.split()) == set(wide.split()) or signs[0] == signs[1]


def test_a_table_of_the_weights_fits_a_terminal(said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = on_a_terminal(said, monkeypatch, "--lens", "weights").splitlines()
    assert max(map(len, lines)) <= 80 and "  .weight" in map(str.rstrip, lines)


def on_a_terminal(said: Said, monkeypatch: pytest.MonkeyPatch, *words: str) -> str:
    """What is shown there, without its colours."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    return re.sub(r"\x1b\[[\d;]*m", "", said("book", TEXT, *words)[1])


def test_no_token_is_a_command_to_the_terminal(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seen = look(*open_model(folder / "runs" / "book"), TEXT)
    seen._spelled.update(dict.fromkeys(range(seen.trace.model.config.vocab_size), "[/red]:smile:"))
    show(seen, tuple(name for name in LENSES if name != "map"), None, None)
    assert capsys.readouterr().out.count("[/red]:smile:") > 50


def test_a_head_is_looked_at_token_by_token(said: Said, folder: Path) -> None:
    status, output, _ = said("book", TEXT, "--layer", "1", "--head", "0")
    assert status == 0 and "layer 1, head 0" in output
    weights = look(*open_model(folder / "runs" / "book"), TEXT).trace.weights(1)[0]
    place = int(weights[-1].argmax())
    assert f"@{place} {100 * weights[-1, place].item():.0f} %" in output.splitlines()[-1]
    assert "layer 1, head 1" in said("book", TEXT, "--layer", "1")[1]  # all heads of the layer


def test_what_is_off_and_what_was_is_looked_at(said: Said, folder: Path) -> None:
    told = json.loads(said("book", TEXT, "--json", "--off", "0.1", "--off", "1")[1])
    seen = look(*open_model(folder / "runs" / "book"), TEXT, changes={"0.1": 0, "1": 0})
    assert told["loss"] == seen.trace.loss
    told = json.loads(said("book", TEXT, "--json", "--step", "1")[1])
    model, tokenizer = open_model(folder / "runs" / "book")
    was = look(load_snapshot(folder / "runs" / "book", 1, model.config), tokenizer, TEXT)
    assert told["loss"] == was.trace.loss


def test_json_holds_what_is_large_only_where_it_is_asked_for(said: Said, folder: Path) -> None:
    seen = look(*open_model(folder / "runs" / "book"), TEXT, top=2)
    assert json.loads(said("book", TEXT, "--json", "--top", "2")[1]) == json.loads(json.dumps(seen.to_dict()))
    words = [word for name in ("attention", "parts", "map", "weights") for word in ("--lens", name)]
    told = json.loads(said("book", TEXT, "--json", *words)[1])
    assert told["attention"]["1"] == seen.trace.weights(1).tolist()
    assert sum(part["value"] for part in told["parts"]["parts"]) == pytest.approx(told["parts"]["logit"], abs=1e-3)
    assert len(told["weights"]) == len(lens.matrices(seen.trace.model)) and told["map"]["points"]
    assert list(json.loads(said("book", TEXT, "--json", "--layer", "1")[1])["attention"]) == ["1"]


def test_every_picture_is_a_picture(said: Said, folder: Path) -> None:
    for name in sorted(DRAWN):
        status, output, errors = said("book", TEXT, "--lens", name, "--svg", f"{name}.svg")
        assert (status, output, errors) == (0, "", f"drawn into {name}.svg\n")
        root = ET.fromstring((folder / f"{name}.svg").read_text())
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
    said("book", TEXT, "--layer", "1", "--head", "0", "--png", "head.picture", "--svg", "head.png")
    assert (folder / "head.picture").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert (folder / "head.png").read_text().startswith("<svg")  # the flag says what it is, not the name


def test_a_picture_holds_no_markup_of_the_text(said: Said, folder: Path) -> None:
    seen = look(*open_model(folder / "runs" / "book"), TEXT)
    seen._spelled.update(dict.fromkeys(seen.trace.tokens.tolist(), "<script>&"))
    for name in DRAWN:
        assert "<script" not in picture(seen, name)


def test_what_is_no_picture_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = open_model(folder / "runs" / "book")
    with pytest.raises(ConfigError, match="weights is no picture; draw one of attention, heads"):
        picture(look(*opened, TEXT), "weights")
    with pytest.raises(ConfigError, match=f"the text has 150 tokens and {LONGEST} can be drawn; shorten it"):
        picture(look(*opened, "a" * 150), "logits")
    monkeypatch.setitem(__import__("sys").modules, "resvg_py", None)
    with pytest.raises(ConfigError, match="PNG is drawn by resvg-py; install it"):
        as_png("<svg/>")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["book", TEXT, "--layer", "2"], "there is no layer 2; the model has layers 0 to 1"),
        (
            ["book", TEXT, "--layer", "0", "--head", "5"],
            "there is no head 5 in layer 0; the model has layers 0 to 1 and heads 0 to 1",
        ),
        (["book", TEXT, "--layer", "-1"], "'-1' is no part of a model; name a head"),
        (["book", TEXT, "--head", "1"], "--head 1 of which layer? say --layer too"),
        (["book", TEXT, "--off", "9"], "there is no layer 9; the model has layers 0 to 1"),
        (["book", TEXT, "--step", "39"], "kept no weights of step 39; there are 1, 2"),
        (["book", TEXT, "--top", "0"], "top is 0; give 1 to 100"),
        (["book", TEXT, "more"], "there are 2 texts; look at one at a time"),
        (["nowhere", TEXT], "no run nowhere; runs/ has book"),
        (["book", TEXT, "--svg", "no/such/folder.svg", "--lens", "weights"], "weights is no picture"),
    ],
)
def test_a_mistake_is_one_line_and_shows_nothing_else(said: Said, words: list[str], line: str) -> None:
    status, output, errors = said(*words)
    assert status == 2 and output == "" and line in errors and errors.count("\n") == 1


def test_a_long_text_loses_its_beginning_and_says_so(said: Said) -> None:
    status, _, errors = said("book", "Ada finds the sea. " * 10, "--lens", "next")
    assert status == 0 and errors == "the text is longer than can be looked at; left out is its beginning, 30 tokens\n"


def test_control_characters_do_nothing(said: Said) -> None:
    status, output, errors = said("book", "Ada\x1b[31m finds", "--lens", "surprise", "--lens", "attention")
    assert status == 0 and "\x1b" not in output + errors
