"""What a person sees of an import or an export that lasts."""

import io
from collections.abc import Sequence

import pytest
from rich.console import Console

from octavo.cli.waiting import Waiting
from octavo.events import Event, Note, Preparing

LONG: Sequence[Event] = (
    Preparing("writing [b]a[/b].gguf", 0, 270_000_000),
    Preparing("writing [b]a[/b].gguf", 90_000_000, 270_000_000),
    Note("a note"),
    Preparing("asking the model", 0, 32),
    Preparing("asking the model", 31, 32),
    Preparing("reading it back with llama.cpp", 0, 0),
)


def shown(patience: float, *, terminal: bool, monkeypatch: pytest.MonkeyPatch) -> str:
    """What comes of all events, of which the first is there before patience is lost."""
    console = Console(file=io.StringIO(), force_terminal=terminal, width=100)
    monkeypatch.setattr("octavo.cli.waiting.Telling", lambda: console)
    with Waiting(patience) as waiting:
        waiting.show(LONG[0])
        if not patience:
            waiting.timer.join()
        for event in LONG[1:]:
            waiting.show(event)
            if terminal and not patience:
                waiting.bar.refresh()
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_what_is_soon_done_says_its_notes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(60, terminal=False, monkeypatch=monkeypatch) == "a note\n"


def test_without_a_terminal_each_thing_that_is_done_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(0, terminal=False, monkeypatch=monkeypatch)
    said = ["writing [b]a[/b].gguf", "a note", "asking the model", "reading it back with llama.cpp"]
    assert text.splitlines() == said


def test_on_a_terminal_a_bar_moves_and_is_gone_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(0, terminal=True, monkeypatch=monkeypatch)
    assert "writing [b]a[/b].gguf" in text and "90 of 270 MB" in text and "━" in text
    assert text.index("writing") < text.index("━")  # no bar without its words
    assert "reading it back with llama.cpp" in text and text.rstrip().endswith("\x1b[2K")


def test_a_terminal_sees_nothing_of_what_is_soon_done(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(60, terminal=True, monkeypatch=monkeypatch) == "a note\n"
