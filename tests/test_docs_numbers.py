"""The numbers in the prose of the pages are those that the code goes by."""

from pathlib import Path

import pytest

from octavo import cutting, forecast, optim, planner, probing, readings
from octavo.config import ANSWERING, LOGITS, USUAL, TrainConfig
from octavo.data import jsonl, nature, packed
from octavo.data.encoding import GROUP
from octavo.data.parts import SPACING, VALIDATION_TOKENS
from octavo.devices import LARGE
from octavo.pairs import COUNTED
from octavo.processes import CONNECT
from octavo.products import TILE
from octavo.repeating import PLAIN
from octavo.report import certainty, copying
from octavo.shapes import FAR, LADDER, UNTIED, WINDOW

DOCS = Path(__file__).parents[1] / "docs"
WORDS = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
CUT = next(size for size in range(10**5) if cutting.pieces_for(size) >= cutting.FEWEST)
USUALLY = TrainConfig(steps=1, batch=1, optimizer="muon")

NUMBERS = {
    "planner": (
        f"at most {cutting.MOST:,}. Below some {CUT // 1000} KB",
        f"a rung of a ladder of {WORDS[len(LADDER)]}",
        f"at least {planner.DIFFERENT_PER_PARAMETER} different characters for each parameter",
        f"up to {WINDOW} tokens",
        f"repeats {nature.WINDOW} tokens in the same words",
        f"has {readings.DIFFERENT} tokens or more and less than {readings.OF_EACH} tokens of the text are read",
        f"for models of less than {LARGE / 1e6:.0f} million parameters",
        f"read more than {readings.MOST:g} times, or than {readings.BY_SIZE:g} times the tokens it has for each",
        f"{VALIDATION_TOKENS:,} tokens of it at most",
        f"takes longer than that and than {planner.LOOK:g} seconds",
        f"read up to {WORDS[int(readings.SETS_IN)]} times",
        f"it stays under {probing.SHARE:.0%}".replace("%", " %"),
        f"Of more than {LOGITS / 1e6:.0f} million logits never more exist at once",
        f"rows of at most {FAR:,} tokens",
        f"up to {forecast.COUNTED:,} tokens of the text, up to {WORDS[forecast.ORDER]} tokens long",
        f"(T / {readings.OF_EACH} V)^{forecast.COUNTED_FIRST}",
        f"itself off by {forecast.COUNTED_OFF:.1%}".replace("%", " %"),
    ),
    "recipe": (
        f"momentum {optim.MOMENTUM} in Nesterov's form, made orthogonal by five",
        f"Newton-Schulz steps, rate {LADDER[0].lr}",
        f"The planner takes {LADDER[2].lr} where it reads {LADDER[2].batch} rows of {LADDER[2].context}",
        f"at {optim.OUTER_RATE} of that rate, and at {optim.COUNTED_RATE} where they begin with what was counted",
        f"Its ε is {optim.OUTER_EPSILON:.0e}".replace("e-04", "e-4"),
        f"reads less than {readings.OF_EACH} tokens for each of its vocabulary",
        f"rises over {USUALLY.warmup * 100:g} % of the steps",
        f"clipped at length {USUALLY.clip:g}",
        f"in up to {COUNTED // 10**6} million tokens of it",
        f"fitted to the table in {readings.PAIRS} steps",
        f"unless the vocabulary has more than {UNTIED:,} tokens",
    ),
    "gpu": (
        f"to write with a model of {LARGE / 1e6:.0f} million parameters or more",
        f"After {WORDS[PLAIN]} steps of the same shapes one is recorded",
        f"matrices are multiplied {TILE} rows at a time",
    ),
    "scaling": (
        f"at most one line of JSON ({jsonl.LONGEST / 2**20:.0f} million characters)",
        f"with a row for every {SPACING:,} characters or so",
        f"cut {WORDS[GROUP >> 20]} million characters into tokens",
        f"the first {packed.CHUNK >> 10} KiB of each file",
        f"{WORDS[CONNECT.seconds // 60]} minutes",
    ),
    "conversations": (f"up to {WINDOW} tokens, however small it is", f"answers at temperature {ANSWERING} unless"),
    "serving": (f"temperature {USUAL}, or {ANSWERING} where",),
    "report": (f"at temperature {copying.TEMPERATURE}", f"{WORDS[certainty.BINS]} bins"),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_a_page_says_the_numbers_that_the_code_goes_by(name: str) -> None:
    page = " ".join((DOCS / f"{name}.md").read_text("utf-8").split())
    for words in NUMBERS[name]:
        assert words in page, words
