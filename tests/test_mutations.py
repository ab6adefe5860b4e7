"""Files from strangers: whatever is changed in a file, it is read as it stands or refused in one line, and soon."""

import json
import os
import pickle
import pickletools
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import pytest
from torch.optim import Optimizer

from alarm import alarm
from octavo import toml, training
from octavo.checkpoint import restore
from octavo.config import Asked
from octavo.disk import seal, verify
from octavo.errors import OctavoError
from octavo.gguf_file import save_gguf
from octavo.gguf_reading import load_gguf
from octavo.making import make_model
from octavo.model import GPT
from octavo.optim import make_optimizers
from octavo.run import load, load_model
from octavo.saved import checkpoint_folder, read_facts
from octavo.standing import Standing
from octavo.tokenizers import BPETokenizer, load_tokenizer
from sweeps import sweep
from texts import sentences

NUMBERS = (-1, 0, 1, 2**31, 2**63, 1e308, -1e-308)
ODD = (None, True, *NUMBERS, "", "\x00", "x" * 5000, "../../etc/passwd", [], {}, [[]], {"a": {}})
BYTES = b'\x00\xff"{}[]:,-0123456789eE.\\\n'


def nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


def mutated_json(content: bytes, draw: Random) -> bytes:
    """One value somewhere in it is another, is there twice, or is gone."""
    value = json.loads(content)
    places: list[tuple[Any, Any]] = []

    def walk(part: Any) -> None:
        for key in part if isinstance(part, dict) else range(len(part)):
            places.append((part, key))
            if isinstance(part[key], (dict, list)):
                walk(part[key])

    walk(value)
    part, key = draw.choice(places)
    what = draw.randrange(4)
    if what == 0 and isinstance(part, dict):
        del part[key]
    elif what == 1 and isinstance(part, dict):
        part[draw.choice(["", "extra", key + " ", key.upper()])] = part[key]
    elif what == 2:
        part[key] = nested(draw.choice([5, 500]))
    else:
        part[key] = draw.choice(ODD)
    return json.dumps(value).encode()


def mutated_bytes(content: bytes, draw: Random) -> bytes:
    """Some bytes are others, gone, or there twice, most often near the beginning."""
    data = bytearray(content)
    for _ in range(draw.choice([1, 1, 1, 2, 8])):
        at = min(int(len(data) * draw.random() ** 3), len(data) - 1)
        what, length = draw.randrange(6), draw.choice([1, 1, 2, 8, 64])
        if what == 0:
            data[at] ^= 1 << draw.randrange(8)
        elif what == 1:
            data[at] = draw.choice(BYTES)
        elif what == 2:
            del data[at : at + length]
        elif what == 3:
            data[at:at] = data[at : at + length]
        elif what == 4:
            data[at:at] = bytes(draw.choices(BYTES, k=length))
        else:
            del data[at:]
        if not data:
            break
    return bytes(data)


def mutated_header(content: bytes, draw: Random) -> bytes:
    """The header of a safetensors file is another, with its length made right again, more often than not."""
    length = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + length]
    try:
        header = (mutated_json if draw.random() < 0.7 else mutated_bytes)(header, draw)
    except (ValueError, IndexError):
        header = mutated_bytes(header, draw)
    size = len(header) if draw.random() < 0.8 else draw.choice([0, 1, 2**32, 2**63, 2**64 - 1])
    return size.to_bytes(8, "little") + header + content[8 + length :]


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raise `TimeoutError` after so much of the processor's time (others may use it too), or 30 times that by the
    clock.
    """

    def ring(number: int, frame: Any) -> None:
        raise TimeoutError(f"more than {seconds} s")

    with alarm(seconds, ring, signal.ITIMER_PROF), alarm(30 * seconds, ring):
        yield


def test_a_limit_within_another_leaves_that_one_as_it_was() -> None:
    usual = signal.getsignal(signal.SIGALRM)
    with alarm(100, signal.default_int_handler):
        with at_most(1):
            assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= 30
        assert 30 < signal.getitimer(signal.ITIMER_REAL)[0] <= 100
        assert signal.getsignal(signal.SIGALRM) is signal.default_int_handler
    assert signal.getsignal(signal.SIGALRM) is usual


@dataclass(frozen=True)
class Format:
    """A file of a run, how it is changed, whether its manifest is made right again, and what reads it."""

    file: str
    mutate: Callable[[bytes, Random], bytes]
    read: Callable[[Path], object]
    sealed: bool = False


@cache
def learner(run: Path) -> tuple[GPT, list[Optimizer]]:
    """What the state of a run is put into, again and again."""
    config = toml.load(run)
    model = make_model(config)
    return model, make_optimizers(model, config.train)


def opened(run: Path) -> None:
    restore(checkpoint_folder(run, 8), *learner(run))


def either(content: bytes, draw: Random) -> bytes:
    return (mutated_json if draw.random() < 0.6 else mutated_bytes)(content, draw)


def manifest(run: Path) -> None:
    verify(checkpoint_folder(run, 8))


def facts(run: Path) -> None:
    Standing.of(read_facts(checkpoint_folder(run, 8)))


CHECKPOINT = "checkpoints/step-8/"
FORMATS = {
    "safetensors": Format("model.safetensors", mutated_header, load_model),
    "safetensors, bytes": Format("model.safetensors", mutated_bytes, load_model),
    "config.json": Format("config.json", either, load_model),
    "tokenizer.json": Format("tokenizer.json", either, load_tokenizer),
    "manifest": Format(CHECKPOINT + "manifest.json", either, manifest),
    "facts": Format(CHECKPOINT + "training.json", either, facts, sealed=True),
    "state": Format(CHECKPOINT + "state.safetensors", mutated_header, opened, sealed=True),
    "GGUF": Format("model.gguf", mutated_bytes, lambda run: load_gguf(run / "model.gguf")),
    "octavo.toml": Format("octavo.toml", mutated_bytes, toml.load),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mutations")
    (folder / "text.txt").write_text(sentences(100))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("OCTAVO_HOME", str(folder / "home"))
        asked = Asked(steps=8, layers=1, heads=1, width=8, context=8, batch=2, eval_every=8)
        list(training.begin(["text.txt"], asked, out=folder / "run").events())
    model, _ = load(folder / "run")
    learned = BPETokenizer.train(sentences(100), vocab_size=300)
    save_gguf(imitation(model, learned.vocab_size), learned, folder / "run" / "model.gguf")
    return folder / "run"


def imitation(model: GPT, vocab_size: int) -> GPT:
    """A model of the same shape with so many tokens."""
    return GPT(replace(model.config, vocab_size=vocab_size))


@pytest.mark.parametrize("times", sweep("mutations", shares=9))
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.timeout(36_000)
def test_a_changed_file_is_read_or_refused_in_one_line(name: str, times: int, run: Path, tmp_path: Path) -> None:
    kind, draw = FORMATS[name], Random(name)
    victim = tmp_path / "run"
    shutil.copytree(run, victim)
    content = (run / kind.file).read_bytes()
    refused, before = 0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(times):
        changed = kind.mutate(content, draw)
        (victim / kind.file).write_bytes(changed)
        if kind.sealed:
            seal(victim / CHECKPOINT)
        try:
            with at_most(1):
                kind.read(victim)
        except OctavoError as error:
            said = str(error)
            assert "\n" not in said and len(said) < 1000, said[:300]
            refused += 1
        except (TimeoutError, Exception) as error:
            pytest.fail(f"{type(error).__name__}: {error}; of {changed[:300]!r}")
    assert refused > times / 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024


WATCHED = """
import sys
import torch
UNPICKLED = []
sys.addaudithook(lambda event, args: UNPICKLED.append(args) if event == "pickle.find_class" else None)
import pickle
pickle.loads(pickle.dumps(sys.addaudithook))
assert UNPICKLED, "the hook does not hear"
UNPICKLED.clear()
from octavo.__main__ import main
for words in (
    ["train", "text.txt", *"--steps 4 --layers 1 --heads 1 --width 8 --context 8 --batch 2 --out run --quiet".split()],
    ["train", "--resume", "run", "--steps", "6", "--quiet"],
    ["generate", "run", "Ada", "--max-new-tokens", "4"],
):
    try:
        sys.argv = ["octavo", *words]
        status = main()
    except SystemExit as stopped:
        status = stopped.code
    assert not status, status
print("unpickled:", UNPICKLED)
"""


def test_nothing_is_unpickled_while_octavo_trains_goes_on_and_writes(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(sentences(100))
    environment = {**os.environ, "OCTAVO_HOME": str(tmp_path / "home")}
    words = [sys.executable, "-c", WATCHED]
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.endswith("unpickled: []\n"), done.stderr[-2000:]


PICKLING = "|".join(
    [
        r"^ *(import|from) .*\b_?pickle\b",
        r"(['\"])_?pickle\2",
        r"^ *from torch\b.* import .*\b(load|save)\b",
        r"\btorch\.(serialization\.)?(load|save)\(",
        r"(?<![.\w])(eval|exec)\(",
        r"marshal|\bshelve\b|\b(np|numpy)\.load\(",
    ]
)


def is_pickle(content: bytes) -> bool:
    """Whether a pickle begins there, of whatever protocol."""
    try:
        return bool(list(pickletools.genops(content)))
    except ValueError:
        return False


def test_nothing_is_written_as_a_pickle(run: Path) -> None:
    """No part of octavo names what pickles, and no file of a run is one."""
    for path in Path(training.__file__).parent.rglob("*.py"):
        assert not re.search(PICKLING, path.read_text(), re.MULTILINE), path
    assert all(is_pickle(pickle.dumps({"a": [1]}, protocol)) for protocol in range(pickle.HIGHEST_PROTOCOL + 1))
    for path in (path for path in run.rglob("*") if path.is_file()):
        content = path.read_bytes()
        assert not is_pickle(content) and not content.startswith(b"PK"), path


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "    import json, pickle as p",
        "from pickle import dumps",
        "from _pickle import loads",
        "p = import_module('pickle')",
        "torch.save(model, path)",
        "from torch import nn, load",
        "from torch.serialization import save",
        "np.load(path)",
    ],
)
def test_what_pickles_is_known_by_its_line(line: str) -> None:
    assert re.search(PICKLING, f"import os\n{line}\n", re.MULTILINE)
