"""Other programs that read what octavo writes, asked the same as the model itself; each only where it is installed."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from octavo.agreement import Probe, Reading, read_by
from octavo.porting import open_parts
from octavo.reckoning import reckoning


@dataclass(frozen=True)
class Reader:
    """A program: what it is called, the module that has it, and how it is asked."""

    name: str
    module: str
    read: Callable[[Path, Probe], Reading]

    def there(self) -> bool:
        """Whether it is installed."""
        return find_spec(self.module) is not None


def read_by_octavo(path: Path, probe: Probe) -> Reading:
    """octavo itself, in float32, straight from the file: no more of it is in memory than what is being multiplied."""
    parts, _ = open_parts(path, exact=True)
    with reckoning(parts.config, parts.weights) as model:
        return read_by(model, probe)


def read_by_transformers(path: Path, probe: Probe) -> Reading:
    """transformers, in float32."""
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    with torch.inference_mode():
        logits = model(torch.tensor([probe.tokens])).logits[0]
        prompt = torch.tensor([probe.prompt])
        written = model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=len(probe.greedy),
            do_sample=False,
            suppress_tokens=list(probe.never) or None,
        )
    return Reading(written[0, len(probe.prompt) :].tolist(), logits)


def read_by_llama_cpp(path: Path, probe: Probe) -> Reading:
    """llama.cpp, with a cache and an attention that round nothing which it can keep in float32."""
    import xllamacpp

    words = xllamacpp.CommonParams()
    words.model.path = str(path)
    words.n_ctx, words.n_parallel, words.warmup, words.verbosity = len(probe.tokens) + 8, 1, False, 0
    words.cache_type_k = words.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    words.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    asked: dict[str, Any] = {"prompt": probe.prompt, "n_predict": len(probe.greedy), "temperature": 0, "n_probs": 1}
    asked |= {"cache_prompt": False, "logit_bias": [[token, False] for token in probe.never]}
    answer = xllamacpp.Server(words).handle_completions(asked)
    told = answer["choices"][0]["logprobs"]["content"]
    return Reading([token["id"] for token in told], logprobs=tuple(token["logprob"] for token in told))


def read_by_onnxruntime(path: Path, probe: Probe) -> Reading:
    """onnxruntime on the processor; it remembers nothing, so each greedy token reads the whole text again."""
    import numpy as np

    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read when it is loaded: what it does and where is nobody's business
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def ask(tokens: list[int]) -> np.ndarray:
        return session.run(["logits"], {"tokens": np.array([tokens], np.int64)})[0][0]

    text = list(probe.prompt)
    for _ in probe.greedy:
        last = ask(text)[-1].copy()
        last[list(probe.never)] = -np.inf
        text.append(int(last.argmax()))
    return Reading(text[len(probe.prompt) :], torch.from_numpy(ask(probe.tokens)))


READERS = {
    "hf": Reader("transformers", "transformers", read_by_transformers),
    "gguf": Reader("llama.cpp", "xllamacpp", read_by_llama_cpp),
    "onnx": Reader("onnxruntime", "onnxruntime", read_by_onnxruntime),
}
