"""Another device than the CPU: nothing of a model, of what it reads or of what it remembers is left behind."""

import queue
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor

from octavo import devices, lens, sampling
from octavo.config import ModelConfig, TrainConfig
from octavo.devices import free_on, placed
from octavo.errors import ConfigError
from octavo.generation import generate
from octavo.imagined import imagine
from octavo.model import GPT
from octavo.optim import make_optimizers
from octavo.sampling import Sampling
from octavo.server.engine.engine import Engine
from octavo.server.engine.sequence import Request, Said
from octavo.step import training_step
from octavo.tokenizers import SimpleTokenizer

ELSEWHERE = torch.device("meta")  # computes no numbers, and refuses tensors that are not there
READ: dict[str, Any] = {
    "tolist": lambda tensor: np.zeros(tuple(tensor.shape), float if tensor.is_floating_point() else int).tolist(),
    "item": lambda tensor: 0.0 if tensor.is_floating_point() else 0,
    "__bool__": lambda tensor: True,
    "__float__": lambda tensor: 1.0,
    "__int__": lambda tensor: 1,
}


@pytest.fixture(autouse=True)
def numbers() -> Iterator[None]:
    """What comes back from there are zeros, as there is nothing else to be had."""

    def reading(name: str) -> Any:
        real = getattr(Tensor, name)
        return lambda tensor: READ[name](tensor) if tensor.device == ELSEWHERE else real(tensor)

    with ExitStack() as stack:
        for name in READ:
            stack.enter_context(mock.patch.object(Tensor, name, reading(name)))
        stack.enter_context(mock.patch("torch.optim.adam._device_dtype_check_for_fused"))
        yield


def there(dialect: str, dropout: float = 0.0) -> GPT:
    shape = {"vocab_size": 5, "context": 32, "layers": 2, "heads": 2, "width": 32, "tied": dialect == "gpt2"}
    return imagine(ModelConfig(dialect=dialect, **shape), dropout=dropout).to(ELSEWHERE)  # type: ignore[arg-type]


both = pytest.mark.parametrize("dialect", ["modern", "gpt2"])


def test_this_device_refuses_what_is_not_there() -> None:
    with pytest.raises(RuntimeError):
        torch.zeros(2, device=ELSEWHERE) + torch.zeros(2)


@both
@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_learning_stays_there(dialect: str, optimizer: Any) -> None:
    model = there(dialect, dropout=0.1)
    tokens = torch.zeros(2, 8, dtype=torch.long, device=ELSEWHERE)
    optimizers = make_optimizers(model, TrainConfig(steps=1, batch=2, optimizer=optimizer))
    pieces, dtype = [(tokens, tokens)], torch.bfloat16
    assert training_step(model, optimizers, pieces, rate=1.0, clip=1.0, dtype=dtype, seeds=[0]).used


@both
@pytest.mark.parametrize("knobs", [{"temperature": 0.0}, {"top_p": 0.9, "top_k": 3, "repetition_penalty": 1.1}])
def test_writing_stays_there(dialect: str, knobs: dict[str, Any]) -> None:
    model = there(dialect).eval()
    assert len(list(generate(model, [[1, 2, 3], [4]], max_new_tokens=40, slide=True, **knobs))) == 40
    assert lens.trace(model, [1, 2, 3]).logits.device == ELSEWHERE


@both
@pytest.mark.parametrize("bitwise", [False, True])
def test_serving_stays_there(dialect: str, bitwise: bool) -> None:
    said: queue.Queue[Said] = queue.Queue()
    knobs = {"max_new_tokens": 3, "alternatives": 2, "about_prompt": True}
    requests = [Request(prompt=(1, 2, 3), sampling=Sampling(temperature=t), **knobs) for t in (0.0, 0.8)]
    engine = Engine(there(dialect), SimpleTokenizer("abcd"), bitwise=bitwise, blocks=8).start()
    try:
        engine.submit(requests, lambda number, news: said.put(news))
        heard = [said.get(timeout=30) for _ in range(4)]  # of either text what was said of its beginning, and the end
    finally:
        engine.stop()
    assert [news.error for news in heard] == [None] * 4
    assert sorted(len(news.tokens) for news in heard if news.last) == [3, 3]


@pytest.mark.parametrize(
    ("large", "quick", "asked", "where"),
    [
        (True, True, "auto", "meta"),
        (False, True, "auto", "cpu"),
        (True, False, "auto", "cpu"),
        (False, False, "meta", "meta"),
    ],
)
def test_a_large_model_goes_to_a_gpu_of_itself(
    monkeypatch: pytest.MonkeyPatch, large: bool, quick: bool, asked: str, where: str
) -> None:
    monkeypatch.setattr(devices, "choose_device", lambda asked: "meta")  # as if it were the fastest there is
    monkeypatch.setattr(devices, "LARGE", 1000 if large else 10**9)
    monkeypatch.setattr(devices, "QUICK", {"meta"} if quick else {"cuda"})
    model = GPT(ModelConfig(dialect="modern", vocab_size=5, context=32, layers=1, heads=2, width=32))
    assert placed(model, asked).embed.weight.device.type == where


@pytest.mark.parametrize(("millions", "gone"), [(66, []), (68, ["cuda"])])
def test_a_model_goes_to_a_gpu_of_itself_from_67_million_parameters_on(
    monkeypatch: pytest.MonkeyPatch, millions: int, gone: list[str]
) -> None:
    thin: dict[str, Any] = {"context": 8, "layers": 1, "heads": 1, "head_width": 2, "feed_forward": 1}  # but for words
    model = imagine(ModelConfig(dialect="modern", vocab_size=1000 * millions, width=1000, **thin))
    went: list[str] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(GPT, "to", lambda self, where: went.append(where))
    placed(model)
    assert went == gone


def test_weights_that_do_not_fit_stay_unless_they_were_asked_to_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "choose_device", lambda asked: "meta")
    monkeypatch.setattr(devices, "LARGE", 1)
    monkeypatch.setattr(devices, "QUICK", {"meta"})
    model = GPT(ModelConfig(dialect="modern", vocab_size=5, context=32, layers=1, heads=2, width=32))
    real = GPT.to

    def to(self: GPT, where: str) -> GPT:
        if where == "meta":
            raise torch.OutOfMemoryError
        return real(self, where)

    monkeypatch.setattr(GPT, "to", to)
    assert placed(model).embed.weight.device.type == "cpu"
    with pytest.raises(ConfigError, match="meta has not enough memory for the model's weights; give --device cpu"):
        placed(model, "meta")


def test_what_was_drawn_elsewhere_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a device knows no float64, and the draw is a CPU's."""
    monkeypatch.setattr(sampling, "_choose", lambda *_: torch.zeros(2, dtype=torch.long))
    logits = torch.zeros(2, 5, device=ELSEWHERE)
    assert len(sampling.choose(logits, [Sampling()] * 2, [[], []]).tokens) == 2


def test_what_is_free_is_asked_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (3, 8))
    monkeypatch.setattr(devices, "free_memory", lambda: 5)
    assert (free_on(torch.device("cuda")), free_on(torch.device("cpu"))) == (3, 5)
