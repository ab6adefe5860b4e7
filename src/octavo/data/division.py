"""A text and how it is divided: into a part for training, one for validation and one for the test."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any

from octavo.config import DataConfig
from octavo.data.lots import Lots
from octavo.data.sources import Document, Sources
from octavo.data.survey import Piece, Reader, Survey
from octavo.data.vocabulary import fingerprint
from octavo.errors import TextError

TOO_SHORT = 100  # characters: five percent of less are not worth holding out


@dataclass(frozen=True)
class Text:
    """Everything that is read, the validation file too where there is one, and how it is divided.

    Its parts begin at the characters `cuts`, or are drawn by lot.
    """

    sources: tuple[Sources, ...]
    survey: Survey
    cuts: tuple[int, ...]
    lots: Lots | None = None

    def documents(self) -> Iterator[Document]:
        """All documents, read anew."""
        return chain.from_iterable(sources.documents() for sources in self.sources)

    def read(self) -> Reader:
        """Who reads them and knows which part each piece is for."""
        return Reader(self.documents(), self.cuts)

    def training(self) -> Iterator[Piece]:
        """What is for training; all is read, and when it has been, `TextError` says whether it is another text."""
        reader = self.read()
        yield from (piece for piece in reader if piece.part == 0) if self.lots is None else self.lots.training(reader)
        self.check(reader.survey())

    def check(self, found: Survey) -> None:
        """Raise `TextError` where what was read just now is not what was surveyed."""
        if found != self.survey:
            raise TextError(f"{self.sources[0].name} changed while it was read; begin again when it is at rest")

    @property
    def division(self) -> dict[str, Any]:
        """What tells one way of dividing a text from another."""
        return {"cuts": self.cuts} if self.lots is None else {"lots": asdict(self.lots)}

    @property
    def learned(self) -> float:
        """About which share of the text is for training."""
        if self.lots is not None:
            return self.lots.val / self.lots.documents
        return self.cuts[0] / max(1, self.survey.characters)

    @property
    def conversations(self) -> str:
        """What comes of the conversations in it."""
        held_out = self.lots is None and self.survey.spoken_from >= self.cuts[0]
        comes = "all held out, there is none to learn to answer from" if held_out else "the model learns to answer"
        return f"{self.survey.conversations:,} conversations in the whole text: {comes}"

    @property
    def vocabulary(self) -> str:
        """What the vocabulary of the training part is known by."""
        first = self.cuts[0] if self.lots is None else ["lots", self.lots.drawn, self.lots.val]
        return fingerprint(self.survey.sha256, first)


def divided(data: DataConfig, both: tuple[Sources, ...], first: Survey, survey: Survey) -> list[Text]:
    """The text in parts; where that leaves too little to learn from, the next way is tried."""
    if data.shuffle is not None:
        return [Text(both, survey, (), Lots.of(first.documents, survey.documents, data.split))]
    return [Text(both, survey, cuts) for cuts in _cuts(data, first.characters, survey.characters)]


def _cuts(data: DataConfig, characters: int, all_characters: int) -> list[tuple[int, int]]:
    """Where validation and test begin, in characters; where that leaves too little, the next pair is tried."""
    if data.val is not None:
        return [(characters, all_characters)]
    if data.split is not None:
        return [(int(data.split * characters), characters)]
    whole = (characters, characters)
    return [whole] if characters < TOO_SHORT else [(int(0.9 * characters), int(0.95 * characters)), whole]
