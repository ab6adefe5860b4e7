"""What the pages say was measured is what the files of measurements hold."""

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "path", [str(ROOT / "benchmarks"), *sys.path])
    return import_module("recipe")


def test_the_table_of_the_recipe_is_made_from_what_was_measured(recipe: ModuleType) -> None:
    page, lines = recipe.PAGE.read_text("utf-8"), recipe.read(recipe.HERE / "recipe.jsonl")
    assert recipe.with_table(page, lines) == page
    assert {line["seed"] for line in lines} == set(recipe.SEEDS)
    assert {line["variant"] for line in lines} == set(recipe.VARIANTS)
    assert len(lines) == len(recipe.SEEDS) * len(recipe.VARIANTS)
