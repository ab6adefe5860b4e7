"""No message without a test that saw its words: an untested error is a promise that nobody keeps."""

import ast
import doctest
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "src").rglob("*.py"))
Names = Mapping[str, Sequence[ast.expr | None]]
Statement = TypeVar("Statement", bound=ast.stmt)


def expected_words() -> str:
    """What tests and examples in docstrings expect, a text a line; a regular expression's backslashes are left out."""
    tests = [path.read_text("utf-8") for path in sorted((ROOT / "tests").glob("*.py")) if path != Path(__file__)]
    parser = doctest.DocTestParser()
    examples = [example for path in SOURCES for example in parser.get_examples(path.read_text("utf-8"))]
    found = [*(text for test in tests for text in texts(test)), *(example.exc_msg or "" for example in examples)]
    return "\n".join(" ".join(text.replace("\\", "").split()) for text in found)


def texts(test: str) -> Iterator[str]:
    """Every text in quotation marks but for what documents; what is put into one of them stands as {}.

    >>> sorted(texts("'about'\\nassert said('a') == f'no {name} here'"))
    [' here', 'a', 'no ', 'no {} here']
    """
    tree = ast.parse(test)
    documenting = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str | bytes) and node not in documenting:
            yield node.value if isinstance(node.value, str) else node.value.decode("utf-8", "replace")


def messages(source: str) -> dict[int, list[str]]:
    """The constant parts of the message of each `raise`, by its line.

    >>> messages("def none(n):\\n    line = f'{n} is none here'\\n    raise ValueError(line + '; give one')")
    {3: [' is none here', '; give one']}
    """
    tree = ast.parse(source)
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    returned = {function.name: [one.value for one in within(function, ast.Return)] for function in functions}
    found: dict[int, list[str]] = {}
    for scope in [tree, *functions]:  # what is in a function within another one comes last
        raised = [one for one in within(scope, ast.Raise) if isinstance(one.exc, ast.Call)]
        assigned: dict[str, list[ast.expr | None]] = {}
        for one in within(scope, ast.Assign) if raised else ():
            assigned.setdefault(ast.unparse(one.targets[0]), []).append(one.value)
        for one in raised:
            told = parts(one.exc, {**returned, **assigned})
            found[one.lineno] = [text for text in told if re.search(r"\w", text)]
    return found


def within(scope: ast.AST, kind: type[Statement]) -> list[Statement]:
    """All statements of a kind in a function or a module."""
    return [node for node in ast.walk(scope) if isinstance(node, kind)]


def parts(node: ast.expr | None, known: Names) -> Iterator[str]:
    """The constant parts of a message, with those of the names and the functions that it has itself."""
    match node:
        case ast.Constant(str(text)):
            yield from re.split(r"\{\w+\}", text)
        case ast.JoinedStr(several):
            for one in several:
                yield from parts(one, known)
        case ast.FormattedValue(ast.Name() | ast.IfExp() as value):
            yield from parts(value, known)
        case ast.BinOp(left, ast.Add(), right) | ast.IfExp(_, left, right):
            yield from parts(left, known)
            yield from parts(right, known)
        case ast.Name(name):
            for value in known.get(name, ()):
                yield from parts(value, {})
        case ast.Call(ast.Name(name) | ast.Attribute(_, name), arguments):
            for value in (*arguments, *known.get(name, ())):
                yield from parts(value, known if value in arguments else {})


def threes(text: str) -> list[str]:
    """Every three words that stand together."""
    words = text.split()
    return [" ".join(words[start : start + 3]) for start in range(len(words) - 2)]


WORDS = expected_words()
FOUND = {path: messages(path.read_text("utf-8")) for path in SOURCES}
OFTEN = Counter(
    three
    for found in FOUND.values()
    for told in found.values()
    for three in {three for text in told for three in threes(text)}
)


def rarest(text: str) -> list[str]:
    """Of its three words that stand together those that the fewest messages have."""
    found = threes(text)
    return [three for three in found if OFTEN[three] == min(OFTEN[other] for other in found)]


def unseen(told: Sequence[str]) -> list[str]:
    """The parts of a message of whose rarest three words no test has any.

    Where no part has as many as three, all must stand in one text of a test, one behind the other.
    """
    if not any(map(threes, told)):
        return [] if re.search(".*".join(map(re.escape, told)), WORDS) else list(told)
    return [text for text in told if threes(text) and not any(three in WORDS for three in rarest(text))]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "src/octavo")))
def test_every_message_was_seen_by_a_test(path: Path) -> None:
    missing = {line: found for line, told in FOUND[path].items() if (found := unseen(told))}
    assert not missing, f"{path.name} raises words that no test expects: {missing}"
