"""What the pages say was measured is what the files of measurements hold."""

import re
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from octavo import forecast
from octavo.config import ModelConfig

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(ROOT / "benchmarks"), *sys.path])


@pytest.fixture
def recipe() -> ModuleType:
    return import_module("recipe")


@pytest.fixture
def pairs() -> ModuleType:
    return import_module("pairs")


def test_learning_on_a_gpu_is_measured_by_what_runs_on_a_cpu_too() -> None:
    gpu = import_module("gpu")
    tiny = ModelConfig(dialect="gpt2", vocab_size=64, context=16, layers=1, heads=2, width=32)
    lines = gpu.learn("cpu", (gpu.Case("tiny", tiny, rows=2, steps=2),))
    assert [line.split(" | ")[1] for line in lines[2:4]] == ["octavo", "transformers"]


def test_the_tables_of_the_recipe_are_made_from_what_was_measured(recipe: ModuleType) -> None:
    page, lines = recipe.PAGE.read_text("utf-8"), recipe.read(recipe.FOUND)
    assert recipe.page(page) == page
    assert {"recipe", "character", "anywhere", "adamw3"} <= {line["variant"] for line in lines} <= set(recipe.VARIANTS)
    for found in (lines, recipe.read(recipe.FOUND_CODE), recipe.read(recipe.FOUND_BEFORE)):
        trained = {(line["variant"], line["seed"]) for line in found}
        assert trained == {(line["variant"], seed) for line in found for seed in recipe.SEEDS}
        assert len(trained) == len(found)


def test_the_forecast_is_the_line_through_what_was_measured() -> None:
    grid = import_module("forecast")
    lines = grid.all_lines()
    weights, off = grid.fit(lines)
    assert len(lines) >= 50
    assert pytest.approx(weights, abs=1e-3) == forecast.WEIGHTS
    assert pytest.approx(off, abs=1e-3) == forecast.OFF


def test_the_tables_of_pieces_and_of_readings_are_made_from_what_was_measured() -> None:
    grid = import_module("forecast")
    page, lines = grid.PAGE.read_text("utf-8"), grid.read(grid.HERE / "forecast.jsonl")
    assert grid.with_table(page, grid.BEGIN, grid.table(lines)) == page
    assert grid.with_table(page, grid.READINGS, grid.readings(lines)) == page
    often = import_module("often")
    assert often.with_table(page, often.BEGIN, often.table(often.read(often.FOUND))) == page


def test_what_counting_first_is_worth_is_what_was_measured() -> None:
    early = import_module("early")
    page, lines = early.PAGE.read_text("utf-8"), early.read(early.FOUND)
    assert early.with_table(page, early.BEGIN, early.table(lines)) == page
    assert early.fit(lines) == pytest.approx((forecast.COUNTED_FIRST, forecast.COUNTED_OFF), abs=1e-4)
    trained = early.each_way(lines)
    planned = [ways for ways in trained if early.planned(ways[0])]
    assert 10 <= len(planned) < len(trained) and 3 * len(trained) == len(lines)
    assert all(told["val_nats_per_character"] < line["val_nats_per_character"] for line, _, told in planned)


def test_no_text_that_judges_the_forecast_was_fitted_to() -> None:
    grid, texts = import_module("forecast"), import_module("wheels")
    fitted = {line["text"] for line in grid.all_lines()}
    assert fitted <= set(texts.FITTED) and not set(texts.FITTED) & set(texts.UNSEEN)
    hashes = [corpus.text.sha256 for corpus in (*texts.FITTED.values(), *texts.UNSEEN.values())]
    assert len(set(hashes)) == len(hashes) and all(hashes)


def test_the_table_of_the_planner_is_made_from_what_was_measured(pairs: ModuleType) -> None:
    page, lines = pairs.PAGE.read_text("utf-8"), pairs.read(pairs.HERE / "pairs.jsonl")
    assert pairs.with_table(page, pairs.BEGIN, pairs.table(lines)) == page


def cells(page: str, row: str) -> list[float]:
    """The first number in each cell behind a row's name, in every row of this name."""
    rows = [line for line in page.splitlines() if line.startswith(f"| {row} ")]
    assert rows, f"no row is called {row}"
    numbers = (re.search(r"\d[\d,]*\.?\d*", cell) for line in rows for cell in line.split(" | ")[1:])
    return [float(found[0].replace(",", "")) for found in numbers if found]


def uncompiled(page: str) -> list[float]:
    """How many times as many tokens the demo's shape writes as transformers does without a compiler."""
    rows = [line for line in page.splitlines() if line.startswith("| the demo's shape") and "dynamic cache" in line]
    peers = [
        max(float(n.replace(",", "")) for n in re.findall(r"(?:dynamic|static) cache ([\d,]+)", row)) for row in rows
    ]
    ours = [float(re.findall(r"([\d,]+) tokens/s", row)[0].replace(",", "")) for row in rows]
    return [one / other for one, other in zip(ours, peers, strict=True)]


def test_every_figure_of_the_readme_stands_on_a_page_that_a_benchmark_writes() -> None:
    page = (ROOT / "docs/benchmarks.md").read_text("utf-8")
    told = (ROOT / "README.md").read_text("utf-8").split("\n## Figures\n")[1]
    learning, writing = (
        cells(page, f"{what} beside a busy program, {fewer}")[0] / cells(page, f"{what} beside a busy program, all")[0]
        for what, fewer in (("learning", "as `--minutes`"), ("writing", "fewer"))
    )
    both = (page + (ROOT / "docs/gpu.md").read_text("utf-8")).replace(",", "")
    measured = [learning, writing, *uncompiled(page), *map(float, re.findall(r"\d+\.?\d*", both))]
    figures = re.findall(r"(?<![\d.])\d+\.\d+|\d+(?= (?:s|MB/s|MiB)\b)", told)
    assert len(figures) > 25
    for figure in figures:
        places = len(figure.partition(".")[2])
        assert any(f"{one:.{places}f}" == figure for one in measured), figure
