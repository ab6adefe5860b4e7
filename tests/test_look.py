"""`octavo look` and its pictures: what the lenses find, in words, as JSON and drawn."""

import io
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable
from itertools import chain, product
from pathlib import Path

import pytest

from octavo import lens, training
from octavo.checkpoint import load_snapshot
from octavo.cli import run as command
from octavo.cli.showing import LENSES, bar, percent, show
from octavo.config import Asked, ModelConfig
from octavo.errors import ConfigError
from octavo.figure import visible
from octavo.lens import Choice
from octavo.looking import Look, look, mapped, open_model
from octavo.model import GPT
from octavo.pictures import DRAWN, LONGEST, as_png, picture
from octavo.tokenizers import SimpleTokenizer
from texts import sentences

TEXT = "Ada finds the sea. Ada finds"
SVG = "{http://www.w3.org/2000/svg}"
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


@pytest.fixture
def seen(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Look:
    """What the library sees in the text; every head has a kind, and no two the same, however little they favour it."""
    monkeypatch.setattr("octavo.lens.heads.CLEAR", -1.0)
    seen = look(*open_model(folder / "runs" / "book"), TEXT)
    assert len({head.shares[head.kind] for layer in seen.kinds for head in layer}) == 4
    return seen


def tables(seen: Look) -> dict[str, list[str]]:
    """The rows of each lens' table."""
    texts = [visible(text) for text in seen.texts]
    words = {token: visible(seen.spell(token)) for token in range(seen.trace.model.config.vocab_size)}

    def sure(choices: Iterable[Choice]) -> str:
        return "  ".join(f"{words[choice.id]} {percent(choice.probability)}" for choice in choices)

    surprising = sorted(seen.reads[1:], key=lambda read: -(read.surprise or 0))[:8]
    clearest = max((head for layer in seen.kinds for head in layer), key=lambda head: head.shares[head.kind] or 0)
    weights = seen.trace.weights(clearest.layer)[clearest.head].tolist()
    looks = [sorted(enumerate(row[: query + 1]), key=lambda look: -look[1])[:3] for query, row in enumerate(weights)]
    parts = lens.contributions(seen.trace, len(texts) - 1, seen.following[0].id)
    ranked = sorted(parts, key=lambda part: -abs(part.value))
    told = mapped(seen.trace.model, seen.tokenizer)
    ends = [[words[point["id"]] for point in sorted(told["points"], key=lambda point: point[axis])] for axis in "xy"]
    return {
        "surprise": [
            f"{words[read.id]} {read.surprise:.1f} {percent(read.probability)} {sure(read.alternatives[:3])}"
            for read in surprising
        ],
        "next": [f"{words[one.id]} {bar(one.probability)} {percent(one.probability)}" for one in seen.following],
        "heads": [
            f"{place} {' '.join(f'{head.kind} {percent(head.shares[head.kind])}' for head in layer)}"
            for place, layer in enumerate(seen.kinds)
        ],
        "logits": [
            f"{name} {sure(choices[0] for choices in said.choices[-8:])}"
            for name, said in zip(("layer 1", "layer 0", "embedding"), seen.said[::-1], strict=True)
        ],
        "attention": [
            f"{texts[query]}@{query} {' '.join(f'{texts[key]}@{key} {percent(weight)}' for key, weight in look)}"
            for query, look in enumerate(looks)
        ],
        "parts": [f"{one.name} {one.value:+.3f} {bar(abs(one.value / ranked[0].value), 24)}" for one in ranked],
        "map": [
            row
            for share, end in zip(told["explained"], ends, strict=True)
            for row in (f"{percent(share)} of all one end {' '.join(end[:8])}", f"the other end {' '.join(end[-8:])}")
        ],
        "weights": [
            f"{one.name} {'×'.join(map(str, one.shape))} {one.mean:.3g} {one.deviation:.3g} "
            f"{one.largest:.3g} {one.norm:.3g}"
            for one in lens.matrices(seen.trace.model)
        ],
    }


@pytest.mark.parametrize("name", sorted(LENSES))
def test_each_lens_is_shown_and_is_the_librarys(said: Said, seen: Look, name: str) -> None:
    status, output, errors = said("book", TEXT, "--lens", name)
    assert (status, errors) == (0, "")
    rows, shown = tables(seen)[name], [line.split() for line in output.splitlines()]
    assert len(rows) > 1 and shown[-len(rows) :] == [row.split() for row in rows]


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


def test_every_picture_is_a_picture_and_is_the_librarys(said: Said, seen: Look, folder: Path) -> None:
    for name in sorted(DRAWN):
        status, output, errors = said("book", TEXT, "--lens", name, "--svg", f"{name}.svg")
        assert (status, output, errors) == (0, "", f"drawn into {name}.svg\n")
        assert (folder / f"{name}.svg").read_text() == picture(seen, name)
        assert ET.fromstring(picture(seen, name)).tag == f"{SVG}svg"
    said("book", TEXT, "--layer", "1", "--head", "0", "--png", "head.picture", "--svg", "head.png")
    assert (folder / "head.picture").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert (folder / "head.png").read_text() == picture(seen, "attention", 1, 0)  # the flag says what it is


def boxes(svg: str) -> list[tuple[float, float, float, float]]:
    """The boxes of a picture: from the left, from above, how wide and how strong each is."""
    rects = ET.fromstring(svg).iter(f"{SVG}rect")
    return [tuple(float(rect.get(key, "-1")) for key in ("x", "y", "width", "fill-opacity")) for rect in rects]


def words(svg: str) -> list[str | None]:
    """The words of a picture."""
    return [text.text for text in ET.fromstring(svg).iter(f"{SVG}text")]


def strengths(cells: Iterable[tuple[float, float, float, float]]) -> dict[tuple[int, int], float]:
    """How strong boxes are, each at its row and its column."""
    cells = list(cells)
    across, down = sorted({cell[0] for cell in cells}), sorted({cell[1] for cell in cells})
    return {(down.index(y), across.index(x)): strength for x, y, _, strength in cells}


def test_the_picture_of_a_head_has_its_weights(seen: Look) -> None:
    names = [visible(text) for text in seen.texts]
    for layer, head in product(range(2), repeat=2):
        svg = picture(seen, "attention", layer, head)
        rows = enumerate(seen.trace.weights(layer)[head].tolist())
        weights = {(query, key): weight for query, row in rows for key, weight in enumerate(row[: query + 1])}
        assert strengths(boxes(svg)) == pytest.approx(weights, abs=6e-4)
        assert words(svg) == [*names, *names, f"layer {layer}, head {head}: {seen.kinds[layer][head].kind}"]


@pytest.mark.parametrize("layer", [None, 1])
def test_the_picture_of_every_head_has_their_weights_at_their_places(seen: Look, layer: int | None) -> None:
    svg, size = picture(seen, "heads", layer), len(seen.trace)
    frames = [box for box in boxes(svg) if box[3] < 0]
    heads = [head for one in seen.kinds for head in one if layer in (None, head.layer)]
    assert [(x, y) for x, y, _, _ in frames] == sorted(((x, y) for x, y, _, _ in frames), key=lambda place: place[::-1])
    for (left, top, wide, _), head in zip(frames, heads, strict=True):
        found = {
            (round((y - top) * size / wide), round((x - left) * size / wide)): strength
            for x, y, _, strength in boxes(svg)
            if strength >= 0 and 0 <= x - left < wide and 0 <= y - top < wide
        }
        rows = enumerate((seen.trace.weights(head.layer)[head.head] * 255).round().tolist())
        weights = {(query, key): weight / 255 for query, row in rows for key, weight in enumerate(row) if weight > 3}
        assert found == pytest.approx(weights, abs=6e-4)
    assert words(svg)[:-1] == [f"{head.layer}.{head.head} {head.kind}" for head in heads]


def test_the_picture_of_surprise_and_of_what_each_layer_would_say_is_as_strong_as_they_are(seen: Look) -> None:
    svg, names = picture(seen, "surprise"), [visible(text) for text in seen.texts]
    bits = {(0, place): min((read.surprise or 0) / 8, 1) for place, read in enumerate(seen.reads)}
    assert strengths(boxes(svg)) == pytest.approx(bits, abs=6e-4) and words(svg)[:-1] == names
    svg, first = picture(seen, "logits"), len(names) - 24
    rows = [[choices[0] for choices in said.choices[first:]] for said in seen.said[::-1]]
    said = {(down, across): one.probability for down, row in enumerate(rows) for across, one in enumerate(row)}
    assert strengths(boxes(svg)) == pytest.approx(said, abs=6e-4)
    spelled = [[visible(seen.spell(one.id)) for one in row] for row in rows]
    lines = [[name, *row] for name, row in zip(("layer 1", "layer 0", "embedding"), spelled, strict=True)]
    assert words(svg)[:-1] == [*chain(*lines), *names[first:]]


def test_the_picture_of_what_comes_next_and_of_who_says_it_has_bars_as_long_as_they_count(seen: Look) -> None:
    svg = picture(seen, "next")
    shares = [choice.probability for choice in seen.following]
    assert [box[2] / 110 for box in boxes(svg)] == pytest.approx(shares, abs=1e-3)
    assert words(svg)[1:-1:2] == [visible(seen.spell(choice.id)) for choice in seen.following]
    svg = picture(seen, "parts")
    parts = lens.contributions(seen.trace, len(seen.trace) - 1, seen.following[0].id)
    ranked = sorted(parts, key=lambda part: -abs(part.value))
    zero = boxes(svg)[0][0] + (boxes(svg)[0][2] if ranked[0].value < 0 else 0)
    longest, ends = boxes(svg)[0][2], [x if x + wide / 2 < zero else x + wide for x, _, wide, _ in boxes(svg)]
    values = [part.value / abs(ranked[0].value) for part in ranked]
    assert [(end - zero) / longest for end in ends] == pytest.approx(values, abs=1e-3)
    assert words(svg)[1:] == [word for part in ranked for word in (part.name, f"{part.value:+.3f}")]


def test_the_picture_of_the_vocabulary_has_each_token_at_its_place(seen: Look) -> None:
    svg = picture(seen, "map")
    points = lens.embedding_map(seen.trace.model).points
    texts = list(ET.fromstring(svg).iter(f"{SVG}text"))[:-1]
    assert [text.text for text in texts] == [visible(seen.spell(token))[:8] for token in range(len(points))]
    drawn = [((float(text.get("x", "")) - 360) / 330, (360 - float(text.get("y", ""))) / 330) for text in texts]
    assert list(chain(*drawn)) == pytest.approx((points / points.abs().max()).flatten().tolist(), abs=1e-3)


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


def test_wide_tokens_do_not_lie_on_one_another() -> None:
    text = "漢字を読む。" * 4
    tokenizer = SimpleTokenizer(text + "かな。", unit="word")
    model = GPT(ModelConfig(vocab_size=tokenizer.vocab_size, context=8, layers=1, heads=1, width=8))
    seen = look(model, tokenizer, text[:12])
    for (left, _, wide, _), token in zip(boxes(picture(seen, "surprise")), seen.texts, strict=True):
        assert left >= 16 and wide >= 12 * len(token)
    drawn = words(picture(seen, "logits"))
    assert "漢字を読" in drawn and "漢字を読む" not in drawn  # as much as a column has room for
