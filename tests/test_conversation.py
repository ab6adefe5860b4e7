"""Talking to a model: what can be said, and that no mistake ends the talk."""

import io
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import octavo
from alarm import alarm
from octavo.chat import read_conversation
from octavo.cli import run
from octavo.cli.conversation import Conversation
from octavo.cli.generate import Knobs
from octavo.cli.speakers import Local, messages
from octavo.completion import complete
from octavo.config import ModelConfig
from octavo.errors import DownloadError, SamplingError
from octavo.model import GPT
from octavo.progress import printable
from octavo.tokenizers import SimpleTokenizer
from test_chat import CHATML, tokenizer_with

TOKENIZER = SimpleTokenizer("Ada finds a circle.\n")
Talk = Callable[..., tuple[str, str]]


@pytest.fixture
def talk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Talk:
    """Says these lines to a small model, through the command and with these words behind it.

    Gives what it wrote and what was said about it.
    """
    monkeypatch.chdir(tmp_path)
    config = ModelConfig(vocab_size=TOKENIZER.vocab_size, context=16, layers=1, heads=1, width=16)
    octavo.save(GPT(config), TOKENIZER, tmp_path / "runs" / "ada")

    def call(lines: str, *words: str) -> tuple[str, str]:
        content = io.BytesIO(lines.encode("utf-8", "surrogateescape"))
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(content, "utf-8"))
        assert run(["talk", "ada", "--max-new-tokens", "8", *words]) == 0
        output, errors = capsys.readouterr()
        return output, errors

    return call


def test_the_first_line_says_what_a_base_model_does(talk: Talk) -> None:
    output, errors = talk("")
    assert output == ""
    first = "This model continues your text and stops at a blank line. It sees 16 tokens at a time. /help"
    assert errors.splitlines()[0].startswith(first)


def test_the_same_line_gets_the_same_answer_and_retry_another(talk: Talk) -> None:
    output, _ = talk("Ada finds\n")
    assert output and talk("Ada finds\n")[0] == output
    twice = talk("Ada finds\n/retry\n")[0]
    assert twice.startswith(output) and len(twice) > len(output) and twice != output + output


@pytest.mark.parametrize(("answers", "usual", "other"), [(True, "0.3", "0.8"), (False, "0.8", "0.3")])
def test_an_answer_is_colder_than_a_text_that_goes_on_unless_another_temperature_is_asked_for(
    talk: Talk, random_model: Callable[..., GPT], answers: bool, usual: str, other: str
) -> None:
    tokenizer = tokenizer_with(CHATML) if answers else TOKENIZER
    config = ModelConfig(vocab_size=tokenizer.vocab_size, context=64, layers=1, heads=1, width=16)
    octavo.save(random_model(config, dtype=torch.float32), tokenizer, "runs/ada")
    written = [talk("Ada finds\n", *words)[0] for words in ((), ("--temperature", usual), ("--temperature", other))]
    assert written[0] == written[1] != written[2]


def test_knobs_can_be_set_and_a_wrong_one_leaves_the_talk_as_it_was(talk: Talk) -> None:
    _, errors = talk("/set temperature 0\n/set top-k 3\n/set temperature -1\n/set heat 3\n/set seed x\nAda\n")
    assert "temperature is now 0.0" in errors and "top_k is now 3" in errors
    assert "temperature is -1.0; give 0" in errors
    assert "heat is no knob; there are max_new_tokens, temperature" in errors
    assert "seed is 'x'; give a whole number" in errors
    assert errors.count("temperature is -1.0") == 1  # it was not taken


def test_the_knobs_are_told_when_none_is_named_and_the_end_is_taken_at_its_word(talk: Talk) -> None:
    _, errors = talk("/set\n/ help\n/quit now\n/dance\n")
    assert "max_new_tokens 8, temperature 0.8, repetition_penalty 1.0, seed 0\n" in errors
    assert "/save FILE" in errors and "/dance" not in errors


def quoted(text: str) -> str:
    return "".join(f"> {line}\n" for line in text.removesuffix("\n").split("\n"))


def test_what_was_said_can_be_saved_once_under_a_name(talk: Talk) -> None:
    output, errors = talk("Ada\n/save talk.md\n/save talk.md\n/save\n/save a\0b\n")
    expected = f"# A conversation with ada\n\n**You**\n\n> Ada\n\n**ada**\n\n{quoted(output)}"
    assert Path("talk.md").read_text() == expected
    assert "talk.md could not be written: File exists; give another name" in errors
    assert "say where to: /save talk.md" in errors
    assert "a␀b could not be written: a name holds no zero byte; give another name" in errors


@pytest.mark.parametrize("answers", [False, True])
def test_another_answer_takes_the_place_of_the_one_before(
    answers: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer = tokenizer_with(CHATML) if answers else TOKENIZER
    config = ModelConfig(vocab_size=tokenizer.vocab_size, context=64, layers=1, heads=1, width=16)
    conversation = Conversation(Local(GPT(config), tokenizer, "ada"), Knobs(max_new_tokens=8, temperature=1.0))
    assert conversation.answers == answers
    conversation.take("Ada")
    conversation.take("finds")
    capsys.readouterr()
    conversation.take("/retry")
    assert [line for line, _ in conversation.said] == ["Ada", "finds"]
    assert capsys.readouterr().out == printable(conversation.said[1][1]) + "\n"
    conversation.take(f"/save {tmp_path}/talk.md")
    spoken = [("You", "Ada"), ("ada", conversation.said[0][1]), ("You", "finds"), ("ada", conversation.said[1][1])]
    turns = [f"**{who}**\n\n" + "".join(f"> {line}\n" for line in text.split("\n")) for who, text in spoken]
    assert (tmp_path / "talk.md").read_text() == "# A conversation with ada\n\n" + "\n".join(turns)


def test_what_a_model_has_no_room_for_is_forgotten_and_that_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    tokenizer = tokenizer_with(CHATML)
    config = ModelConfig(vocab_size=tokenizer.vocab_size, context=64, layers=1, heads=1, width=16)
    conversation = Conversation(Local(GPT(config), tokenizer, "ada"), Knobs(max_new_tokens=4, temperature=1.0))
    told = []
    for _ in range(6):
        conversation.take("Ada finds a circle.")
        told.append(
            (
                conversation.speaker.forgotten > 0,
                "from here on the oldest turns are left out" in capsys.readouterr().err,
            )
        )
    forgets = [forgotten for forgotten, _ in told].index(True)
    assert forgets > 0 and [said for _, said in told] == [number == forgets for number in range(6)]
    said, line = list(conversation.said), "Ada finds a circle. " * 9
    count = len(read_conversation(tokenizer, messages([], line)))
    conversation.take(line)
    error = f"that takes {count} tokens and the model sees 64; say it in fewer words\n"
    assert conversation.said == said and capsys.readouterr().err == error


def test_an_answer_ends_where_the_context_does_as_a_server_s_would() -> None:
    tokenizer = tokenizer_with(CHATML)
    config = ModelConfig(vocab_size=tokenizer.vocab_size, context=64, layers=1, heads=1, width=16)
    speaker = Local(GPT(config), tokenizer, "ada")
    ids, differ = read_conversation(tokenizer, messages([], "Ada")), []
    for seed in range(6):
        knobs: dict[str, Any] = {"max_new_tokens": 500, "temperature": 1.0, "seed": seed}
        ended, slid = (
            "".join(piece.text for piece in complete(speaker.model, tokenizer, [ids], slide=slide, **knobs))
            for slide in (False, True)
        )
        assert "".join(speaker.speak([], "Ada", Knobs(**knobs))) == ended
        differ.append(ended != slid)
    assert any(differ)


def test_an_answer_stays_where_another_cannot_be_had(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = ModelConfig(vocab_size=TOKENIZER.vocab_size, context=16, layers=1, heads=1, width=16)
    conversation = Conversation(Local(GPT(config), TOKENIZER, "ada"), Knobs(max_new_tokens=8))
    conversation.take("Ada")
    said = list(conversation.said)

    def gone(*words: object) -> Iterator[str]:
        raise DownloadError("it broke off; ask again")
        yield

    monkeypatch.setattr(conversation.speaker, "speak", gone)
    conversation.take("/retry")
    assert conversation.said == said and "it broke off; ask again" in capsys.readouterr().err


def test_help_unknown_words_and_an_early_retry_are_answered(talk: Talk) -> None:
    _, errors = talk("/help\n/dance\n/retry\n\n/quit\nAda\n")
    assert "/set temperature 0.8" in errors
    assert "/dance is nothing I know; /help lists what there is" in errors
    assert "there is nothing to try again yet" in errors


def test_unknown_characters_are_named(talk: Talk) -> None:
    assert "the model has never seen 'ß'; it reads them as unknown" in talk("Adaß\n")[1]


def test_a_line_that_is_no_text_ends_no_conversation(talk: Talk) -> None:
    output, errors = talk("caf\udce9\nAda finds\n")
    assert output and "\ufffd" in errors


def test_a_text_with_the_line_ends_of_windows_is_gone_on_with_up_to_a_blank_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    tokenizer = SimpleTokenizer("a\r\n")
    model = GPT(ModelConfig(vocab_size=tokenizer.vocab_size, context=64, layers=1, heads=1, width=16))
    for seed in range(40):
        conversation = Conversation(
            Local(model, tokenizer, "ada"), Knobs(max_new_tokens=40, temperature=1.0, seed=seed)
        )
        conversation.take("a")
        [(_, text)] = conversation.said
        assert "\r\n\r\n" not in text and "\n\n" not in text
        assert capsys.readouterr().out == text.replace("\r", "") + "\n"


def test_ctrl_c_stops_the_answer_and_not_the_program(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = ModelConfig(vocab_size=TOKENIZER.vocab_size, context=16, layers=1, heads=1, width=16)
    conversation = Conversation(Local(GPT(config), TOKENIZER, "ada"), Knobs(max_new_tokens=10**6, temperature=1.0))
    monkeypatch.setattr(TOKENIZER, "end_of_text", None, raising=False)
    monkeypatch.setattr("octavo.cli.speakers.BASE_STOP", "no such text")
    with alarm(0.5, signal.default_int_handler):  # what Ctrl-C does, half a second from now
        conversation.take("Ada")
    assert 0 < len(conversation.said[0][1]) < 10**6
    assert capsys.readouterr().out.endswith("\n")


def test_knobs_out_of_range_are_refused_before_the_talk() -> None:
    config = ModelConfig(vocab_size=TOKENIZER.vocab_size, context=16, layers=1, heads=1, width=16)
    with pytest.raises(SamplingError, match="top_p is 7; give a probability"):
        Conversation(Local(GPT(config), TOKENIZER, "ada"), Knobs(top_p=7))
    with pytest.raises(SamplingError, match="max_new_tokens is 0; give a whole number from 1"):
        Conversation(Local(GPT(config), TOKENIZER, "ada"), Knobs(max_new_tokens=0))
