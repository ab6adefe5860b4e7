"""The shape of the code itself: floors, types, what an import costs."""

import subprocess
import sys
from pathlib import Path

import pytest

import octavo

ROOT = Path(__file__).parent.parent


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=ROOT, check=False)


def test_a_module_imports_from_lower_floors_only() -> None:
    result = python("-c", "from importlinter.cli import lint_imports_command as lint; lint()")
    assert result.returncode == 0, result.stdout + result.stderr


def test_octavo_has_what_it_lists_and_nothing_else() -> None:
    public = {name for name in dir(octavo) if not name.startswith("_")}
    parts = {name for name in public if getattr(getattr(octavo, name), "__name__", "") == f"octavo.{name}"}
    assert public - parts == set(octavo.__all__)
    assert all(getattr(octavo, name) is not None for name in octavo.__all__)
    with pytest.raises(AttributeError, match="module 'octavo' has no attribute 'nothing'"):
        octavo.nothing  # noqa: B018


def test_the_modules_that_pages_name_are_there_without_being_imported() -> None:
    result = python(
        "-c", "import octavo; octavo.lens.trace, octavo.loss.cross_entropy, octavo.events.Stepped, octavo.report.report"
    )
    assert result.returncode == 0, result.stderr


def test_importing_octavo_does_not_import_torch() -> None:
    result = python("-c", "import sys, octavo; sys.exit('torch' in sys.modules)")
    assert result.returncode == 0, result.stderr
