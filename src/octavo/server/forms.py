"""The two kinds of answers: a text that was completed, and a turn in a conversation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from octavo.server.engine.sequence import Alternatives, Said
from octavo.server.models import Served
from octavo.server.writing import Told


@dataclass(frozen=True)
class CompletionForm:
    """What /v1/completions answers."""

    served: Served
    prompts: tuple[tuple[str, tuple[int, ...]], ...]  # of each choice, as text and as ids
    echo: bool
    logprobs: bool
    ids: bool = False
    names: tuple[str, str, str] = ("cmpl", "text_completion", "text_completion")

    def choice(self, told: Told, number: int) -> dict[str, Any]:
        """A whole text, behind its prompt where that is to be repeated."""
        prompt, ids = self.prompts[number]
        before = prompt if self.echo else ""
        table = self._table(told.tokens, told.logprobs, told.alternatives, [len(before) + at for at in told.places])
        if table is not None and self.echo:
            table = joined(self._prompt_table(prompt, ids, told.about_prompt), table)
        named = {"prompt_token_ids": list(ids), "token_ids": told.tokens} if self.ids else {}
        return choice(number, told.finish_reason, table, text=before + told.text, **named)

    def opening(self, number: int) -> dict[str, Any] | None:
        """The prompt, where it is to be repeated and nothing is told of it, and its ids where those are asked for."""
        prompt, ids = self.prompts[number]
        repeated = self.echo and not self.logprobs
        if not repeated and not self.ids:
            return None
        named = {"prompt_token_ids": list(ids), "token_ids": []} if self.ids else {}
        return choice(number, None, None, text=prompt if repeated else "", **named)

    def piece(self, said: Said, number: int) -> dict[str, Any]:
        """A piece of a stream."""
        table = self._table(said.tokens, said.logprobs, said.alternatives, said.places)
        named = {"token_ids": list(said.tokens)} if self.ids else {}
        return choice(number, said.finish_reason, table, text=said.text, **named)

    def _table(
        self,
        tokens: Sequence[int],
        logprobs: Sequence[float],
        alternatives: Sequence[Alternatives],
        places: Sequence[int],
    ) -> dict[str, Any] | None:
        if not self.logprobs:
            return None
        rows = zip(alternatives, zip(tokens, logprobs, strict=True), strict=True)
        table = {
            "tokens": [self.served.spelled(token) for token in tokens],
            "token_logprobs": list(logprobs),
            "top_logprobs": [self._best((*others, own)) for others, own in rows],
            "text_offset": list(places),
        }
        return table | ({"top_tokens": [self._named(row) for row in alternatives]} if self.ids else {})

    def _best(self, row: Alternatives) -> dict[str, float]:
        """Alternatives and the token that was chosen, by their spelling: of those spelled alike the likeliest."""
        best: dict[str, float] = {}
        for token, logprob in row:
            best.setdefault(self.served.spelled(token), logprob)
        return best

    def _named(self, row: Alternatives) -> list[dict[str, Any]]:
        """Alternatives by their ids, for several may be spelled alike."""
        return [{"id": token, "token": self.served.spelled(token), "logprob": logprob} for token, logprob in row]

    def _prompt_table(self, prompt: str, ids: tuple[int, ...], said: list[Said]) -> dict[str, Any]:
        """Of the first token of a text nobody can say how likely it was."""
        logprobs = [0.0, *(logprob for part in said for logprob in part.logprobs)]
        alternatives = [(), *(row for part in said for row in part.alternatives)]
        table = self._table(ids, logprobs, alternatives, self.served.places(prompt, ids))
        assert table is not None
        table["token_logprobs"][0] = table["top_logprobs"][0] = None
        return table


@dataclass(frozen=True)
class ChatForm:
    """What /v1/chat/completions answers."""

    served: Served
    logprobs: bool
    names: tuple[str, str, str] = ("chatcmpl", "chat.completion", "chat.completion.chunk")

    def choice(self, told: Told, number: int) -> dict[str, Any]:
        """A whole turn."""
        message = {"role": "assistant", "content": told.text, "refusal": None}
        rows = self._content(told)
        return choice(number, told.finish_reason, rows, message=message)

    def opening(self, number: int) -> dict[str, Any] | None:
        """Who is speaking."""
        return choice(number, None, None, delta={"role": "assistant", "content": ""})

    def piece(self, said: Said, number: int) -> dict[str, Any]:
        """A piece of a stream."""
        rows = self._content(said)
        return choice(number, said.finish_reason, rows, delta={"content": said.text} if said.text else {})

    def _content(self, told: Told | Said) -> dict[str, Any] | None:
        return {"content": self.rows(told), "refusal": None} if self.logprobs else None

    def rows(self, told: Told | Said) -> list[dict[str, Any]]:
        """What is told of each token; nothing where nobody wants it."""
        found = zip(told.tokens, told.logprobs, told.alternatives, strict=True) if self.logprobs else ()
        return [
            {**self._row(token, logprob), "top_logprobs": [self._row(*other) for other in others]}
            for token, logprob, others in found
        ]

    def _row(self, token: int, logprob: float) -> dict[str, Any]:
        return {"token": self.served.spelled(token), "logprob": logprob, "bytes": self.served.spelled_bytes(token)}


def choice(number: int, reason: str | None, logprobs: dict[str, Any] | None, **what: Any) -> dict[str, Any]:
    """One of the texts of an answer."""
    return {"index": number, **what, "logprobs": logprobs, "finish_reason": reason}


def joined(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Two tables of the same columns, one below the other."""
    return {name: [*column, *other.get(name, [])] for name, column in one.items()}
