"""The text that is always there: Python's own reference and the docstrings of its standard library."""

import ast
import hashlib
import platform
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from octavo.data.lock import locked
from octavo.disk import write_file

_LEFT_OUT = {
    "test",
    "tests",
    "idlelib",
    "lib2to3",
    "turtledemo",
    "ensurepip",
    "pydoc_data",
    "site-packages",
    "dist-packages",
}


def python_text(folder: Path) -> Path:
    """The reference text of this Python as one file in `folder`, made when it is not there or not whole."""
    target = folder / f"python-{platform.python_version()}.txt"
    seal = target.with_suffix(".sha256")
    with locked(target):
        if not _intact(target, seal):
            content = "\n\n\n".join([*_topics(), *_docstrings()]).encode(errors="replace") + b"\n"
            write_file(target, content)
            write_file(seal, hashlib.sha256(content).hexdigest() + "\n")
    return target


def _intact(target: Path, seal: Path) -> bool:
    if not (target.is_file() and seal.is_file()):
        return False
    return hashlib.sha256(target.read_bytes()).hexdigest() == seal.read_text().strip()


def _topics() -> Iterator[str]:
    from pydoc_data.topics import topics

    for name in sorted(topics):
        yield topics[name].strip()


def _docstrings() -> Iterator[str]:
    """Every docstring of the library, in the order of its files; they are read and not imported."""
    root = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(root.rglob("*.py")):
        if not _LEFT_OUT.intersection(path.relative_to(root).parts):
            yield from _docstrings_of(path)


def _docstrings_of(path: Path) -> Iterator[str]:
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, OSError):  # some Pythons ship a file of another version
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text and text.strip():
                yield text.strip()
