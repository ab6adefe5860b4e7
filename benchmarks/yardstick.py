"""The yardstick: transformers' GPT-2 in a plain PyTorch loop, by the published recipe for a character-level GPT.

4 layers, 4 heads, width 128, context 64, batch 12, 2,000 steps of AdamW (peak 1e-3 to 1e-4 by cosine, 100 steps of
warm-up, betas 0.9 and 0.99, weight decay 0.1 for matrices, gradients clipped to length 1), no dropout, eager float32.
It is spared what a person would want besides: it neither evaluates on the way, nor samples, nor saves.

    python benchmarks/yardstick.py TEXT RESULT

writes one JSON object: the loss on the last tenth of the text, the seconds the loop took, and its losses on the way.
"""

import json
import math
import sys
import time
from pathlib import Path

import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

CONTEXT, BATCH, STEPS, WARMUP = 64, 12, 2000, 100
PEAK, LEAST = 1e-3, 1e-4


def rate(step: int) -> float:
    """The learning rate of a step: up in a line, then down half a cosine."""
    if step < WARMUP:
        return PEAK * (step + 1) / (WARMUP + 1)
    return LEAST + (PEAK - LEAST) * (1 + math.cos(math.pi * (step - WARMUP) / (STEPS - WARMUP))) / 2


def make_model(vocabulary: int) -> GPT2LMHeadModel:
    """GPT-2 as small as the recipe wants it."""
    none = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=vocabulary, n_positions=CONTEXT, n_layer=4, n_head=4, n_embd=128, **none)
    )


def make_optimizer(model: GPT2LMHeadModel) -> torch.optim.Optimizer:
    """AdamW in its fused form; matrices decay, vectors do not."""
    matrices = [weight for weight in model.parameters() if weight.dim() >= 2]
    vectors = [weight for weight in model.parameters() if weight.dim() < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=PEAK, betas=(0.9, 0.99), fused=True)


def learn(model: GPT2LMHeadModel, text: Tensor) -> list[tuple[float, float]]:
    """All steps of the recipe, each on twelve random windows; when each was done, and its loss."""
    begin, way = time.perf_counter(), []
    optimizer, generator = make_optimizer(model), torch.Generator().manual_seed(1)
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = rate(step)
        starts = torch.randint(len(text) - CONTEXT, (BATCH,), generator=generator)
        window = text[starts[:, None] + torch.arange(CONTEXT + 1)]
        logits = model(window[:, :-1]).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), window[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        way.append((time.perf_counter() - begin, loss.item()))
    return way


@torch.inference_mode()
def held_out_loss(model: GPT2LMHeadModel, text: Tensor) -> float:
    """Nats a character: every one predicted once, in windows of the model's context that do not overlap."""
    nats = 0.0
    whole = (len(text) - 1) // CONTEXT * CONTEXT
    pairs = [(text[:whole].view(-1, CONTEXT), text[1 : whole + 1].view(-1, CONTEXT))]
    pairs.append((text[whole:-1].view(1, -1), text[whole + 1 :].view(1, -1)))
    for tokens, targets in pairs:
        for rows, wanted in zip(tokens.split(256), targets.split(256), strict=True):
            if wanted.numel():
                logits = model(rows).logits.flatten(0, 1)
                nats += torch.nn.functional.cross_entropy(logits, wanted.flatten(), reduction="sum").item()
    return nats / (len(text) - 1)


def main() -> None:
    """Learn from the first nine tenths of a text, and say how well its last tenth is predicted."""
    characters = Path(sys.argv[1]).read_text(encoding="utf-8")
    numbers = {character: index for index, character in enumerate(sorted(set(characters)))}
    text = torch.tensor([numbers[character] for character in characters])
    cut = len(text) * 9 // 10
    torch.manual_seed(1)
    model = make_model(len(numbers))
    way = learn(model, text[:cut])
    result = {"loss": held_out_loss(model.eval(), text[cut:]), "seconds": way[-1][0], "way": way}
    Path(sys.argv[2]).write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main()
