"""A tokenizer from a folder, octavo's own or one that Hugging Face wrote: the rules themselves say its kind."""

from contextlib import suppress
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Backend
from tokenizers import models

from octavo.errors import TokenizerError
from octavo.tokenizers.base import END_OF_TEXT, LARGEST_VOCABULARY, Tokenizer
from octavo.tokenizers.bpe import BPETokenizer
from octavo.tokenizers.files import read_object, read_text
from octavo.tokenizers.simple import SimpleTokenizer

NAMES = ("bos_token", "eos_token", "unk_token", "pad_token")


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer whose tokenizer.json lies in this folder.

    Raises `TokenizerError`, one line that names the file, for anything that is not one octavo can use.
    """
    path = Path(folder) / "tokenizer.json"
    backend = _backend(path)
    if isinstance(backend.model, models.BPE):
        tokenizer = BPETokenizer(backend, _settings(Path(folder), backend))
        more = {*tokenizer.more_ends, *_more_ends(Path(folder), tokenizer)}
        tokenizer.more_ends = tuple(sorted(more - {tokenizer.end_of_text}))
        return tokenizer
    if not isinstance(backend.model, models.WordLevel):
        kind = type(backend.model).__name__
        raise TokenizerError(f"{path} is a {kind} tokenizer; octavo reads byte-level BPE and its own WordLevel")
    try:
        return SimpleTokenizer.from_backend(backend)
    except TokenizerError as error:
        raise TokenizerError(f"{path} has {error}") from None


def _backend(path: Path) -> Backend:
    text = read_text(path)
    rules = read_object(text, path)
    model = rules.get("model")
    if isinstance(model, dict) and model.get("continuing_subword_prefix"):
        raise TokenizerError(f"{path} marks the insides of words, as BERT does; octavo reads byte-level BPE")
    try:
        backend = Backend.from_str(text)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of the library is no Exception
        reason = str(error).split("\n")[0]
        raise TokenizerError(f"{path} is not a tokenizer ({reason}); fetch or write it again") from None
    _check_ids(backend, path)
    return backend


def _check_ids(backend: Backend, path: Path) -> None:
    owners: dict[int, str] = {}
    for token, position in backend.get_vocab().items():
        if position in owners:
            twins = " and ".join(map(repr, sorted([owners[position], token])))
            raise TokenizerError(f"{path} gives id {position} to both {twins}; fetch or write it again")
        if position >= LARGEST_VOCABULARY:
            raise TokenizerError(f"{path} has an id {position}; octavo goes up to {LARGEST_VOCABULARY - 1}")
        owners[position] = token
    if not owners:
        raise TokenizerError(f"{path} has no tokens; fetch or write it again")


def _settings(folder: Path, backend: Backend) -> dict[str, Any]:
    """What tokenizer_config.json says that is worth keeping: names of special tokens, chat template, context."""
    path = folder / "tokenizer_config.json"
    given = read_object(read_text(path), path) if path.exists() else {}
    settings = {name: _name(given[name], name, path) for name in NAMES if given.get(name) is not None}
    for name, token in settings.items():
        if backend.token_to_id(token) is None:
            raise TokenizerError(f"{path} names {name} {token!r}, which tokenizer.json does not have; fetch both again")
    if backend.token_to_id(END_OF_TEXT) is not None:
        settings.setdefault("eos_token", END_OF_TEXT)  # GPT-2's own folder leaves it to its class
    return {**settings, **_kept(given, folder)}


def _more_ends(folder: Path, tokenizer: Tokenizer) -> tuple[int, ...]:
    """Ids that generation_config.json alone names as ends, such as that of Llama 3's turns; none if it is unsound."""
    path, told = folder / "generation_config.json", None
    if path.exists():
        with suppress(TokenizerError):
            told = read_object(read_text(path), path).get("eos_token_id")
    ids = told if isinstance(told, list) else [told]
    known = {one for one in ids if type(one) is int and 0 <= one < tokenizer.vocab_size}
    return tuple(sorted(known - {tokenizer.end_of_text}))


def _name(value: Any, name: str, path: Path) -> str:
    token = value.get("content") if isinstance(value, dict) else value
    if not isinstance(token, str):
        raise TokenizerError(f"{path} has a {name} that is no text: {value!r:.80}; give the token as it is written")
    return token


def _kept(given: dict[str, Any], folder: Path) -> dict[str, Any]:
    kept = {name: given[name] for name in ("model_max_length",) if given.get(name) is not None}
    file = folder / "chat_template.jinja"
    template = read_text(file) if file.exists() else _template(given.get("chat_template"))
    return kept if template is None else {**kept, "chat_template": template}


def _template(given: Any) -> str | None:
    """A model's chat template; of several with names, the one that transformers takes unasked."""
    named = given if isinstance(given, list) else [{"name": "default", "template": given}]
    usual = [entry.get("template") for entry in named if isinstance(entry, dict) and entry.get("name") == "default"]
    return usual[0] if usual and isinstance(usual[0], str) else None
