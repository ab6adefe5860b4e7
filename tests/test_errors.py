"""No message without a test that saw its words: an untested error is a promise that nobody keeps."""

import ast
import doctest
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "src").rglob("*.py"))


def expected_words() -> str:
    """What tests and examples in docstrings expect; a regular expression's backslashes are left out."""
    tests = [path.read_text("utf-8") for path in sorted((ROOT / "tests").glob("*.py")) if path != Path(__file__)]
    parser = doctest.DocTestParser()
    examples = [example for path in SOURCES for example in parser.get_examples(path.read_text("utf-8"))]
    return " ".join([*tests, *(example.exc_msg or "" for example in examples)]).replace("\\", "")


WORDS = expected_words()


def messages(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The line of every `raise`, and the constant parts of its message that are three words or longer."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            strings = [part.value for part in ast.walk(node.exc) if isinstance(part, ast.Constant)]
            yield node.lineno, [text for text in strings if isinstance(text, str) and len(text.split()) >= 3]


def threes(text: str) -> list[str]:
    """Every three words that stand together."""
    words = text.split()
    return [" ".join(words[start : start + 3]) for start in range(len(words) - 2)]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "src/octavo")))
def test_every_message_was_seen_by_a_test(path: Path) -> None:
    unseen = {
        line: texts
        for line, texts in messages(path)
        if texts and not any(three in WORDS for text in texts for three in threes(text))
    }
    assert not unseen, f"{path.name} raises words that no test expects: {unseen}"
