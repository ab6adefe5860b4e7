"""What a person sees while a training runs."""

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from octavo.config import ModelConfig, RunConfig, TrainConfig
from octavo.events import Evaluated, Event, Finished, Note, Planned, Preparing, Sampled, Stepped
from octavo.progress import Display, duration, printable

CONFIG = RunConfig(model=ModelConfig(), train=TrainConfig(steps=10, batch=2))
STEPPED = Stepped(5, 10, 3.0, 640, 0.02, 2.5, 1.0, 1234.5, 65.0)
EVALUATED = Evaluated(5, 10, 3.0, 2.4, 2.4, 3.46, True, 2.5, 65.0)
EVENTS: list[Event] = [
    Note("3 files skipped"),
    Preparing("reading", 0, 50_000_000),
    Preparing("reading", 50_000_000, 50_000_000),
    Planned(("model 1", "model 2"), CONFIG, 99),
    STEPPED,
    EVALUATED,
    Sampled(5, "To be \x1b[31mor"),
    Finished(Path("runs/x-1"), 10, 10, 9.0, 5, 2.4, 2.4, 3.46, "done"),
]


def shown(display: Display) -> str:
    buffer = io.StringIO()
    display.console.file = buffer
    with display:
        for event in EVENTS:
            display.show(event)
    return buffer.getvalue()


def test_without_a_terminal_each_evaluation_is_one_plain_line() -> None:
    text = shown(Display())
    assert "step  5 of 10         3 s  training 2.500  held out 2.400 nats a token, 3.460 bits a byte" in text
    assert "1 min 5 s left" in text
    assert "3 files skipped" in text and "model 2" in text and "reading: 50 MB" in text
    assert "finished after 10 steps in 9 s; best at step 5: 2.4000 nats a token, 3.4600 bits a byte\n" in text
    assert "octavo talk runs/x-1" in text
    assert "\x1b" not in text


def test_quiet_says_nothing_of_the_way() -> None:
    lines = shown(Display(quiet=True)).splitlines()
    assert len(lines) == 2 and lines[0].startswith("finished after 10 steps")


def test_on_a_terminal_there_is_a_live_picture_with_the_latest_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("octavo.progress.Telling", lambda: Console(file=io.StringIO(), force_terminal=True, width=100))
    text = shown(Display())
    assert "what it writes by now" in text
    assert "To be ␛[31mor" in text
    assert "1,234 tokens/s" in text


def test_a_stopped_training_says_how_to_go_on() -> None:
    display, buffer = Display(), io.StringIO()
    display.console.file = buffer
    display.show(Finished(Path("runs/x-1"), 5, 10, 9.0, 5, 2.4, 2.4, 3.46, "stopped"))
    display.show(Finished(Path("runs/x-1"), 1, 10, 9.0, 1, 2.4, 2.4, 3.46, "stopped"))
    assert "stopped and saved after 5 steps in" in buffer.getvalue() and "after 1 step in" in buffer.getvalue()
    assert "go on with: octavo train --resume runs/x-1" in buffer.getvalue()


@pytest.mark.parametrize(
    ("read", "said"),
    [
        (False, "the held-out text was read before the first step, and not since\n"),
        (True, "the held-out text came out no better than before the first step\n"),
    ],
)
def test_of_weights_that_were_not_measured_no_loss_is_claimed(read: bool, said: str) -> None:
    display, buffer = Display(), io.StringIO()
    display.console.file = buffer
    display.show(Finished(Path("runs/x-1"), 5, 10, 9.0, 0, 4.4, 4.4, 6.3, "stopped", evaluated=False, read=read))
    assert f"stopped and saved after 5 steps in 9 s; {said}" in buffer.getvalue()


def test_weights_from_before_a_training_went_back_are_said_to_be_kept() -> None:
    display, buffer = Display(), io.StringIO()
    display.console.file = buffer
    display.show(Finished(Path("runs/x-1"), 10, 10, 9.0, 12, 2.4, 2.4, 3.46, "done"))
    said = "finished after 10 steps in 9 s; best at step 12, before it went back, which is kept: 2.4000 nats a token, "
    assert said in buffer.getvalue()


def test_a_training_that_helped_nothing_is_not_called_better_than_expected() -> None:
    display, buffer = Display(), io.StringIO()
    display.console.file = buffer
    display.show(Finished(Path("runs/x-1"), 9, 9, 9.0, 0, 6.1, 6.1, 8.8, "done", forecast=(9.6, 0.6, 9)))
    said = (
        "finished after 9 steps in 9 s; nothing it learned helped on the held-out text, and the weights it began with"
    )
    assert said in buffer.getvalue() and "better" not in buffer.getvalue()


def test_on_a_terminal_lines_are_cut_between_words(monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.StringIO()
    monkeypatch.setattr("octavo.progress.Telling", lambda: Console(file=buffer, force_terminal=True, width=40))
    line = "training  100 steps of 16 × 128 tokens, 2.5 times the text, on cpu in float32"
    Display().show(Planned((line,), CONFIG, 99))
    first, *others = buffer.getvalue().splitlines()
    assert first == "training  100 steps of 16 × 128 tokens," and all(other.startswith(" " * 10) for other in others)
    assert " ".join([first, *map(str.strip, others)]) == line


def test_a_token_of_several_characters_is_counted_both_ways() -> None:
    display, buffer = Display(), io.StringIO()
    display.console.file = buffer
    display.show(Finished(Path("runs/x-1"), 10, 10, 9.0, 5, 4.8, 1.6, 2.31, "done"))
    assert "best at step 5: 4.8000 nats a token, 1.6000 nats a character, 2.3100 bits a byte\n" in buffer.getvalue()


@given(st.text())
def test_text_cannot_command_a_terminal(text: str) -> None:
    safe = printable(text)
    assert len(safe) == len(text)
    assert not any((ord(sign) < 32 and sign not in "\n\t") or 127 <= ord(sign) < 160 for sign in safe)


def test_family_emoji_and_scripts_stay_whole() -> None:
    for text in (
        "👩‍👩‍👧 می‌خواهم ক্ষ",
        "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
        "שלום!\u200f آية \u06dd",
    ):
        assert printable(text) == text
    assert printable("ភាសា\u200bខ្មែរ Schiff\u00adfahrt") == "ភាសា\u200bខ្មែរ Schiff\u00adfahrt"
    assert printable("\u202eab\u2066\ue000") == "�ab��"


def test_durations_are_said_as_people_say_them() -> None:
    assert [duration(s) for s in (0.4, 59.6, 3600)] == ["0 s", "1 min 0 s", "1 h 0 min"]
