"""The report: exact where it can be, an interval where it cannot, and nothing copied that is not found."""

import io
import json
import math
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

import octavo
from octavo import toml, training
from octavo.cli import run as command_line
from octavo.cli.report import show
from octavo.config import Asked, DataConfig, ModelConfig
from octavo.data import Part, prepare
from octavo.errors import ConfigError, RunError
from octavo.evaluation import examine
from octavo.events import Event, Preparing
from octavo.forecast import forecast
from octavo.model import GPT
from octavo.ngrams import surprise, surprises
from octavo.report import Report, copying, making, report, rivals, suffixes
from octavo.report.certainty import DRAWS, calibration, interval
from octavo.report.curve import curve
from octavo.report.findings import Overlap, Place, Sample
from octavo.report.markdown import fewest, marked, standing
from octavo.report.passages import LENGTH, extremes
from octavo.report.readings import Readings, Weighed, read, scored, weighed
from octavo.report.suffixes import longest_matches, maximal
from octavo.report.texts import STRETCH, Stretch, Texts, stretches, texts_of
from octavo.resumption import same_text
from octavo.run import save
from octavo.saved import checkpoint_folder, steps_saved
from octavo.tokenizers import BPETokenizer, SimpleTokenizer
from texts import sentences

TINY: dict[str, Any] = {"layers": 1, "heads": 1, "width": 16, "context": 16, "batch": 4, "steps": 4, "dtype": "float32"}


def trained(text: str, out: str = "run", **asked: Any) -> Path:
    Path("text.txt").write_text(text, "utf-8")
    return octavo.train("text.txt", out=out, **{**TINY, **asked})


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a text, its run, and the home that it was trained in."""
    folder = tmp_path_factory.mktemp("place")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("OCTAVO_HOME", str(folder / "home"))
        trained(sentences(300), out="runs/mine")
        yield folder


@pytest.fixture(scope="module")
def made(place: Path) -> Report:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("OCTAVO_HOME", str(place / "home"))
        return report(MINE, samples=2)


@pytest.fixture
def here(place: Path, workplace: Path) -> Path:
    """The same in a folder of the test's own."""
    shutil.copytree(place, workplace, dirs_exist_ok=True)
    return workplace


MINE = Path("runs/mine")


def part_of_tokens(count: int, size: int = 5, seed: int = 0) -> Part:
    tokens = np.random.default_rng(seed).integers(2, size, count).astype(np.uint16)
    return Part(tokens, count, count, 0, np.empty((0, 4)))


# ---- how well the text is foretold


def test_the_bits_per_byte_are_those_of_the_run_itself(workplace: Path) -> None:
    run = trained(sentences(300), split=0.8)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    best = min(line["val_bits_per_byte"] for line in lines if "val_bits_per_byte" in line)
    found = report(run, samples=0)
    assert found.model.bits_per_byte == pytest.approx(best, rel=1e-6)
    assert found.held_out.part == "validation"
    assert any("no test part, so this is the validation text" in note for note in found.notes)


def test_an_unknown_character_costs_what_it_hides(workplace: Path, random_model: Callable[..., GPT]) -> None:
    (workplace / "text.txt").write_text("abcd efgh\n" * 30 + "é𝄞" + "abcd efgh\n" * 3, "utf-8")
    prepared = prepare(DataConfig(texts=("text.txt",), split=0.9), None, cache=workplace / "cache")
    part, tokenizer = prepared.val, prepared.tokenizer
    assert part.unknown_bytes == 6
    model = random_model(ModelConfig(vocab_size=tokenizer.vocab_size, context=8, layers=1, heads=1, width=4))
    readings = read(model, part, 8, lambda event: None)
    expected = examine(model, part, step=0, dtype=torch.float64)
    assert expected is not None
    score = scored("it", readings.nats.sum(), part)
    assert score.bits_per_byte == pytest.approx(expected.val_bits_per_byte, rel=1e-6)
    assert score.nats_per_token == pytest.approx(expected.val_loss, rel=1e-6)
    assert score.nats_per_character == pytest.approx(expected.val_nats_per_character, rel=1e-6)
    cost = weighed(readings, part, tokenizer)
    assert cost.bits.sum() / part.bytes == pytest.approx(score.bits_per_byte, rel=1e-9)
    assert cost.bytes.sum() == pytest.approx(part.bytes)


def test_a_token_of_bytes_stands_for_its_bytes(workplace: Path) -> None:
    tokenizer = BPETokenizer.train(sentences(50) + "äöü 語", vocab_size=300)
    tokens = np.array(tokenizer.encode("Ada proves äöü 語."))
    size = len("Ada proves äöü 語.".encode())
    part = Part(tokens, 17, size, 0, np.empty((0, 4)))
    readings = Readings(np.ones(len(tokens) - 1), np.ones(1), np.ones(1, bool))
    sizes = [len(tokenizer.token_bytes(int(token))) for token in tokens]
    assert weighed(readings, part, tokenizer).bytes.tolist() == [sizes[0] + sizes[1], *sizes[2:]]


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_the_probabilities_of_n_grams_sum_to_one(order: int) -> None:
    draw = np.random.default_rng(order)
    learned = draw.choice(6, 800, p=[0.4, 0.3, 0.15, 0.1, 0.04, 0.01])
    for context in ([0, 0, 1, 0], [5, 5, 5, 5], [2, 6, 6, 0]):  # common, seldom, never seen
        told = [
            math.exp(-[*surprises(learned, np.array([*context, token]), vocab_size=7, order=order)][-1][-1])
            for token in range(7)
        ]
        assert sum(told) == pytest.approx(1, abs=1e-9)


def test_three_discounts_foretell_better_than_one() -> None:
    text = np.array([ord(sign) for sign in sentences(400)])
    learned, held_out = text[:8000], text[8000:]
    one = surprise(learned, held_out, 5)
    three = [float(nats.mean()) for nats in surprises(learned, held_out, int(text.max()) + 1, 5)]
    assert three[:2] == pytest.approx(one[:2], rel=0.01)
    assert three[-1] < one[-1] * 1.02


def test_all_tokens_alike_cost_the_logarithm_of_the_vocabulary() -> None:
    part = part_of_tokens(101)
    assert rivals.uniform(part, 8).bits_per_byte == pytest.approx(3 * 100 / 101)


def test_a_compressor_that_knows_the_text_needs_next_to_nothing() -> None:
    text = sentences(200).encode()
    other = np.random.default_rng(0).bytes(3000)
    for rival in (rivals.xz, rivals.zstd):
        known, new = rival(text, text[2000:5000]), rival(text, other)
        assert known is not None and known.bits_per_byte < 0.1
        assert new is not None and new.bits_per_byte == pytest.approx(8, abs=0.2)


# ---- how sure that is


def test_the_interval_holds_the_estimate_and_shrinks_with_more_text() -> None:
    draw = np.random.default_rng(1)
    widths = []
    for count in (1_000, 16_000):
        cost = Weighed(draw.exponential(2.0, count), np.ones(count))
        found = interval(cost, 10, seed=0)
        assert found.low < cost.bits.mean() < found.high
        assert found.windows == count // 10
        widths.append(found.high - found.low)
    assert widths[1] == pytest.approx(widths[0] / 4, rel=0.25)


def test_the_same_seed_gives_the_same_interval_and_another_another() -> None:
    cost = Weighed(np.random.default_rng(1).exponential(2.0, 500), np.ones(500))
    assert interval(cost, 10, seed=3) == interval(cost, 10, seed=3) != interval(cost, 10, seed=4)


def test_a_perfect_predictor_is_sure_and_right() -> None:
    found = calibration(Readings(np.zeros(50), np.ones(50), np.ones(50, bool)))
    assert (found.right, found.error) == (1.0, 0.0)
    assert [(bin.low, bin.tokens) for bin in found.bins if bin.tokens] == [(0.9, 50)]


def test_a_uniform_predictor_is_as_unsure_as_it_should_be() -> None:
    right = np.arange(1000) % 5 == 0
    found = calibration(Readings(np.full(1000, math.log(5)), np.full(1000, 0.2), right))
    assert found.right == 0.2 and found.error == pytest.approx(0, abs=1e-12)


def test_a_braggart_is_found_out() -> None:
    found = calibration(Readings(np.zeros(10), np.full(10, 0.95), np.arange(10) < 5))
    assert found.error == pytest.approx(0.45)
    assert found.bins[9].confidence == pytest.approx(0.95) and found.bins[9].right == 0.5


def test_easy_and_hard_passages_are_where_they_were_put() -> None:
    tokenizer = SimpleTokenizer("ab")
    bits = np.full(2000, 2.0)
    bits[300:500], bits[900:1100] = 0.0, 9.0
    tokens = np.full(2001, 2, np.uint16)
    tokens[301:501], tokens[901:1101] = 3, 3
    part = Part(tokens, 2001, 2001, 0, np.empty((0, 4)))
    easiest, hardest = extremes(Weighed(bits, np.ones(2000)), part, tokenizer)
    assert easiest[0].bits_per_byte == 0 and 301 <= easiest[0].token <= 341
    assert hardest[0].bits_per_byte == 9 and set(hardest[0].text) == {"b"}
    starts = sorted(passage.token for passage in hardest)
    assert len(starts) == 3 and all(b - a >= 160 for a, b in pairwise(starts))


def test_a_passage_begins_and_ends_with_a_whole_character() -> None:
    text = "".join(map(chr, range(0x4E00, 0x4E00 + 500)))
    tokenizer = BPETokenizer.train(["a"], vocab_size=257)  # each byte is a token
    tokens = np.array(tokenizer.encode(text), np.uint16)
    part = Part(tokens, len(text), len(tokens), 0, np.empty((0, 4)))
    costs = Weighed(np.random.default_rng(0).random(len(tokens) - 1), np.ones(len(tokens) - 1))
    for passage in [*chain(*extremes(costs, part, tokenizer))]:
        assert len(passage.text) >= 52 and passage.text in text


# ---- what was copied


def by_hand(learned: list[str], text: str) -> list[int]:
    """The longest match from every character on, by trying all lengths."""
    longest = []
    for start in range(len(text)):
        length = 0
        while start + length < len(text) and any(text[start : start + length + 1] in part for part in learned):
            length += 1
        longest.append(length)
    return longest


signs = st.text(alphabet="abé語", max_size=24)


@settings(max_examples=150, deadline=None)
@given(st.lists(signs, min_size=1, max_size=3), st.lists(signs, max_size=3))
def test_the_longest_matches_are_what_trying_comes_to(learned: list[str], texts: list[str]) -> None:
    contents = [part.encode() for part in learned]
    offsets = [sum(len(content) + 1 for content in contents[:number]) for number in range(len(contents))]
    found = longest_matches([Stretch(*pair) for pair in zip(offsets, contents, strict=True)], texts)
    whole = b"\xff".join(contents)
    for text, match in zip(texts, found, strict=True):
        assert match.lengths.tolist() == by_hand(learned, text)
        for start, (length, place) in enumerate(zip(match.lengths, match.places, strict=True)):
            here = text[start : start + int(length)].encode()
            assert whole[place : place + len(here)] == here


@given(st.lists(signs, min_size=1, max_size=2), signs, st.integers(1, 4))
def test_no_overlap_lies_within_another_and_none_is_missing(learned: list[str], text: str, at_least: int) -> None:
    lengths = by_hand(learned, text)
    every = {(start, start + length) for start, length in enumerate(lengths) if length >= at_least}
    outer = {a for a in every if not any(b != a and b[0] <= a[0] and a[1] <= b[1] for b in every)}
    found = maximal(np.array(lengths, np.int64), at_least)
    assert found == sorted(outer)
    inside = {place for start, end in every for place in range(start, end)}
    assert suffixes.covered(found) == len(inside)


def texts_in(folder: Path, **named: str) -> Texts:
    for name, text in named.items():
        (folder / f"{name}.txt").write_text(text, "utf-8")
    data = DataConfig(texts=tuple(f"{name}.txt" for name in named))
    prepared = prepare(data, None, cache=folder / "cache")
    return texts_of(data, prepared, lambda event: None)


def test_a_planted_copy_is_found_with_its_file_and_line(workplace: Path) -> None:
    line = "Nobody but this one line says anything of wombats.\n"
    texts = texts_in(workplace, one=sentences(60), two=sentences(40, 1) + line + sentences(60, 2))
    written = [copying.Written("So:", "xyzw " * 5 + line[:45] + "qqqq", "nothing of the kind, at all")]
    wanted = {"held out": [""], "samples": [written[0].text], "human": [written[0].human]}
    found = copying.copying(copying.Search.of(texts, wanted), written)
    [overlap] = found.samples[0].overlaps
    assert overlap.place == Place("two.txt", 41)
    assert written[0].text[overlap.start : overlap.end] == line[:45]
    assert found.share == found.samples[0].copied == pytest.approx(45 / 74)
    assert found.human_share == 0 and found.longest is not None and found.longest.text == line[:45]


def test_a_duplicate_between_training_and_test_is_found_with_both_lines(workplace: Path) -> None:
    text = sentences(300)
    passage = "".join(f"Word {number} of a passage that stands here and there.\n" for number in range(4))
    lines = text.splitlines(keepends=True)
    whole = "".join([*lines[:50], passage, *lines[50:295], passage, *lines[295:]])
    run = trained(whole)
    found = report(run, samples=0)
    assert found.duplicates is not None and found.copying is None
    first = found.duplicates.longest[0]
    assert passage in first.text
    places = [whole.index(first.text), whole.rindex(first.text)]
    assert [first.training.line, first.held_out.line] == [whole.count("\n", 0, place) + 1 for place in places]
    assert first.training.source == first.held_out.source == "text.txt"
    assert found.duplicates.share >= len(passage) / found.held_out.characters
    assert found.duplicates.rest_bits_per_byte is not None and "; the rest takes" in found.to_markdown()


def test_what_is_not_new_can_be_left_out_of_the_figure() -> None:
    text = "éabé"
    cost = Weighed(np.array([9.0, 1.0, 1.0, 6.0]), np.array([2.0, 1.0, 1.0, 2.0]))
    assert copying.rest(cost, text, []) == pytest.approx(17 / 6)
    assert copying.rest(cost, text, [(1, 3)]) == pytest.approx(15 / 4)
    assert copying.rest(cost, text, [(0, 4)]) is None


@pytest.mark.parametrize("tokenizer", ["character", "bpe"])
def test_what_tokens_say_is_told_in_pieces_within_documents(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, tokenizer: str
) -> None:
    records = [{"text": f"{sentences(3, seed)} 🐌é🐌 \ufffd\ufffd\n"} for seed in range(30)]
    (workplace / "many.jsonl").write_text("\n".join(map(json.dumps, records)))
    data = DataConfig(texts=("many.jsonl",), shuffle="documents", tokenizer=tokenizer, vocab_size=300)  # type: ignore[arg-type]
    prepared = prepare(data, None, cache=workplace / "cache")
    monkeypatch.setattr("octavo.report.texts.PIECE", 7)
    passages = list(texts_of(data, prepared, lambda event: None).passages("train"))
    assert "".join(passage.text for passage in passages) == prepared.tokenizer.decode(prepared.train.tokens)
    assert max(len(passage.text) for passage in passages) < 100
    documents: list[str] = []
    for passage in passages:
        documents[len(documents) if passage.first else -1 :] = [("" if passage.first else documents[-1]) + passage.text]
    assert set(documents[:-1]) <= {record["text"] for record in records}
    lines = [passage.line for passage in passages]
    assert lines == sorted(lines) and lines[0] == 1 < lines[-1]


def test_a_run_is_reported_on_from_any_folder(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = trained(sentences(300), out="runs/mine").absolute()
    (workplace / "elsewhere").mkdir()
    monkeypatch.chdir(workplace / "elsewhere")
    assert report(run, samples=0).held_out.sources == (str(workplace / "text.txt"),)


def test_what_only_repeats_costs_a_compressor_a_byte_at_least() -> None:
    line = b"hello world\n"
    for compressor in (rivals.xz, rivals.zstd):
        score = compressor(line * 9000, line * 500, lambda event: None)
        assert score is not None and score.bits_per_byte > 0


def test_json_lines_are_named_by_their_records(workplace: Path) -> None:
    records = [{"text": f"{sentences(20, seed)}A line about {seed} gnus.\n"} for seed in range(12)]
    (workplace / "some.jsonl").write_text("\n".join(map(json.dumps, records)))
    data = DataConfig(texts=("some.jsonl",))
    texts = texts_of(data, prepare(data, None, cache=workplace / "cache"), lambda event: None)
    search = copying.Search.of(texts, {"held out": ["A line about 7 gnus."]})
    [[overlap]] = search.overlaps("held out", 20)
    assert str(overlap.place) == "some.jsonl, record 8, line 21"


def test_parts_read_again_are_the_parts_that_were_encoded(workplace: Path) -> None:
    texts = texts_in(workplace, one=sentences(80) + "é", two=sentences(50, 1))
    for name in ("train", "val", "test"):
        part = getattr(texts.prepared, name)
        text = "".join(passage.text for passage in texts.passages(name))
        assert (len(text), len(text.encode())) == (part.characters, part.bytes)
        assert text == texts.prepared.tokenizer.decode(part.tokens)


def test_a_match_is_found_across_stretches(workplace: Path) -> None:
    texts = texts_in(workplace, one=sentences(3000))
    text = "".join(passage.text for passage in texts.passages("train"))
    pieces = list(stretches(texts.passages("train"), size=20_000))
    assert len(pieces) > 2
    at = pieces[1].offset + len(pieces[0].content) // 100
    wanted = text[at - 300 : at + 300]
    [found] = longest_matches(pieces, [wanted])
    assert found.lengths[0] == 600


def test_samples_are_the_same_for_the_same_seed(workplace: Path, random_model: Callable[..., GPT]) -> None:
    tokenizer = SimpleTokenizer("abcdef")
    model = random_model(ModelConfig(vocab_size=tokenizer.vocab_size, context=16, layers=1, heads=1, width=8))
    part = part_of_tokens(100, tokenizer.vocab_size)
    events: list[Event] = []
    once = copying.write(model, tokenizer, part, 25, 1, events.append)
    assert once == copying.write(model, tokenizer, part, 25, 1, lambda event: None)
    assert once != copying.write(model, tokenizer, part, 25, 2, lambda event: None)
    assert len({sample.text for sample in once}) == 25
    last = events[-1]
    assert isinstance(last, Preparing) and last.done == last.total


def test_what_stands_behind_a_prompt_has_the_character_whole_that_it_was_cut_in(
    random_model: Callable[..., GPT],
) -> None:
    text = "".join(map(chr, range(0x4E00, 0x4E00 + 500)))
    tokenizer = BPETokenizer.train(["a"], vocab_size=257)  # each byte is a token
    model = random_model(ModelConfig(vocab_size=tokenizer.vocab_size, context=16, layers=1, heads=1, width=8))
    tokens = np.array(tokenizer.encode(text), np.uint16)
    part = Part(tokens, len(text), len(tokens), 0, np.empty((0, 4)))
    for sample in copying.write(model, tokenizer, part, 12, 1, lambda event: None):
        assert sample.human and sample.prompt + sample.human in text


def test_a_marked_sample_reads_as_it_did_but_for_its_marks() -> None:
    place = Place("book.txt", 7)
    sample = Sample("", "what a day it is", 0.5, (Overlap(0, 6, place), Overlap(5, 13, place)))
    text, notes = marked(sample)
    assert text == "⟦what a⟧¹⟦ day it⟧² is"
    assert notes == ["1: 6 characters, book.txt, line 7", "2: 8 characters, book.txt, line 7"]


@given(st.lists(signs, min_size=1, max_size=2), signs)
def test_the_fewest_overlaps_cover_what_all_do(learned: list[str], text: str) -> None:
    spans = maximal(np.array(by_hand(learned, text), np.int64), 1)
    overlaps = [Overlap(start, end, Place("a", 1)) for start, end in spans]
    chosen = fewest(overlaps)
    assert suffixes.covered([(found.start, found.end) for found in chosen]) == suffixes.covered(spans)
    for one, two in pairwise(chosen[::2]):  # two that have one between them do not meet, or it would not be needed
        assert one.end < two.start


def test_the_best_without_a_model_is_named(made: Report) -> None:
    best = min(made.baselines, key=lambda score: score.bits_per_byte)
    assert f"The best that does without a model, {best.name}, needs {best.bits_per_byte:.3f}" in made.to_markdown()
    told = {0.5: "50.0% fewer", 1.25: "25.0% more", 3.0: "3.0 times as many"}  # of a text that repeats itself, say
    for factor, words in told.items():
        model = replace(made.model, bits_per_byte=best.bits_per_byte * factor)
        assert standing(replace(made, model=model)).endswith(f"this model needs {words}.")


# ---- the whole report


def test_a_report_says_all_that_it_should(made: Report) -> None:
    names = [score.name for score in made.baselines]
    assert names == ["all tokens alike", *rivals.NAMES, "xz", "zstd"]
    assert made.held_out.part == "test" and made.held_out.sources == ("text.txt",)
    assert made.interval.low <= made.model.bits_per_byte <= made.interval.high
    assert sum(bin.tokens for bin in made.calibration.bins) == made.held_out.tokens - 1
    assert made.copying is not None and len(made.copying.samples) == 2
    assert len(made.easiest) == len(made.hardest) == 2


def test_the_curve_is_the_planners_forecast_and_falls(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("OCTAVO_HOME", str(place / "home"))
    config = toml.load(MINE)
    prepared = same_text(MINE, config, lambda event: None)
    assert curve(config, prepared, prepared.test) == ()  # of so few steps nothing is known
    longer = replace(config, train=replace(config.train, steps=120))
    assert making.as_it_went(MINE, longer) == config  # which made fewer steps than this says
    assert curve(longer, prepared, prepared.test) == ()  # whatever it was, nothing was forecast of it
    longer = replace(longer, train=replace(longer.train, forecast=1.0, forecast_within=0.1))
    assert curve(replace(longer, train=replace(longer.train, steps=99)), prepared, prepared.test) == ()
    found = curve(longer, prepared, prepared.test)
    assert [further.times for further in found] == [0.25, 1.0, 4.0, 16.0]
    much_read = replace(longer, train=replace(longer.train, steps=30_000))
    assert [further.times for further in curve(much_read, prepared, prepared.test)] == [0.25, 1.0]
    losses = [further.nats_per_token for further in found]
    assert losses == sorted(losses, reverse=True) and all(further.within > 0 for further in found)
    said = forecast(longer, prepared.train.tokens, prepared.test.tokens, longer.window)
    assert said is not None and (found[1].nats_per_token, found[1].within) == (said.loss, said.within)
    per_byte = losses[1] / math.log(2) * (len(prepared.test.tokens) - 1) / prepared.test.bytes
    assert found[1].bits_per_byte == pytest.approx(per_byte)
    page = replace(report(MINE, samples=0), curve=found).to_markdown()
    assert "What other sizes would come to" in page and "| 16 × |" in page
    words = replace(config.model, vocab_size=4000, tied=False)  # so many that a training would count pairs first
    counted = replace(longer, model=words, train=replace(longer.train, steps=100, batch=1, pairs=200))
    said = forecast(counted, prepared.train.tokens, prepared.test.tokens, counted.window)
    nothing = forecast(
        replace(counted, train=replace(counted.train, pairs=None)),
        prepared.train.tokens,
        prepared.test.tokens,
        counted.window,
    )
    found = curve(counted, prepared, prepared.test)
    assert said is not None and nothing is not None and said.loss < nothing.loss
    assert (found[1].nats_per_token, found[1].within) == (said.loss, said.within)


@pytest.mark.usefixtures("unchecked")
def test_a_run_is_reported_on_by_its_name(made: Report, here: Path) -> None:
    assert report("mine", samples=2, seed=np.int64(0)) == made
    with pytest.raises(RunError, match=r"^no run nowhere; "):
        report("nowhere")


def test_the_report_as_values_is_json_and_the_same_each_time(made: Report, here: Path) -> None:
    again = report(MINE, samples=2)
    assert again == made
    told = json.loads(json.dumps(made.to_dict(), allow_nan=False))
    assert told["model"]["bits_per_byte"] == made.model.bits_per_byte
    assert told["calibration"]["bins"][0]["low"] == 0.0


def test_markdown_holds_every_section_and_no_text_can_break_out_of_its_fence(workplace: Path) -> None:
    run = trained((sentences(20) + "```\n# <b>| x |</b>\n\x1b[31m````\n") * 12)
    made = report(run, samples=1)
    page = made.to_markdown()
    assert made._repr_markdown_() == page
    for title in ("How well it foretells", "How well it knows", "easiest", "hardest", "Wrote or copied", "How new"):
        assert any(line.startswith("## ") and title in line for line in page.splitlines())
    assert "\x1b" not in page
    fence: str | None = None
    for line in page.splitlines():
        if fence is None and line.startswith("```"):
            fence = line.removesuffix("text")
        elif line == fence:
            fence = None
        elif fence is None:
            assert "<b>" not in line.replace("\\<b", "")
    assert fence is None


def test_the_terminal_is_shown_no_control_signs_and_no_colour_where_none_is_wanted(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trained((sentences(20) + "\x1b]0;title\x07 and \x1b[31mred\n") * 12, out="other")
    monkeypatch.setenv("NO_COLOR", "1")
    output = io.StringIO()
    show(report(run, samples=2), Console(file=output, force_terminal=True, highlight=False, width=100))
    assert "\x1b]" not in output.getvalue() and "\x1b[3" not in output.getvalue()
    assert "␛]0;title" in output.getvalue() or "␛[31mred" in output.getvalue()


def test_the_command_line_prints_and_writes(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line(["report", "mine", "--samples", "1", "--markdown", "page.md"]) == 0
    output, errors = capsys.readouterr()
    assert "bits a byte (95 %:" in output and "5-grams" in output and "\x1b" not in output
    assert "test text:" in errors
    assert (here / "page.md").read_text().startswith("# How good runs/mine is")
    assert command_line(["report", "--samples", "0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["copying"] is None


def test_what_is_not_installed_is_said_in_one_line(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydivsufsort", None)
    monkeypatch.setitem(sys.modules, "zstandard", None)
    found = report(MINE, samples=1)
    assert found.copying is None and found.duplicates is None
    assert "copies are not looked for: pydivsufsort is missing; pip install -e '.[report]'" in found.notes
    assert "zstd is left out: zstandard is missing; pip install -e '.[data]'" in found.notes
    assert "xz" in [score.name for score in found.baselines]
    assert "Wrote or copied" not in found.to_markdown()


def test_a_long_text_is_looked_at_in_part_and_that_is_said(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = trained(sentences(15_000), tokenizer="character")
    monkeypatch.setattr(rivals, "COUNTED", 5_000)
    monkeypatch.setattr(rivals, "COMPRESSED", 2_000)
    monkeypatch.setattr(copying, "SEARCHED", 9_000)
    monkeypatch.setattr(making, "VALIDATION_TOKENS", 8_500)
    found = report(run, samples=1)
    for words in ("n-grams are counted in", "learn the last", "looked for in the first", "read are the first"):
        assert any(words in note for note in found.notes)
    assert found.held_out.characters == found.held_out.tokens


def test_few_windows_and_a_beginning_elsewhere_are_said(here: Path) -> None:
    run = octavo.train("text.txt", out="second", start="runs/mine", steps=2, batch=2)
    notes = report(run, samples=0).notes
    assert any(re.match(r"\d+ windows? of text: the interval is a rough one", note) for note in notes)
    assert any("began with the weights of runs/mine" in note for note in notes)


def test_a_text_from_standard_input_is_had_from_its_tokens(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Piped:
        closed, buffer = False, io.BytesIO(sentences(200).encode())

    monkeypatch.setattr(sys, "stdin", Piped())
    run = octavo.train("-", out="piped", **TINY)
    found = report(run, samples=1)
    assert found.held_out.sources == ("standard input",)
    assert any("the text came from standard input" in note for note in found.notes)
    damaged = checkpoint_folder(run, steps_saved(run)[0]) / "state.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-3])
    assert report(run, samples=1).held_out == found.held_out
    assert training.resume(run, Asked()).at.step == steps_saved(run)[1]


def test_a_run_on_shuffled_documents_is_read_from_its_tokens(workplace: Path) -> None:
    lines = [json.dumps({"text": sentences(20, seed=number)}) for number in range(30)]
    Path("many.jsonl").write_text("\n".join(lines))
    run = octavo.train("many.jsonl", out="run", shuffle="documents", **TINY)
    found = report(run, samples=1)
    assert found.held_out.sources == ("shuffled documents",)
    assert any("the documents were shuffled" in note for note in found.notes)
    assert training.resume(run, Asked(steps=6)).at.schedule.steps == 6


# ---- what is refused


def test_a_changed_text_is_refused(here: Path) -> None:
    (here / "text.txt").write_text(sentences(301))
    with pytest.raises(RunError, match="the text is not the one that runs/mine learned from; bring that back"):
        report(MINE)


def test_a_text_that_is_gone_is_missed_by_name(here: Path) -> None:
    (here / "text.txt").unlink()
    with pytest.raises(RunError, match=r"the text of runs/mine cannot be read again: no such file: text\.txt"):
        report(MINE)


def test_without_a_checkpoint_nobody_knows_whether_the_text_is_the_same(here: Path) -> None:
    shutil.rmtree(MINE / "checkpoints")
    assert any("whether its text is still the same cannot be told" in note for note in report(MINE, samples=0).notes)


def test_a_model_from_elsewhere_is_refused(workplace: Path, random_model: Callable[..., GPT]) -> None:
    tokenizer = SimpleTokenizer("abc")
    save(random_model(ModelConfig(vocab_size=5, context=8, layers=1, heads=1, width=4)), tokenizer, "theirs")
    with pytest.raises(RunError, match="theirs was not trained here, so no text is known to be new to it"):
        report("theirs")


def test_a_text_of_which_nothing_was_held_out_is_refused(workplace: Path) -> None:
    run = trained("abcdefgh " * 10, context=8)
    with pytest.raises(RunError, match="run held no text out, for it has too little"):
        report(run)


def test_a_page_that_could_not_be_written_is_refused_before_anything_is_done(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("nowhere/page.md", "runs"):
        assert command_line(["report", "--markdown", name]) == 2
        assert f"{name} cannot be a file; give --markdown a name in a folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"samples": -1}, "-1 samples cannot be written; give a number from 0"),
        ({"samples": 1001}, "1001 samples cannot be written"),
        ({"seed": -1}, "seed is -1; give a whole number from 0 to 2"),
    ],
)
def test_numbers_out_of_range_are_refused(words: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        report(Path("nowhere"), **words)


def test_what_is_done_is_told_on_the_way(here: Path) -> None:
    events: list[Event] = []
    report(MINE, samples=1, on_event=events.append)
    told = [event.what for event in events if isinstance(event, Preparing)]
    ways = ("reading the held-out text", "writing samples", "counting n-grams", "looking for copies")
    assert {*ways, "compressing with xz", "compressing with zstd"} <= set(told)


def test_the_page_on_reports_names_the_numbers_of_the_code() -> None:
    page = " ".join((Path(__file__).parents[1] / "docs/report.md").read_text("utf-8").split())
    for words in (
        f"At most {making.VALIDATION_TOKENS:,} tokens",
        f"{DRAWS:,} texts are put together",
        f"up to {rivals.COUNTED / 1e6:.0f} million tokens are counted",
        f"the last {rivals.COMPRESSED / 1e6:.0f} MB of training text",
        f"stretches of about {LENGTH} bytes",
        f"{making.SAMPLES} times for {copying.SAMPLE_TOKENS} tokens, at temperature {copying.TEMPERATURE}",
        f"A stretch of {copying.COPIED} characters or more counts as copied",
        f"Stretches of {copying.DUPLICATED} characters or more",
        f"stretches of {STRETCH / 1e6:.0f} MB, up to {copying.SEARCHED / 1e6:.0f} MB",
    ):
        assert words in page
