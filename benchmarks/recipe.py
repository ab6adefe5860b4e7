"""What each ingredient of the recipe is worth: trainings that differ from the recipe in one thing, over three seeds.

    python benchmarks/recipe.py train                  # what recipe.jsonl does not hold yet: half an hour on two cores
    python benchmarks/recipe.py train --text networkx  # recipe-code.jsonl: a quarter of an hour
    python benchmarks/recipe.py page                   # the tables in docs/recipe.md, of what the files hold

All read the same number of tokens of tiny-Shakespeare, cut into pieces of words but where it says otherwise, or of
networkx's source, which has more names that are rare. The losses do not depend on the clock, so several of these may
run side by side, a thread each. `recipe-before.jsonl` is of the recipe as it was by character, when heads began by
looking anywhere (6 layers, context 128, in bfloat16, at the rate 0.02, rotary positions to the base 10,000, AdamW at
0.15 of it with an ε of 1e-10, weight decay 0.1), and stays as it is.
"""

import argparse
import json
import statistics
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from measured import read, with_table
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from wheels import FITTED

import octavo.model
from octavo import optim, places
from octavo.config import DataConfig, ModelConfig, RunConfig, TrainConfig
from octavo.cutting import pieces_for
from octavo.data import Batches, Prepared, fetch, prepare
from octavo.evaluation import examine
from octavo.making import make_model
from octavo.model import GPT
from octavo.optim import make_optimizers
from octavo.schedule import Schedule
from octavo.step import training_step

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "recipe.md"
FOUND, FOUND_BEFORE, FOUND_CODE = (HERE / f"recipe{which}.jsonl" for which in ("", "-before", "-code"))
BEGIN = "<!-- made by benchmarks/recipe.py -->"
CODE = "<!-- made by benchmarks/recipe.py of networkx -->"
BEFORE = "<!-- made by benchmarks/recipe.py of what was measured before -->"
TOKENS = 256_000
PIECES = 1056  # of words, as the planner would cut it; 0 for characters
SEEDS = (0, 1, 2)
MODEL = ModelConfig(
    dialect="modern", vocab_size=PIECES, context=64, layers=4, heads=2, width=128, tied=False, rope_base=512
)
TRAIN = TrainConfig(steps=1, batch=8, lr=0.02, dtype="float32")


@dataclass(frozen=True)
class Variant:
    """The recipe with one thing changed."""

    words: str
    pieces: int = PIECES
    model: Mapping[str, Any] = field(default_factory=dict)
    train: Mapping[str, Any] = field(default_factory=dict)
    constants: Mapping[str, Any] = field(default_factory=dict)  # of `octavo.optim`
    start: float | None = None  # the spread of projections into the stream, instead of zero
    anywhere: bool = False  # heads do not begin by looking back
    average: float | None = None  # of the weights, how much of it a step leaves as it was


VARIANTS = {
    "recipe": Variant("the recipe as it stands"),
    "character": Variant("characters", pieces=0),
    "half": Variant("half as many pieces", pieces=PIECES // 2),
    "twice": Variant("twice as many pieces", pieces=2 * PIECES),
    "anywhere": Variant("heads begin by looking anywhere", anywhere=True),
    "adamw3": Variant("AdamW for everything, rate 0.003, weight decay 0.1", train={"optimizer": "adamw", "lr": 3e-3}),
    "tied": Variant("one matrix for what a token is, coming in and going out", model={"tied": True}),
    "outer15": Variant("AdamW's rate 0.15 of Muon's", constants={"OUTER_RATE": 0.15}),
    "epsilon": Variant("AdamW's ε 1e-10", constants={"OUTER_EPSILON": 1e-10}),
    "batch4": Variant("4 rows a step, twice the steps", train={"batch": 4}),
    "batch16": Variant("16 rows a step, half the steps", train={"batch": 16}),
    "lr30": Variant("rate 0.03", train={"lr": 0.03}),
    "wd0": Variant("no weight decay", train={"weight_decay": 0.0}),
    "wd1": Variant("weight decay 0.1", train={"weight_decay": 0.1}),
    "dropout": Variant("dropout 0.1", train={"dropout": 0.1}),
    "no-qk-norm": Variant("no norms on queries and keys", model={"qk_norm": False}),
    "rope10k": Variant("rotary positions to the base 10,000", model={"rope_base": 10_000}),
    "momentum95": Variant("Muon's momentum 0.95", constants={"MOMENTUM": 0.95}),
    "start": Variant("projections into the stream begin at random (σ 0.02)", start=0.02),
    "decay20": Variant("the rate falls over the last 20 % of the steps", train={"decay": 0.2}),
    "decay80": Variant("the rate falls over the last 80 % of the steps", train={"decay": 0.8}),
    "outer60": Variant("AdamW's rate 0.6 of Muon's", constants={"OUTER_RATE": 0.6}),
    "wd3": Variant("weight decay 0.3", train={"weight_decay": 0.3}),
    "average": Variant("weights averaged over about 50 steps", average=0.98),
    "gpt2": Variant("GPT-2's dialect", model={"dialect": "gpt2", "tied": True, "qk_norm": False}),
}
WORDS = {name: variant.words for name, variant in VARIANTS.items()}
WORDS_BEFORE = WORDS | {
    "adamw": "AdamW for everything, rate 0.001",
    "plateau-average": "the rate never falls, weights averaged over about 50 steps",
    "outer30": "AdamW's rate 0.3 of Muon's",
    "batch8": "8 rows a step, twice the steps",
    "batch32": "32 rows a step, half the steps",
    "lr10": "rate 0.01",
    "float32": "float32 instead of bfloat16",
}


def config_of(variant: Variant, seed: int, tokens: int, vocabulary: int) -> RunConfig:
    """The settings of one training, and the steps that come to so many tokens."""
    derived = {"kv_heads": None, "head_width": None, "feed_forward": None, "norm_epsilon": None}
    model = replace(MODEL, vocab_size=vocabulary, **derived, **variant.model)
    train = replace(TRAIN, seed=seed, **variant.train)
    return RunConfig(model=model, train=replace(train, steps=tokens // (train.batch * model.context)))


def begun(config: RunConfig, variant: Variant) -> GPT:
    """The model before its first step."""
    with mock.patch.object(octavo.model, "look_back") if variant.anywhere else nullcontext():
        model = make_model(config)
    if variant.start is not None:
        generator = torch.Generator().manual_seed(config.train.seed)
        for name, weight in model.named_parameters():
            if name.endswith(("mix.weight", "down.weight")):
                torch.nn.init.normal_(weight, 0.0, variant.start, generator)
    return model


def learn(variant: Variant, seed: int, tokens: int, name: str) -> dict[str, float]:
    """One training, and the losses it comes to on what it read last and on what it never read, in nats a character."""
    prepared = text(name, variant.pieces)
    config = config_of(variant, seed, tokens, prepared.tokenizer.vocab_size)
    train, dtype = config.train, getattr(torch, config.train.dtype)
    model = begun(config, variant)
    with mock.patch.multiple(optim, **variant.constants) if variant.constants else nullcontext():
        optimizers = make_optimizers(model, train)
    schedule = Schedule.planned(train.steps, warmup=train.warmup, decay=train.decay)
    batches = Batches(prepared.train.tokens, config.model.context, train.batch, train.seed)
    averaged = None
    if variant.average is not None:
        averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(variant.average))
    begin, losses = time.perf_counter(), []
    for step in range(train.steps):
        rows = [torch.from_numpy(part) for part in batches.rows(step, 0, train.batch)]
        rate = schedule.rate(step)
        piece = (rows[0], rows[1])
        result = training_step(model, optimizers, [piece], rate=rate, clip=train.clip, dtype=dtype, seeds=[step])
        losses.append(result.loss)
        if averaged is not None:
            averaged.update_parameters(model)
    seconds = time.perf_counter() - begin
    found = examine(model if averaged is None else averaged.module, prepared.val, step=train.steps, dtype=dtype)
    last = statistics.mean(losses[-max(1, len(losses) // 10) :])
    share = found.val_nats_per_character / found.val_loss  # tokens of a character
    return {"val_loss": found.val_nats_per_character, "train_loss": last * share, "seconds": seconds}


@cache
def text(name: str, pieces: int) -> Prepared:
    """A text, its last tenth held out, in so many pieces of words, or by character."""
    where = fetch(FITTED[name])
    if pieces:
        pieces = pieces * pieces_for(where.stat().st_size) // PIECES
    kind: dict[str, Any] = {"tokenizer": "bpe", "vocab_size": pieces} if pieces else {"tokenizer": "character"}
    return prepare(DataConfig(texts=(str(where),), split=0.9, **kind), None, cache=places.cache())


def train_missing(out: Path, names: list[str], seeds: list[int], tokens: int, name: str) -> None:
    """Train each variant with each seed that the file does not hold yet; a line is written as soon as one is done."""
    for seed in seeds:
        for variant in names:
            key = {"variant": variant, "seed": seed, "tokens": tokens}
            if any(key.items() <= line.items() for line in read(out)):
                continue
            line = {**key, **learn(VARIANTS[variant], seed, tokens, name)}
            with out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            print(line, flush=True)


def table(lines: list[dict[str, Any]], known: Mapping[str, str]) -> str:
    """What each variant came to, beside the recipe with the same seed: the best first."""
    found: dict[str, dict[int, float]] = {}
    for line in lines:
        found.setdefault(line["variant"], {})[line["seed"]] = line["val_loss"]
    rows = ["| what is different | loss | more than the recipe | from seed to seed |", "|---|---|---|---|"]
    for name, losses in sorted(found.items(), key=lambda item: statistics.mean(item[1].values())):
        more = [loss - found["recipe"][seed] for seed, loss in losses.items()]
        spread = "" if name == "recipe" else f"{min(more):+.3f} to {max(more):+.3f}"
        mean = "" if name == "recipe" else f"{statistics.mean(more):+.3f}"
        words = f"**{known[name]}**" if name == "recipe" else known[name]
        rows.append(f"| {words} | {statistics.mean(losses.values()):.3f} | {mean} | {spread} |")
    return "\n".join(rows) + "\n"


def page(text: str, found: Path = FOUND) -> str:
    """The page with its tables made anew."""
    now = with_table(text, BEGIN, table(read(found), WORDS))
    now = with_table(now, CODE, table(read(FOUND_CODE), WORDS))
    return with_table(now, BEFORE, table(read(FOUND_BEFORE), WORDS_BEFORE))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["train", "page"])
    parser.add_argument("--text", default="shakespeare", choices=["shakespeare", "networkx"])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--seeds", nargs="*", type=int, default=list(SEEDS))
    parser.add_argument("--tokens", type=int, default=TOKENS)
    parser.add_argument("--threads", type=int, default=2)
    words = parser.parse_args()
    torch.set_num_threads(words.threads)
    if words.what == "page":
        PAGE.write_text(page(PAGE.read_text("utf-8"), words.out or FOUND), "utf-8")
        return
    out = words.out or (FOUND if words.text == "shakespeare" else FOUND_CODE)
    train_missing(out, words.variants, words.seeds, words.tokens, words.text)


if __name__ == "__main__":
    main()
