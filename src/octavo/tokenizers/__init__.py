"""From text to token ids and back: by character, by word, or by pieces of bytes that were learned from a text."""

from octavo.tokenizers.base import END_OF_TEXT, UNKNOWN, Kind, Tokenizer
from octavo.tokenizers.bpe import BPETokenizer
from octavo.tokenizers.loading import load_tokenizer
from octavo.tokenizers.simple import SimpleTokenizer, Unknown
from octavo.tokenizers.streams import TextStream

__all__ = [
    "END_OF_TEXT",
    "UNKNOWN",
    "BPETokenizer",
    "Kind",
    "SimpleTokenizer",
    "TextStream",
    "Tokenizer",
    "Unknown",
    "load_tokenizer",
]
