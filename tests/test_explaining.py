"""The forward pass step by step: each equation comes to the model's own numbers, each line of code is the one named."""

import inspect
import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import octavo
from octavo.cli import run as command
from octavo.completion import completions
from octavo.config import ModelConfig
from octavo.errors import ConfigError
from octavo.explaining import Step, explain, line_of
from octavo.model import GPT, GPTBlock, SelfAttention
from octavo.tokenizers import SimpleTokenizer

LETTERS = SimpleTokenizer("abcdefghijklmnopqrst ")
TEXT = "a cat sat on a"
TITLES = [
    "tokenise",
    "embed",
    "norm",
    "queries, keys, values",
    "positions",
    "scores",
    "causal mask",
    "weights",
    "weighted sum",
    "heads side by side, mixed",
    "residual",
    "norm",
    "feed-forward",
    "residual",
    "all layers",
    "last norm",
    "logits",
    "temperature",
    "the choice",
]
HEARD = {  # where in a model what a step comes to can be heard
    "embed": "stream",
    "norm": "blocks.1.feed_forward_norm",
    "queries, keys, values": "blocks.1.attention.heads.v",
    "positions": "blocks.1.attention.heads.k",
    "scores": "blocks.1.attention.heads.scores",
    "weights": "blocks.1.attention.heads.weights",
    "weighted sum": "blocks.1.attention.heads.heads",
    "heads side by side, mixed": "blocks.1.attention_out",
    "feed-forward": "blocks.1.feed_forward_out",
    "residual": "blocks.1.stream",
    "last norm": "norm",
}


@pytest.fixture
def steps(model: GPT) -> list[Step]:
    return explain(model, LETTERS, TEXT, layer=1, head=1)


def test_every_step_comes_in_its_order(steps: list[Step], config: ModelConfig) -> None:
    expected = [title for title in TITLES if config.rotary or title != "positions"]
    assert [step.title.split(" (")[0] for step in steps] == expected


def test_the_equations_come_to_what_the_model_does(steps: list[Step]) -> None:
    errors = {step.title: step.error for step in steps if step.error is not None}
    assert max(errors.values()) < 1e-12
    assert {"queries, keys, values", "scores"} <= set(errors)
    assert {"embed", "weights", "weighted sum", "feed-forward", "logits"} <= set(errors)


def test_what_is_shown_is_what_can_be_heard_in_the_model(steps: list[Step], model: GPT, config: ModelConfig) -> None:
    heard: dict[str, Tensor] = {}
    for title, name in HEARD.items():
        model.get_submodule(name).register_forward_hook(
            lambda _module, _inputs, value, title=title: heard.__setitem__(title, value[0])
        )
    model(torch.tensor([LETTERS.encode(TEXT)]))
    shown = {step.title.split(" (")[0]: step.rows[-1][1] for step in steps}
    for title in HEARD.keys() & shown.keys():
        value = heard[title]
        value = value[value.size(0) // config.heads] if value.dim() == 3 else value  # of head 1, or what it shares
        assert shown[title] == pytest.approx(value[-1, : len(shown[title])].tolist(), rel=0, abs=1e-12), title


@pytest.mark.parametrize("title", HEARD)
def test_a_model_that_does_something_else_is_told_by_how_much(model: GPT, config: ModelConfig, title: str) -> None:
    def change(_module: nn.Module, _inputs: tuple[Tensor, ...], value: Tensor) -> Tensor:
        value = value.clone()
        value[..., 0, 0] += 0.5
        return value

    model.get_submodule(HEARD[title]).register_forward_hook(change)
    steps = explain(model, LETTERS, TEXT, layer=1, head=1)
    errors = {step.title.split(" (")[0]: step.error for step in steps}
    place = "queries, keys, values" if title == "positions" and not config.rotary else title
    assert errors[place] == pytest.approx(0.5)


@pytest.mark.parametrize(("layer", "head"), [(0, 0), (1, 0)])
def test_so_they_do_in_every_head(model: GPT, config: ModelConfig, layer: int, head: int) -> None:
    for one in range(head, config.heads):
        found = explain(model, LETTERS, TEXT, layer=layer, head=one)
        assert all(step.error is None or step.error < 1e-12 for step in found)


def test_the_line_of_code_is_there_and_says_it(steps: list[Step]) -> None:
    root = Path(octavo.__file__).parent.parent
    for step in steps:
        path, number = step.source.rsplit(":", 1)
        line = (root / path).read_text("utf-8").splitlines()[int(number) - 1]
        assert line.strip() and not line.strip().startswith(("#", '"""', "def ", "class "))
    by_title = {step.title: step.source for step in steps}
    lines, first = inspect.getsourcelines(SelfAttention.explicit)
    place = int(by_title["weights"].rsplit(":", 1)[1])
    assert first <= place < first + len(lines) and "softmax" in lines[place - first]


def test_an_explanation_that_is_out_of_date_is_not_given() -> None:
    with pytest.raises(LookupError, match=r"forward does not say 'self\.convolution'"):
        line_of(GPTBlock.forward, "self.convolution")


def test_numbers_are_those_of_the_last_position(steps: list[Step], model: GPT) -> None:
    ids = LETTERS.encode(TEXT)
    by_title = {step.title: step for step in steps}
    assert by_title["tokenise"].rows == (("ids", tuple(map(float, ids))),)
    weights = by_title["weights"].rows[0][1]
    assert len(weights) == len(ids) and sum(weights) == pytest.approx(1.0)
    assert by_title["causal mask"].rows[0][1][1:] == (float("-inf"),) * (len(ids) - 1)
    logits = model(torch.tensor([ids]))[0, -1]
    assert by_title["logits"].rows[0][1] == pytest.approx(logits.topk(6).values.tolist())
    assert by_title["logits"].names[0] == LETTERS.decode([int(logits.argmax())], special=True)


@pytest.mark.parametrize(("temperature", "seed"), [(0.0, 0), (0.8, 0), (0.8, 1), (1.5, 7)])
def test_the_choice_is_what_octavo_writes(model: GPT, temperature: float, seed: int) -> None:
    *_, cooled, choice = explain(model, LETTERS, TEXT, temperature=temperature, seed=seed)
    words = {"max_new_tokens": 1, "temperature": temperature, "seed": seed}
    [written] = completions(model, LETTERS, TEXT, **words)
    [token] = written.tokens
    assert choice.note == f"the text goes on with {LETTERS.decode([token], special=True)!r}, id {token}"
    assert cooled.rows[0][1][0] <= 1.0 and (temperature > 0 or cooled.rows[0][1][0] == 1.0)


@pytest.mark.parametrize("seed", range(5))
def test_the_number_drawn_falls_between_the_two_sums_that_are_shown(model: GPT, seed: int) -> None:
    *_, choice = explain(model, LETTERS, TEXT, temperature=0.8, seed=seed)
    token = int(choice.note.rsplit(" ", 1)[1])
    names, values = zip(*choice.rows, strict=True)
    assert names == (f"p of all ids below {token}", "u", f"p of all ids up to {token}")
    (below,), (drawn,), (up_to,) = values
    p = model(torch.tensor([LETTERS.encode(TEXT)]))[0, -1] / 0.8
    p[list(LETTERS.unsayable(len(p)))] = -torch.inf
    p = p.softmax(-1)
    assert below == pytest.approx(p[:token].sum().item()) and up_to - below == pytest.approx(p[token].item())
    assert below <= drawn < up_to


def test_a_row_of_a_text_of_one_token_is_told_once(model: GPT) -> None:
    [masked] = [step for step in explain(model, LETTERS, "a") if step.title == "causal mask"]
    assert [name for name, _ in masked.rows] == ["S[0]"]


def test_a_learning_model_and_its_hooks_are_left_as_they_were(config: ModelConfig) -> None:
    model = GPT(config, dropout=0.5).double().train()
    explain(model, LETTERS, TEXT)
    assert model.training and not any(part._forward_hooks for part in model.modules())


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ({"layer": 2}, "there is no layer 2; the model has layers 0 to 1"),
        ({"head": 9}, "there is no head 9; the model has heads 0 to"),
        ({"head": -1}, "there is no head -1"),
    ],
)
def test_what_is_not_there_is_refused(model: GPT, where: dict[str, int], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        explain(model, LETTERS, TEXT, **where)


# the command line


@pytest.fixture
def said(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    random_model: Callable[..., GPT],
) -> Callable[..., tuple[int, str, str]]:
    config = ModelConfig(dialect="modern", vocab_size=LETTERS.vocab_size, context=16, layers=2, heads=2, width=16)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    octavo.save(random_model(config, dtype=torch.float32), LETTERS, tmp_path / "runs" / "letters")

    def call(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = command(["explain", *words])
        return status, *capsys.readouterr()

    return call


def test_all_steps_are_printed_with_equation_shape_and_line(said: Callable[..., tuple[int, str, str]]) -> None:
    status, output, errors = said("letters", TEXT, "--layer", "1", "--head", "1", "--temperature", "0")
    assert (status, errors) == (0, "") and "\x1b" not in output
    for part in ("19. the choice", "softmax(S)", "octavo/model.py:", "T × T = 14 × 14", "−∞", "the model's own", "␣"):
        assert part in output


@pytest.mark.parametrize("terminal", [False, True])
def test_no_number_is_cut_and_what_has_no_room_stands_below(
    said: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    wide = said("letters", TEXT)[1]
    monkeypatch.setenv("COLUMNS", "60")
    if terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
    output = re.sub(r"\x1b\[[\d;]*m", "", said("letters", TEXT)[1])
    assert set(output.split()) == set(wide.split())
    assert all(len(line) <= 60 for line in output.splitlines() if line.startswith("   S["))


def test_json_holds_every_step(said: Callable[..., tuple[int, str, str]]) -> None:
    told = json.loads(said(TEXT, "--json")[1])
    assert [step["title"].split(" (")[0] for step in told] == TITLES
    hidden = next(step for step in told if step["title"] == "causal mask")
    assert hidden["rows"][0]["values"][1:] == [None] * 13


def test_a_text_may_come_from_a_pipe(
    said: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    told = said("letters", TEXT)
    for words in ([], ["-"], ["letters", "-"]):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(TEXT.encode())))
        assert said(*words) == told


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["letters", TEXT, "--layer", "5"], "there is no layer 5; the model has layers 0 to 1"),
        (["letters", "a" * 17], "the text has 17 tokens and 16 can be looked at together; shorten it"),
        (["letters", "a", "b"], "there are 2 texts; have one explained at a time"),
        (["letters", "a", "--temperature", "-1"], "temperature is -1.0"),
    ],
)
def test_a_mistake_is_one_line(said: Callable[..., tuple[int, str, str]], words: list[str], line: str) -> None:
    status, output, errors = said(*words)
    assert status == 2 and output == "" and line in errors and errors.count("\n") == 1
