"""What a training will do and cost, in lines for people."""

import time

from octavo.config import RunConfig, TrainConfig
from octavo.data import Prepared
from octavo.data.nature import script
from octavo.evaluation import held_out
from octavo.forecast import FEWEST, RATES
from octavo.names import several
from octavo.ngrams import spread
from octavo.probing import Room, step_memory
from octavo.progress import duration
from octavo.scale import parameters

COPIED = 0.5  # of the held-out text: what is counted then says what was copied, not what can be learned
SAMPLED = 20_000  # tokens that tell the script


def epochs(config: RunConfig, steps: int, tokens: int) -> float:
    """How often a text of so many tokens is read in so many steps."""
    return steps * config.train.batch * config.window / max(1, tokens)


def described(
    config: RunConfig, prepared: Prepared, room: Room, again: float, copied: float, share: float = 1.0
) -> tuple[str, ...]:
    """A plan in five lines: the text, the model, the training, its memory, what it will come to and when.

    `share` is how much of the time that was asked for it will take.
    """
    model, train = config.model, config.train
    times = epochs(config, train.steps, len(prepared.train.tokens) - 1)
    words = prepared.tokenizer.vocab_size - len(prepared.tokenizer.special_ids)
    unit = {"character": "characters", "word": "words", "bpe": "pieces of words"}[prepared.tokenizer.kind]
    return (
        f"text      {prepared.train.characters:,} characters to train on ({_kind(prepared, again)}), "
        f"{prepared.val.characters:,} held out to validate; a vocabulary of {words:,} {unit}",
        f"model     {model.dialect}, {model.layers} layers of width {model.width}, {model.heads} heads, "
        f"context {model.context}: {parameters(model) / 1e6:.2f} million parameters",
        f"training  {several(train.steps, 'step')} of {train.batch} × {config.window} tokens, "
        f"{times:.1f} times the text, on {train.device} in {train.dtype}{_besides(train)}",
        f"memory    about {_size(step_memory(config, room))}"
        + ("" if room.free is None else f" of {_size(room.free)} free")
        + (f" in each of {room.processes} processes" if room.processes > 1 else ""),
        f"forecast  {_expected(config, prepared, copied)}; {_end(train, share)}",
    )


def _kind(prepared: Prepared, again: float) -> str:
    """What is to be known of the text before its first word is read."""
    written = script(prepared.tokenizer.decode(spread(prepared.train.tokens, SAMPLED).tolist())) or "no letters"
    read = prepared.train.bytes
    size = f"{read / 1e6:,.1f} MB, {written}" if read >= 10**5 else f"{read / 1e3:.0f} KB, {written}"
    return f"{size}, {again:.0%} of it a repetition" if again >= 0.01 else size


def _size(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def _besides(train: TrainConfig) -> str:
    pieces = f"; each batch in {train.micro_batches} pieces, to save memory" if train.micro_batches > 1 else ""
    read = "" if train.val_tokens is None else f"; up to {train.val_tokens:,} tokens held out are read, to save time"
    return ("" if train.pairs is None else "; it begins with counts of what follows what") + pieces + read


def _expected(config: RunConfig, prepared: Prepared, copied: float) -> str:
    train = config.train
    if copied >= COPIED:
        return f"none: {copied:.0%} of what is held out stands in what is learned from, word for word"
    if train.forecast is None or train.forecast_within is None:
        return f"none for {_unknown(config)}"
    told = f"a loss of {train.forecast:.2f} ± {train.forecast_within:.2f} nats a token held out"
    if prepared.tokenizer.kind == "character":
        return told
    part = held_out(prepared)
    share = len(part.tokens) / part.characters
    return f"{told}, {share * train.forecast:.2f} ± {share * train.forecast_within:.2f} a character"


def _unknown(config: RunConfig) -> str:
    """What it is of which nothing was measured."""
    if config.model.dialect != "modern":
        return "GPT-2's dialect"
    if config.train.optimizer != "muon":
        return "a training by AdamW"
    if config.train.steps < FEWEST:
        return f"fewer than {FEWEST} steps"
    return "a model of this size" if RATES[0] <= config.train.lr <= RATES[1] else f"a rate of {config.train.lr:g}"


def _end(train: TrainConfig, share: float) -> str:
    if train.minutes is None:
        return "it takes as long as the steps do"
    seconds = 60 * train.minutes
    if train.steps == train.most_steps:
        done = f"done in about {duration(share * seconds)}, not {duration(seconds)}"
        return f"{done}: after that, the text would only be learned by heart"
    return f"done in {duration(seconds)}, about {time.strftime('%H:%M', time.localtime(time.time() + seconds))}"
