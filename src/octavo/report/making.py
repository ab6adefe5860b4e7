"""A report on a run, from its weights and its texts."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch

from octavo import toml
from octavo.config import RunConfig
from octavo.data import Part, Prepared
from octavo.data.parts import VALIDATION_TOKENS
from octavo.devices import choose_device
from octavo.errors import ConfigError, RunError, TextError
from octavo.events import Event, Note
from octavo.fused import fused
from octavo.model import GPT
from octavo.names import several
from octavo.places import find_run, is_there
from octavo.plain import simple
from octavo.porting import load
from octavo.report import copying, rivals, suffixes
from octavo.report.certainty import calibration, interval
from octavo.report.curve import curve
from octavo.report.findings import Copying, Duplicates, HeldOut, Score
from octavo.report.passages import extremes
from octavo.report.readings import Weighed, read, scored, weighed
from octavo.report.result import Report
from octavo.report.texts import PartName, Passage, Texts, texts_of
from octavo.resumption import found_again, same_text
from octavo.sampling import SEEDS
from octavo.saved import newest_facts, steps_saved
from octavo.standing import Standing
from octavo.tokenizers import Tokenizer

Listener = Callable[[Event], None]
SAMPLES, MOST_SAMPLES = 20, 1000
NAMES: dict[PartName, str] = {"test": "test", "val": "validation"}
NAMED = 10  # sources
FEW = 30  # windows under which an interval says little


def report(
    run: Path | str,
    *,
    samples: int = SAMPLES,
    seed: int = 0,
    device: str = "auto",
    on_event: Listener = lambda event: None,
) -> Report:
    """Find out how good the model of a run is, on text that it has not learned from.

    Raises `RunError` where the folder holds no training, its text is not what it was, or nothing was held out,
    `ConfigError` for a number of samples or a seed out of range.
    """
    samples, seed = simple(samples), simple(seed)
    check(samples, seed)
    run = Path(run) if is_there(Path(run)) else find_run(str(run))
    config = trained(run)
    model, tokenizer = load(run, dtype=torch.float32)
    where = choose_device(device)
    prepared = opened(run, config, on_event)
    subject = Subject(config, model.to(where).eval(), tokenizer, prepared, *_held_out(prepared))
    return _Making(run, subject, samples, seed, on_event).report()


def check(samples: int, seed: int) -> None:
    """Raise `ConfigError` for what no report can be made with."""
    if not 0 <= samples <= MOST_SAMPLES:
        raise ConfigError(f"{samples} samples cannot be written; give a number from 0 to {MOST_SAMPLES}")
    if not 0 <= seed < SEEDS:
        raise ConfigError(f"seed is {seed}; give a whole number from 0 to 2^63 - 1")


def trained(run: Path) -> RunConfig:
    """The settings of a run that was trained here; raises `RunError` for one that was not."""
    if not (run / toml.NAME).is_file():
        raise RunError(f"{run} was not trained here, so no text is known to be new to it; report on a trained run")
    return toml.load(run)


def as_it_went(run: Path, config: RunConfig) -> RunConfig:
    """The settings of a run, with as many steps as there came to be: an end that is a time moves them."""
    facts = newest_facts(run)
    steps = config.train.steps if facts is None else Standing.of(facts).schedule.steps
    return replace(config, train=replace(config.train, steps=steps))


def opened(run: Path, config: RunConfig, on_event: Listener) -> Prepared:
    """The text of a run, the same that it learned from and held out. Raises `RunError` where it is not."""
    try:
        prepared = same_text(run, config, on_event)
    except TextError as error:
        raise RunError(f"the text of {run} cannot be read again: {error}") from None
    known = newest_facts(run)
    if known is not None and known.get("text_sha256") != prepared.text_sha256:
        raise RunError(f"the text is not the one that {run} learned from; bring that back, and report then")
    if not prepared.held_out:
        raise RunError(f"{run} held no text out, for it has too little; train anew on a longer one")
    return prepared


class Subject(NamedTuple):
    """A model with its text, and which part of it was held out to the end."""

    config: RunConfig
    model: GPT
    tokenizer: Tokenizer
    prepared: Prepared
    name: PartName
    part: Part


def _held_out(prepared: Prepared) -> tuple[PartName, Part]:
    name: PartName = "test" if len(prepared.test.tokens) >= 2 else "val"
    part: Part = getattr(prepared, name)
    return name, part.head(VALIDATION_TOKENS)


class _Making:
    """One report as it is being made, and the notes that come up on the way."""

    def __init__(self, run: Path, subject: Subject, samples: int, seed: int, on_event: Listener) -> None:
        self.run, self.subject, self.samples, self.seed = run, subject, samples, seed
        self.on_event, self.notes = on_event, list(notes_on(run, subject))
        data = subject.config.data
        data = data if "-" in data.texts else found_again(run, data)
        self.texts: Texts = texts_of(data, subject.prepared, self._note)

    def _note(self, event: Event) -> None:
        if isinstance(event, Note):
            self.notes.append(event.text)

    def report(self) -> Report:
        config, model, tokenizer, _, name, part = self.subject
        passages = list(self.texts.passages(name, part.characters))
        text = "".join(passage.text for passage in passages)
        boundary = None if config.train.pack is None else tokenizer.end_of_text
        readings = read(model, part, config.window, self.on_event, boundary)
        cost = weighed(readings, part, tokenizer)
        easiest, hardest = extremes(cost, part, tokenizer)
        copied, repeated = self._search(text, cost) if self._able() else (None, None)
        return Report(
            run=str(self.run),
            held_out=HeldOut(NAMES[name], len(part.tokens), part.characters, part.bytes, named(passages)),
            model=scored("this model", float(readings.nats.sum()), part),
            interval=interval(cost, config.window, self.seed),
            baselines=tuple(self._baselines(text)),
            curve=curve(as_it_went(self.run, config), self.subject.prepared, part),
            calibration=calibration(readings),
            easiest=easiest,
            hardest=hardest,
            copying=copied,
            duplicates=repeated,
            notes=tuple(self.notes),
        )

    def _baselines(self, text: str) -> list[Score]:
        subject, told = self.subject, self.on_event
        size, tokens = subject.model.config.vocab_size, subject.prepared.train.tokens
        found = [rivals.uniform(subject.part, size), *rivals.counted(tokens, subject.part, size, told)]
        if len(tokens) > rivals.COUNTED:
            self.notes.append(f"n-grams are counted in {rivals.COUNTED:,} of {len(tokens):,} training tokens")
        learned, held_out = self._last_of_training(), text.encode()
        xz, zstd = rivals.xz(learned, held_out, told), rivals.zstd(learned, held_out, told)
        if zstd is None:
            self.notes.append("zstd is left out: zstandard is missing; pip install -e '.[data]'")
        return [*found, xz] if zstd is None else [*found, xz, zstd]

    def _last_of_training(self) -> bytes:
        """The end of the training text, as much as a compressor is given."""
        kept, size = bytearray(), self.subject.prepared.train.bytes
        for passage in self.texts.passages("train"):
            kept += passage.text.encode()
            if len(kept) > 2 * rivals.COMPRESSED:
                del kept[: -rivals.COMPRESSED]
        if size > rivals.COMPRESSED:
            self.notes.append(f"xz and zstd learn the last {rivals.COMPRESSED / 1e6:.0f} of {size / 1e6:,.0f} MB")
        return bytes(kept[-rivals.COMPRESSED :])

    def _able(self) -> bool:
        if suffixes.available():
            return True
        self.notes.append("copies are not looked for: pydivsufsort is missing; pip install -e '.[report]'")
        return False

    def _search(self, text: str, cost: Weighed) -> tuple[Copying | None, Duplicates]:
        subject = self.subject
        if subject.prepared.train.bytes > copying.SEARCHED:
            size = f"{copying.SEARCHED / 1e6:.0f} of {subject.prepared.train.bytes / 1e6:,.0f} MB"
            self.notes.append(f"copies are looked for in the first {size} of the training text")
        writer = fused(subject.model, rows=copying.AT_ONCE)
        written = copying.write(writer, subject.tokenizer, subject.part, self.samples, self.seed, self.on_event)
        wanted = {"held out": [text], "samples": [s.text for s in written], "human": [s.human for s in written]}
        search = copying.Search.of(self.texts, wanted, self.on_event)
        return copying.copying(search, written) if written else None, copying.duplicates(
            search, subject.name, text, cost
        )


def named(passages: Sequence[Passage]) -> tuple[str, ...]:
    """The files or records that a text comes from, the first few of them by name."""
    names = list(dict.fromkeys(passage.source for passage in passages))
    return (*names[:NAMED], *([f"and {len(names) - NAMED:,} more"] if len(names) > NAMED else []))


def notes_on(run: Path, subject: Subject) -> list[str]:
    """What has to be known of the figures before they are read."""
    whole: Part = getattr(subject.prepared, subject.name)
    windows = -(-(len(subject.part.tokens) - 1) // subject.config.window)
    found = {
        "there is no test part, so this is the validation text, which chose among the weights": subject.name == "val",
        f"read are the first {len(subject.part.tokens):,} of its {len(whole.tokens):,} tokens": subject.part
        is not whole,
        f"it began with the weights of {subject.config.train.start}, which may have learned from the held-out text": (
            subject.config.train.start is not None
        ),
        "it keeps no checkpoint, so whether its text is still the same cannot be told": not steps_saved(run),
        f"{several(windows, 'window')} of text: the interval is a rough one": windows < FEW,
    }
    return [line for line, holds in found.items() if holds]
