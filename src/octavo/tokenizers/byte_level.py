"""A tokenizer as a list of byte-level tokens and merges, which is what programs that know byte pairs alone can run."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Backend

from octavo.errors import TokenizerError
from octavo.tokenizers.base import Tokenizer
from octavo.tokenizers.bpe import BYTE_OF, BPETokenizer
from octavo.tokenizers.simple import SPECIAL, SimpleTokenizer
from octavo.tokenizers.turns import TURNS

TokenKind = Literal["normal", "control", "user_defined", "unused"]

CHARACTER_OF = {byte: character for character, byte in BYTE_OF.items()}
NEVER = f"{CHARACTER_OF[0xFF]} {CHARACTER_OF[0xFF]}"  # UTF-8 has no such byte; llama.cpp refuses a file without merges
QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3 = QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
# how a text is cut into words before anything is merged, by the name that llama.cpp has for it
CUTS: dict[tuple[str, ...], str] = {
    ("words",): "gpt-2",
    ("digits", "words"): "smollm",
    (QWEN2, "bytes"): "qwen2",
    (LLAMA3, "bytes"): "llama-bpe",
}
WHOLE_WORDS = {"llama-bpe"}  # cuts with which a word that is a token stays whole, whatever the merges say
NORMAL_FORM = {"qwen2": ("NFC",)}  # not done by llama.cpp, whose files of these models leave it out too


@dataclass(frozen=True, kw_only=True)
class ByteLevel:
    """Tokens by id, each written in GPT-2's characters for bytes unless it is special; merges, the first one first."""

    tokens: tuple[str, ...]
    kinds: tuple[TokenKind, ...]
    merges: tuple[str, ...]
    cut: str


def byte_level(tokenizer: Tokenizer) -> ByteLevel:
    """The same ids for the same texts in other words; a character the vocabulary lacks is left out, not made unknown.

    Raises `TokenizerError` for a vocabulary of words, and for rules that llama.cpp has no name for.

    >>> from octavo.tokenizers import SimpleTokenizer
    >>> found = byte_level(SimpleTokenizer("aé"))
    >>> found.tokens, found.merges
    (('<unk>', '<|endoftext|>', 'a', 'Ã©'), ('Ã ©',))
    """
    if tokenizer.kind == "word":
        raise TokenizerError(
            "a vocabulary of words cannot be written as byte pairs; train with --tokenizer character or bpe"
        )
    if tokenizer.kind == "character":
        return _of_characters(tokenizer)
    return _of_pairs(tokenizer)


def _of_characters(tokenizer: Tokenizer) -> ByteLevel:
    """Bytes are joined to characters from the left: no merge crosses two, for none begins within one."""
    names = _names(tokenizer)
    special = _added(tokenizer)
    tokens = tuple(name if name in special else _written(name) for name in names)
    steps = dict.fromkeys(
        step for name, token in zip(names, tokens, strict=True) if name not in special for step in _steps(token)
    )
    return ByteLevel(tokens=tokens, kinds=_kinds(names, special), merges=tuple(steps) or (NEVER,), cut="gpt-2")


def _of_pairs(tokenizer: Tokenizer) -> ByteLevel:
    rules = json.loads(tokenizer.backend.to_str())
    names = _names(tokenizer)
    merges = tuple(merge if isinstance(merge, str) else " ".join(merge) for merge in rules["model"]["merges"])
    return ByteLevel(tokens=names, kinds=_kinds(names, _added(tokenizer)), merges=merges or (NEVER,), cut=_cut(rules))


def _names(tokenizer: Tokenizer) -> tuple[str, ...]:
    """Every token by id; where somebody else's vocabulary leaves an id out, a name that no text has."""
    known = {position: name for name, position in tokenizer.backend.get_vocab().items()}
    return tuple(known.get(position, unused(position)) for position in range(tokenizer.vocab_size))


def unused(position: int) -> str:
    """The name of an id that no token has."""
    return f"[PAD{position}]"


def _added(tokenizer: Tokenizer) -> dict[str, TokenKind]:
    added = tokenizer.backend.get_added_tokens_decoder().values()
    return {token.content: "control" if token.special else "user_defined" for token in added}


def _kinds(names: Iterable[str], added: dict[str, TokenKind]) -> tuple[TokenKind, ...]:
    return tuple(
        added.get(name, "unused" if name == unused(position) else "normal") for position, name in enumerate(names)
    )


def _written(text: str) -> str:
    return "".join(CHARACTER_OF[byte] for byte in text.encode())


def _steps(token: str) -> Iterator[str]:
    for end in range(1, len(token)):
        yield f"{token[:end]} {token[end]}"


def _cut(rules: dict[str, Any]) -> str:
    model, normalizer = rules["model"], rules["normalizer"]
    decoder = (rules["decoder"] or {}).get("type")
    cut = CUTS.get(tuple(_cutting(rules["pre_tokenizer"])))
    form = (normalizer["type"],) if normalizer else ()
    if (
        cut is None
        or decoder != "ByteLevel"
        or form not in ((), NORMAL_FORM.get(cut))
        or bool(model.get("ignore_merges")) != (cut in WHOLE_WORDS)
    ):
        raise TokenizerError(
            f"the tokenizer cuts words by rules that llama.cpp has no name for; it knows {', '.join(CUTS.values())}, "
            "so take a tokenizer of such a kind"
        )
    return cut


def _cutting(rule: dict[str, Any] | None) -> Iterator[str]:
    """The steps of a pre-tokenizer, each as one word or as its regular expression."""
    match rule:
        case {"type": "Sequence", "pretokenizers": list(parts)}:
            for part in parts:
                yield from _cutting(part)
        case {"type": "ByteLevel", "add_prefix_space": False, "use_regex": bool(regex)}:
            yield "words" if regex else "bytes"
        case {"type": "Digits", "individual_digits": True}:
            yield "digits"
        case {"type": "Split", "pattern": {"Regex": str(pattern)}, "behavior": "Isolated", "invert": False}:
            yield pattern
        case _:
            yield "unknown"


def from_byte_level(found: ByteLevel, *, opening: str | None, settings: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer that these tokens and merges make, the inverse of `byte_level`; `opening` begins every text.

    Octavo's own characters, each a token, are again those. Raises `TokenizerError` for cuts without a name here, for
    tokens that stand twice, and for merges of no tokens.
    """
    for chat in (True, False):
        characters = _characters(found, (*SPECIAL, *TURNS) if chat else SPECIAL)
        if characters is not None:
            return SimpleTokenizer.of_characters(characters, chat=chat)
    cutting = {name: steps for steps, name in CUTS.items()}
    if found.cut not in cutting:
        known = ", ".join(cutting)
        raise TokenizerError(f"the file cuts words as {found.cut!r} does; octavo knows {known}: take another file")
    twins = [token for token, times in Counter(found.tokens).items() if times > 1]
    if twins:
        raise TokenizerError(f"the file has the token {twins[0]!r} twice; take another file")
    vocabulary = {
        token: position
        for position, (token, kind) in enumerate(zip(found.tokens, found.kinds, strict=True))
        if not (kind == "unused" and token == unused(position))
    }
    if not vocabulary or opening not in {None, *vocabulary}:
        missing = repr(opening) if vocabulary else "at all"
        raise TokenizerError(f"the file has no token {missing}; take another file")
    pairs = [merge.partition(" ") for merge in found.merges if merge != NEVER]
    merges = [(left, right) for left, _, right in pairs]
    try:
        backend = Backend(models.BPE(vocabulary, merges, ignore_merges=found.cut in WHOLE_WORDS))
    except Exception as error:  # the library has no narrower type
        raise TokenizerError(f"tokens and merges do not fit together ({error}); take another file") from None
    backend.pre_tokenizer = pre_tokenizers.Sequence([_step(step) for step in cutting[found.cut]])
    backend.decoder = decoders.ByteLevel()
    if found.cut in NORMAL_FORM:
        backend.normalizer = normalizers.NFC()
    added = [
        AddedToken(token, special=kind == "control", normalized=False)
        for token, kind in zip(found.tokens, found.kinds, strict=True)
        if kind in ("control", "user_defined")
    ]
    backend.add_tokens(added)
    if opening is not None:
        pair = (opening, vocabulary[opening])
        backend.post_processor = processors.TemplateProcessing(single=f"{opening} $A", special_tokens=[pair])
    return BPETokenizer(backend, settings)


def _characters(found: ByteLevel, special: tuple[str, ...]) -> list[str] | None:
    """The characters behind these special tokens of what `_of_characters` wrote; `None` for any other vocabulary."""
    kept = [token for position, token in enumerate(found.tokens) if token != unused(position)]
    if tuple(kept[: len(special)]) != special or set(found.kinds[: len(special)]) != {"control"}:
        return None
    texts = [_read(token) for token in kept[len(special) :]]
    characters = [text for text in texts if text is not None and len(text) == 1]
    return characters if len(set(characters)) == len(texts) else None


def _read(token: str) -> str | None:
    try:
        return bytes(BYTE_OF[character] for character in token).decode()
    except (KeyError, UnicodeDecodeError):
        return None


def _step(step: str) -> pre_tokenizers.PreTokenizer:
    match step:
        case "words" | "bytes":
            return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=step == "words")
        case "digits":
            return pre_tokenizers.Digits(individual_digits=True)
    return pre_tokenizers.Split(Regex(step), "isolated")
