"""What only a GPU can tell: `make test-gpu`."""

import queue
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from octavo import training
from octavo.config import Asked, ModelConfig, RunConfig, TrainConfig
from octavo.errors import SamplingError
from octavo.events import Event, Note, Stepped
from octavo.fused import fused
from octavo.generation import generate
from octavo.loss import IGNORED, cross_entropy, cross_entropy_in_pieces
from octavo.making import make_model, prepare_to_learn
from octavo.model import GPT
from octavo.optim import make_optimizers
from octavo.parallel import Spread
from octavo.probing import step_memory
from octavo.repeating import Repeated
from octavo.sampling import Sampling
from octavo.server.engine.engine import Engine
from octavo.server.engine.sequence import Request, Said
from octavo.step import evaluate, training_step
from octavo.tokenizers import SimpleTokenizer
from octavo.trainer import Trainer
from several import Nursery
from several import learned as learned_by
from test_trainer import assert_same_state, state, until, whole

if not torch.cuda.is_available():
    pytest.skip("there is no GPU, or it is not for these tests: see make test-gpu", allow_module_level=True)

pytestmark = [
    pytest.mark.timeout(300),
    # PyTorch's compiler causes it and keeps it from being shown; as an error it would end the compiling
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf"),
]
TINY: dict[str, Any] = {"vocab_size": 101, "context": 64, "layers": 2, "heads": 2, "width": 64}
SHAPES = {
    "gpt2": ModelConfig(**TINY),
    "modern": ModelConfig(**TINY, dialect="modern", tied=False),
    "grouped": ModelConfig(**TINY | {"heads": 4}, kv_heads=2, dialect="modern"),
}
COMPILED = TrainConfig(steps=12, batch=8, eval_every=4, device="cuda", dtype="bfloat16", compile=True)
shapes = pytest.mark.parametrize("shape", SHAPES)
TEXT = "the quick brown fox jumps over the lazy dog, and then over the next one, while nobody is looking. "
PROMPTS = [[1, 2, 3], [5], list(range(40))]


@pytest.fixture(autouse=True)
def compiling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where there is no Triton, for a GPU that is emulated."""
    monkeypatch.setattr("octavo.shapes.compiles", lambda device: device == "cuda")


@pytest.fixture(autouse=True)
def put_back() -> Iterator[None]:
    precision = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(precision)
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()


def drawn(shape: str, dtype: torch.dtype = torch.float32, context: int = 64) -> GPT:
    """A model with no weight at zero or one."""
    torch.manual_seed(0)
    model = GPT(replace(SHAPES[shape], context=context)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(1.0 if weight.dim() == 1 else 0.0, 0.2)
    return model.to("cuda", dtype)


def learned(device: str, shape: str, dtype: Any, *, compiled: bool, recompute: bool = False) -> list[float]:
    """The losses of some steps and of an evaluation, as a training takes them."""
    train = TrainConfig(
        steps=6,
        batch=8,
        optimizer="adamw" if shape == "gpt2" else "muon",
        dtype=dtype,
        device=device,
        compile=compiled,
        recompute=recompute,
    )
    config = RunConfig(model=SHAPES[shape], train=train)
    model = prepare_to_learn(make_model(config), config)
    optimizers = make_optimizers(model, train)
    tokens = torch.randint(101, (8, 65), generator=torch.Generator().manual_seed(0)).to(device)
    pieces = [(tokens[:4, :-1], tokens[:4, 1:]), (tokens[4:, :-1], tokens[4:, 1:])]
    precision = getattr(torch, dtype)
    steps = [
        training_step(model, optimizers, pieces, rate=1.0, clip=1.0, dtype=precision, seeds=[0, 1]).loss
        for _ in range(train.steps)
    ]
    return [*steps, evaluate(model, pieces, precision)[0] / 512]


@shapes
@pytest.mark.parametrize(("dtype", "apart"), [("float32", 2e-3), ("bfloat16", 2e-2)])
@pytest.mark.parametrize("how", ["as it is", "compiled", "recomputed"])
def test_learning_comes_to_what_it_does_on_a_cpu(shape: str, dtype: str, apart: float, how: str) -> None:
    expected = learned("cpu", shape, "float32", compiled=False)
    found = learned("cuda", shape, dtype, compiled=how != "as it is", recompute=how == "recomputed")
    assert found == pytest.approx(expected, rel=apart)


@pytest.mark.parametrize("size", [50257, 64 * 700])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_loss_of_a_large_vocabulary_is_the_loss_and_so_are_its_gradients(size: int, dtype: torch.dtype) -> None:
    draw = torch.Generator().manual_seed(0)
    known = torch.randn(2, 1500, 64, generator=draw).to("cuda", dtype).requires_grad_()
    unembed = (0.1 * torch.randn(size, 64, generator=draw)).to("cuda", dtype).requires_grad_()
    targets = torch.randint(size, (2, 1500), generator=draw).cuda()
    targets[1, 7:90] = IGNORED

    def of(loss: Callable[[Tensor, Tensor], Tensor], kind: torch.dtype) -> list[Tensor]:
        given = [part.detach().to(kind).requires_grad_() for part in (known, unembed)]
        surprise = loss(*given) / 3000
        return [surprise, *torch.autograd.grad(surprise, given)]

    found = of(lambda x, w: cross_entropy_in_pieces(x, w, targets), dtype)
    expected = of(lambda x, w: cross_entropy(x @ w.mT, targets), torch.float64)
    for one, other in zip(found, expected, strict=True):
        assert (one - other).norm() < (1e-2 if dtype == torch.bfloat16 else 1e-4) * other.norm()


@pytest.mark.parametrize(
    ("dialect", "asked"),
    [
        ("modern", {}),
        ("modern", {"dtype": "float32"}),
        ("modern", {"recompute": True}),
        ("gpt2", {"optimizer": "adamw", "micro_batches": 4}),
    ],
)
def test_a_step_takes_about_as_much_memory_as_is_told(dialect: Any, asked: dict[str, Any]) -> None:
    model = ModelConfig(vocab_size=512, context=256, layers=4, heads=4, width=256, dialect=dialect)
    words = {"optimizer": "muon", "dtype": "bfloat16", **asked}
    config = RunConfig(model=model, train=TrainConfig(steps=6, batch=8, device="cuda", **words))
    held = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    learner = prepare_to_learn(make_model(config), config)
    spread = Spread(learner, getattr(torch, config.train.dtype))
    repeated = Repeated(spread, make_optimizers(learner, config.train), 1.0)
    tokens = torch.randint(512, (8, 257), device="cuda")
    rows = 8 // config.train.micro_batches
    pieces = [(part[:, :-1].contiguous(), part[:, 1:].contiguous()) for part in tokens.split(rows)]
    for _ in range(config.train.steps):
        repeated.step(pieces, rate=0.1, seeds=[0] * len(pieces))
    took = torch.cuda.max_memory_allocated() - held
    assert 0.8 * took < step_memory(config) < 1.4 * took


def begin(out: str, base: RunConfig | None = None, **asked: Any) -> Trainer:
    Path("text.txt").write_text(TEXT * 40)
    if base is not None:
        return training.begin(["text.txt"], Asked(device="cuda"), out=out, base=base)
    small = {"layers": 2, "heads": 2, "width": 64, "context": 32, "batch": 8, "eval_every": 4, "steps": 12}
    return training.begin(["text.txt"], Asked(device="cuda", **{**small, **asked}), out=out)


@pytest.mark.parametrize(
    "asked",
    [
        {"dialect": "modern", "dropout": 0.1},
        {"dialect": "gpt2", "dropout": 0.1, "dtype": "float32"},
        {"dialect": "gpt2", "tokenizer": "bpe", "vocab_size": 300},
        {"base": RunConfig(model=SHAPES["modern"], train=COMPILED)},
    ],
    ids=["modern", "gpt2 in float32", "pieces", "compiled"],
)
@pytest.mark.usefixtures("workplace")
def test_going_on_comes_to_the_same_bits(asked: dict[str, Any]) -> None:
    one = begin("one", **asked)
    assert one.config.train.compile == ("base" in asked)
    whole(one)
    until(begin("two", **asked), 5)
    whole(training.resume(Path("two"), Asked()))
    assert_same_state(state("one", 12), state("two", 12))


@pytest.mark.usefixtures("workplace")
def test_a_gpu_that_runs_out_of_memory_reads_a_batch_in_pieces() -> None:
    trainer = begin("run", batch=512, context=256, layers=4, width=256, steps=4)
    torch.cuda.set_per_process_memory_fraction(1.5e9 / torch.cuda.get_device_properties(0).total_memory)
    notes = [event.text for event in whole(trainer) if isinstance(event, Note)]
    assert notes and all("cuda ran out of memory: from step" in note for note in notes)


@shapes
def test_writing_is_the_same_as_on_a_cpu(shape: str) -> None:
    """Rows of different lengths, one of which ends early, beyond the context: plain steps and recorded ones."""
    model = drawn(shape)
    found = list(generate(model, PROMPTS, max_new_tokens=100, temperature=0, stop=[7]))
    expected = list(generate(model.cpu(), PROMPTS, max_new_tokens=100, temperature=0, stop=[7]))
    assert [step.tokens for step in found] == [step.tokens for step in expected]
    for one, other in zip(found, expected, strict=True):
        for logprob, other_logprob in zip(one.logprobs, other.logprobs, strict=True):
            assert logprob == (other_logprob and pytest.approx(other_logprob, rel=1e-3))


@shapes
def test_a_seed_draws_the_same_each_time(shape: str) -> None:
    model = drawn(shape, torch.bfloat16)
    knobs: dict[str, Any] = {"max_new_tokens": 50, "temperature": 1.2, "top_p": 0.9, "seed": 4}
    one, other = (list(generate(model, PROMPTS, **knobs)) for _ in range(2))
    assert one == other


@shapes
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_bitwise_text_does_not_depend_on_its_neighbours(shape: str, dtype: torch.dtype) -> None:
    model = drawn(shape, dtype)
    knobs: dict[str, Any] = {"max_new_tokens": 60, "temperature": 0, "bitwise": True}
    with pytest.raises(SamplingError, match="it is a quick copy already; give the model itself"):
        generate(fused(model), PROMPTS, **knobs)
    many = [[(3 * row + place) % 101 for place in range(1 + row)] for row in range(37)]
    together = list(generate(model, many, **knobs))
    for row in (0, 5, 36):
        alone = list(generate(model, [many[row]], **knobs))
        assert [(step.tokens[row], step.logprobs[row]) for step in together] == [
            (step.tokens[0], step.logprobs[0]) for step in alone
        ]


@shapes
@pytest.mark.parametrize("bitwise", [False, True])
@pytest.mark.parametrize("context", [64, 200, 512])
def test_texts_are_served(shape: str, bitwise: bool, context: int) -> None:
    said: queue.Queue[tuple[int, Said]] = queue.Queue()
    requests = [Request(prompt=(1, 2, n), sampling=Sampling(temperature=0), max_new_tokens=20) for n in range(9)]
    tokenizer = SimpleTokenizer("".join(chr(0x4E00 + n) for n in range(99)))
    model = drawn(shape, context=context)
    engine = Engine(model, tokenizer, bitwise=bitwise, blocks=40).start()
    texts: dict[int, list[int]] = {n: [] for n in range(9)}
    try:
        engine.submit(requests, lambda number, news: said.put((number, news)))
        left = len(requests)
        while left:
            number, news = said.get(timeout=60)
            assert news.error is None
            texts[number] += news.tokens
            left -= news.last
    finally:
        engine.stop()
    for number, request in enumerate(requests):
        steps = generate(model, list(request.prompt), max_new_tokens=20, temperature=0, slide=False)
        alone = [step.tokens[0] for step in steps]
        assert texts[number][: len(alone)] == alone[: len(texts[number])]


several_gpus = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one GPU")


@pytest.fixture
def nursery() -> Iterator[Nursery]:
    found = Nursery()
    yield found
    found.close()


@several_gpus
@pytest.mark.usefixtures("workplace")
def test_two_gpus_learn_what_one_learns(nursery: Nursery) -> None:
    cases = [["gpt2", "adamw", 1, 20], ["modern", "muon", 4, 20]]
    ways = ["ddp", "fsdp", "gathered"]
    found = nursery.start(2, "learn", cases=[[*case, way, "cuda"] for case in cases for way in ways])
    alone = [one for case in cases for one in [learned_by(*case, device="cuda")] * len(ways)]
    for one, two in zip(alone, found, strict=True):
        assert two["losses"] == pytest.approx(one["losses"], rel=1e-12)
        assert two["norms"] == pytest.approx(one["norms"], rel=1e-12)
        assert two["losses"][-1] < two["losses"][0]


@several_gpus
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
@pytest.mark.usefixtures("workplace")
def test_what_two_gpus_have_saved_one_goes_on_with(parallel: str, nursery: Nursery) -> None:
    expected = losses_of(whole(begin("whole")))
    asked = {"layers": 2, "heads": 2, "width": 64, "context": 32, "batch": 8, "eval_every": 4, "steps": 12}
    words = {"run": "two", "asked": {"device": "cuda", **asked}, "parallel": parallel}
    found = nursery.start(2, "go_on", **words, stop=6, heard="two")
    found += losses_of(whole(training.resume(Path("two"), Asked())))
    assert found == pytest.approx(expected, rel=1e-2)


def losses_of(events: list[Event]) -> list[float]:
    return [event.train_loss for event in events if isinstance(event, Stepped)]
