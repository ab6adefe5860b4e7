"""Standard output that takes no more: one line for a full disk, none for a reader that has gone, and nothing lost."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from octavo.cli import run
from warm import BRIEFLY, OCTAVO, Warm

TINY = ["--steps", "4", "--layers", "1", "--heads", "1", "--width", "16", "--context", "8", "--batch", "2"]
FULL = Path("/dev/full")
PLAN = ["--preset", "gpt2", "--tflops", "100"]
LINE = "octavo: standard output takes no more: No space left on device\n"
Said = Callable[..., tuple[int, str, str]]

pytestmark = pytest.mark.skipif(not FULL.exists(), reason="this system has no file that is always full")


@pytest.fixture(autouse=True)
def here(workplace: Path, unchecked: None) -> None:
    """A folder of its own."""


@pytest.fixture
def filled(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Runs a command line whose standard output is full, and gives its exit status and standard error."""

    def call(*words: str) -> tuple[int, str]:
        capsys.readouterr()
        with FULL.open("w") as full, monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", full)
            status = run(words)
        return status, capsys.readouterr().err

    return call


def test_a_full_standard_output_is_one_line(said: Said, filled: Callable[..., tuple[int, str]]) -> None:
    said("train", "text.txt", *TINY)
    for words in (
        ("generate", "text-1", "Ada", "--max-new-tokens", "2"),
        ("generate", "text-1", "Ada", "--max-new-tokens", "2", "--json"),
        ("look", "text-1", "Ada"),
        ("explain", "text-1", "Ada"),
        ("report", "text-1", "--json", "--samples", "1"),
        ("export", "text-1", "--as", "hf"),
        ("--version",),
        ("train", "--help"),
    ):
        status, errors = filled(*words)
        assert status == 1 and errors.endswith(LINE) and errors.count("octavo: ") == 1, (words, errors)
        assert "Traceback" not in errors


@pytest.mark.parametrize("words", [("plan", *PLAN), ("--help",)])
def test_so_it_is_where_that_shows_at_the_end_of_the_process_only(warm: Warm, words: tuple[str, ...]) -> None:
    full = "import os; os.dup2(os.open('/dev/full', os.O_WRONLY), 1)\n"
    printing = warm.start(full + BRIEFLY + OCTAVO, *words)
    assert (printing.wait(), printing.errors) == (1, LINE)


@pytest.mark.parametrize("words", [("plan", *PLAN), ("--help",)])
def test_a_reader_that_has_gone_is_told_nothing(warm: Warm, words: tuple[str, ...]) -> None:
    gone = "import os; r, w = os.pipe(); os.dup2(w, 1); os.close(r)\n"
    printing = warm.start(gone + BRIEFLY + OCTAVO, *words)
    assert (printing.wait(), printing.errors) == (0, "")


def test_a_closed_standard_output_is_none(said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    said("train", "text.txt", *TINY)
    monkeypatch.setattr(sys, "stdout", None)
    for words in (["plan", *PLAN], ["plan", "text.txt", *TINY], ["generate", "Ada"], ["generate", "Ada", "--json"]):
        assert run(words) == 0


def test_no_file_takes_the_place_of_a_stream_that_was_closed(warm: Warm) -> None:
    closed = "import os, sys; sys.stdin = sys.stdout = sys.stderr = None; os.closerange(0, 3)\n"
    streams = "import atexit; from pathlib import Path; streams = [Path(f'/proc/self/fd/{n}') for n in range(3)]\n"
    told = "atexit.register(lambda: Path('told').write_text(' '.join(str(one.readlink()) for one in streams)))\n"
    assert warm.start(closed + streams + told + BRIEFLY + OCTAVO, "train", "text.txt", *TINY).wait() == 0
    assert Path("told").read_text() == "/dev/null /dev/null /dev/null"


@pytest.mark.parametrize(
    "nowhere", ["os.dup2(os.open('/dev/full', os.O_WRONLY), 1)", "r, w = os.pipe(); os.dup2(w, 1); os.close(r)"]
)
def test_a_training_is_not_lost_where_nothing_can_be_said(warm: Warm, nowhere: str) -> None:
    said = f"import os; {nowhere}; os.dup2(1, 2)\n"
    assert warm.start(said + BRIEFLY + OCTAVO, "train", "text.txt", *TINY).wait() == 0
    writing = warm.octavo("generate", "text-1", "Ada", "--max-new-tokens", "2")
    assert writing.wait() == 0 and writing.output.startswith("Ada"), writing.errors
