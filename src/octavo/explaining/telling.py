"""A pass told step by step: title, equation, shapes, line of code, numbers."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from octavo import sampling
from octavo.explaining.passing import Pass, apart, by_hand, furthest
from octavo.explaining.step import Numbers, Step, line_of
from octavo.model import GPT, FeedForward, GPTBlock, MultiHeadAttention, SelfAttention
from octavo.names import several
from octavo.tokenizers import Tokenizer

SHOWN = 6  # numbers of a vector


class Telling(Pass):
    """What a pass comes to, in words and numbers."""

    def steps(self) -> Iterator[Step]:
        """All of them, in order."""
        yield self.tokenise()
        yield self.embed()
        yield self.norm("norm", self.block.attention_norm, self.trace.stream[self.layer], self.normed, "attention_norm")
        yield self.project()
        if self.turns:
            yield self.turn()
        yield self.score()
        yield self.hide()
        yield self.soften()
        yield self.gather()
        yield self.mix()
        yield self.add(
            "residual", self.trace.stream[self.layer], self.trace.attention[self.layer], self.between, "attention_out"
        )
        yield self.norm("norm", self.block.feed_forward_norm, self.between, self.normed_again, "feed_forward_norm")
        yield self.feed_forward()
        yield self.add("residual", self.between, self.trace.feed_forward[self.layer], self.after, "feed_forward_out")
        yield from self.end()

    def end(self) -> Iterator[Step]:
        """From the last layer to the choice."""
        yield self.others()
        yield self.norm("last norm", self.model.norm, self.trace.stream[-1], self.model.norm(self.trace.stream[-1]), "")
        yield self.unembed()
        yield self.cool()
        yield self.choose()

    def here(self, vectors: Tensor) -> Numbers:
        """The first numbers of the last position's vector."""
        return tuple(vectors[-1, :SHOWN].tolist())

    def vector(self, name: str, vectors: Tensor) -> tuple[str, Numbers]:
        """A row for it."""
        return f"{name}[{self.length - 1}]", self.here(vectors)

    def tokenise(self) -> Step:
        ids = tuple(float(token) for token in self.trace.tokens.tolist())
        source = line_of(Tokenizer.encode, "return self._encoding")
        return Step(
            "tokenise",
            "text → ids",
            f"{several(len(self.text), 'character')} → T = {self.length}",
            source,
            (("ids", ids),),
            self.tokens,
        )

    def embed(self) -> Step:
        x, tokens = self.model.embed(self.trace.tokens), self.trace.stream[0]
        rows = [self.vector("token", x)]
        equation, note = "x = E[token]", "where a token stands is told later, by turning its queries and keys"
        if self.model.positions is not None:
            places = self.model.positions(torch.arange(self.length, device=x.device))
            rows.append(self.vector("position", places))
            x, equation, note = x + places, "x = E[token] + P[position]", ""
        rows.append(self.vector("x", x))
        source = line_of(GPT.enter, "x = self.embed(tokens)")
        shapes = f"T → T C = {self.length} × {self.config.width}"
        return Step("embed", equation, shapes, source, tuple(rows), (), note, apart(x, tokens))

    def norm(self, title: str, norm: nn.Module, x: Tensor, y: Tensor, name: str) -> Step:
        biased = self.config.biased
        equation = "y = (x − mean x) / √(var x + ε) · g + b" if biased else "y = x / √(mean x² + ε) · g"
        known = by_hand(norm, x, self.config.norm_epsilon)
        source = line_of(GPTBlock.forward, f"self.{name}(") if name else line_of(GPT.read, "return self.norm(x)")
        rows = (self.vector("x", x), self.vector("y", y))
        shapes, kind = f"T C → T C = {self.length} × {self.config.width}", "LayerNorm" if biased else "RMSNorm"
        return Step(f"{title} ({kind})", equation, shapes, source, rows, error=apart(known, y))

    def project(self) -> Step:
        q, k, v = self.raw
        rows = (self.vector("q", q), self.vector("k", k), self.vector("v", v))
        shapes = f"T C → T D = {self.length} × {self.config.head_width}, in each of {self.config.heads} heads"
        grouped = self.config.kv_heads != self.config.heads
        note = f"{self.config.kv_heads} keys and values are shared by {self.config.heads} heads" if grouped else ""
        source = line_of(SelfAttention.project, "q, k, v = (part.unflatten")
        pairs = list(zip(self.raw, self.known, strict=True))
        error = furthest(pairs[2:] if self.turns else pairs)  # q and k are held against them when they are turned
        return Step("queries, keys, values", "Q = y W_Q, K = y W_K, V = y W_V", shapes, source, rows, (), note, error)

    def turn(self) -> Step:
        q, k = self.turned
        normed = "norm q and k, then " if self.config.qk_norm else ""
        equation = f"{normed}turn pair i at position t by t · base^(−2i/D)" if self.config.rotary else "norm q and k"
        source = line_of(SelfAttention.project, "rotate(q, rotation)" if self.config.rotary else "self.query_norm(q")
        error = furthest(zip((q, k), self.known[:2], strict=True))
        return Step(
            "positions",
            equation,
            f"T D → T D = {self.length} × {self.config.head_width}",
            source,
            (self.vector("q", q), self.vector("k", k)),
            (),
            "",
            error,
        )

    def score(self) -> Step:
        equation = f"S = Q Kᵀ / √d_k, d_k = {self.config.head_width}"
        return Step(
            "scores",
            equation,
            f"T × T = {self.length} × {self.length}",
            line_of(SelfAttention.explicit, "self.scores(q / math.sqrt"),
            (self.row("S", self.scores),),
            self.tokens,
            error=apart(self.scores, self.own[0]),
        )

    def row(self, name: str, square: Tensor) -> tuple[str, Numbers]:
        """The last position's row of a matrix of positions."""
        return f"{name}[{self.length - 1}]", tuple(square[-1].tolist())

    def hide(self) -> Step:
        last = self.row("S", self.hidden)
        first = ("S[0]", tuple(self.hidden[0].tolist()))
        note = "what comes after a position is hidden from it; the last one sees all"
        return Step(
            "causal mask",
            "S[t, s] = −∞ for s > t",
            f"T × T = {self.length} × {self.length}",
            line_of(SelfAttention.explicit, "masked_fill_(~mask, -math.inf)"),
            (first, last) if self.length > 1 else (last,),
            self.tokens,
            note,
        )

    def soften(self) -> Step:
        error = apart(self.weights, self.own[1])
        return Step(
            "weights",
            "A = softmax(S), eˢ / Σ eˢ in each row",
            f"T × T = {self.length} × {self.length}",
            line_of(SelfAttention.explicit, ".softmax(-1)"),
            (self.row("A", self.weights),),
            self.tokens,
            f"they sum to {self.weights[-1].sum().item():.6f}",
            error,
        )

    def gather(self) -> Step:
        shapes = f"T × T · T D → T D = {self.length} × {self.config.head_width}"
        error = apart(self.heard, self.trace.heads[self.layer][self.head])
        return Step(
            "weighted sum",
            "head = A V",
            shapes,
            line_of(SelfAttention.explicit, "@ v"),
            (self.vector("head", self.heard),),
            (),
            "",
            error,
        )

    def mix(self) -> Step:
        shapes = f"H heads of T D → T C = {self.length} × {self.config.width}"
        bias = " + b" if self.config.biased else ""
        return Step(
            "heads side by side, mixed",
            f"Concat(head₁ … head_H) W_O{bias}",
            shapes,
            line_of(MultiHeadAttention.forward, "self.mix("),
            (self.vector("attention", self.mixed),),
            (),
            "",
            apart(self.mixed, self.trace.attention[self.layer]),
        )

    def add(self, title: str, x: Tensor, more: Tensor, total: Tensor, tap: str) -> Step:
        error = apart(total, self.trace.stream[self.layer + 1]) if tap == "feed_forward_out" else None
        rows = (self.vector("x", x), self.vector("added", more), self.vector("x", total))
        return Step(
            title,
            "x ← x + what was found",
            f"T C = {self.length} × {self.config.width}",
            line_of(GPTBlock.forward, f"self.{tap}("),
            rows,
            (),
            "",
            error,
        )

    def feed_forward(self) -> Step:
        inner, out, equation, words = self._inner()
        shapes = f"T C → T F = {self.length} × {self.config.feed_forward} → T C"
        rows = (self.vector("inner", inner), self.vector("out", out))
        return Step(
            "feed-forward",
            equation,
            shapes,
            line_of(FeedForward.forward, words),
            rows,
            (),
            "",
            apart(out, self.trace.feed_forward[self.layer]),
        )

    def _inner(self) -> tuple[Tensor, Tensor, str, str]:
        part, y = self.block.feed_forward, self.normed_again
        if part.gate is None:
            inner = F.gelu(part.up(y), approximate="tanh")
            return inner, part.down(inner), "GELU(y W₁ + b₁) W₂ + b₂", "F.gelu("
        inner = F.silu(part.gate(y)) * part.up(y)
        return inner, part.down(inner), "(SiLU(y W) ∘ y V) W₂", "F.silu("

    def others(self) -> Step:
        left = self.config.layers - 1 - self.layer
        rows = tuple(
            self.vector(f"layer {index - 1}" if index else "embedding", stream)
            for index, stream in enumerate(self.trace.stream)
        )
        note = f"this was layer {self.layer}; {left} more follow{'s' if left == 1 else ''} it"
        return Step(
            "all layers",
            "x ← block(x), L times",
            f"L = {self.config.layers}",
            line_of(GPT.read, "x = block("),
            rows,
            (),
            note,
        )

    def unembed(self) -> Step:
        logits = self.model.norm(self.trace.stream[-1]) @ self.model.unembed.weight.T
        best = self.trace.logits[-1].topk(min(SHOWN, self.config.vocab_size))
        names = tuple(self.seen.spell(token) for token in best.indices.tolist())
        tied = "W is the embedding itself" if self.config.tied else ""
        return Step(
            "logits",
            "z = y Wᵀ",
            f"T C → T V = {self.length} × {self.config.vocab_size}",
            line_of(GPT.forward, "self.unembed("),
            (("z, the largest", tuple(best.values.tolist())),),
            names,
            tied,
            apart(logits, self.trace.logits),
        )

    def cool(self) -> Step:
        best = self.probabilities.topk(min(SHOWN, self.config.vocab_size))
        names = tuple(self.seen.spell(token) for token in best.indices.tolist())
        equation = "p = 1 for the largest z" if self.chosen.greedy else f"p = softmax(z / {self.chosen.temperature:g})"
        return Step(
            "temperature",
            equation,
            f"V = {self.config.vocab_size}",
            line_of(sampling.draw, "x.softmax(-1).cumsum(-1)"),
            (("p, the largest", tuple(best.values.tolist())),),
            names,
        )

    def choose(self) -> Step:
        history = [self.trace.tokens.tolist()]
        [token] = sampling.choose(self.trace.logits[-1:], [self.chosen], history).tokens
        greedy = self.chosen.greedy
        return Step(
            "the choice",
            "the likeliest token"
            if greedy
            else "the first id whose p, and that of all ids below it, sum to more than u",
            "V → 1",
            line_of(sampling.draw, "torch.searchsorted"),
            (("p", (self.probabilities[token].item(),)),) if greedy else self.falls(token),
            (),
            f"the text goes on with {self.seen.spell(token)!r}, id {token}",
        )

    def falls(self, token: int) -> tuple[tuple[str, Numbers], ...]:
        """The number that was drawn between the two sums that it falls between."""
        below, upto = self.probabilities[:token].sum().item(), self.probabilities[: token + 1].sum().item()
        drawn = sampling.uniform(self.chosen.seed, self.length)
        return (f"p of all ids below {token}", (below,)), ("u", (drawn,)), (f"p of all ids up to {token}", (upto,))
