"""Measurements as lines of JSON, and the tables that pages show of them, between two marks."""

import json
from pathlib import Path
from typing import Any

END = "<!-- to here -->"


def read(out: Path) -> list[dict[str, Any]]:
    """What was measured so far."""
    return [json.loads(line) for line in out.read_text("utf-8").splitlines()] if out.is_file() else []


def with_table(page: str, begin: str, table: str) -> str:
    """The page with the table between its marks made anew."""
    before, rest = page.split(begin, 1)
    return before + begin + "\n" + table + END + rest.split(END, 1)[1]
