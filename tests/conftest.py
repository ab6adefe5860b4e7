"""Before anything of octavo is imported: shapes in annotations are checked, and nothing asks the network."""

import os
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from random import Random
from typing import Any

import jaxtyping
import pytest
import torch

from texts import sentences
from warm import Warm

collect_ignore = ["emulated_gpu"]  # no tests: `make test-emulated-gpu` runs those for a GPU by it
ON_A_GPU = "OCTAVO_TEST_GPU" in os.environ  # `make test-gpu`; all other tests mean a CPU, on any machine
if not ON_A_GPU:
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
CHECKED = [
    f"octavo.{name}"
    for name in (
        "model",
        "cache",
        "loss",
        "objective",
        "optim",
        "step",
        "sampling",
        "fused",
        "generation",
        "products",
        "reading",
        "slots",
    )
]
with nullcontext() if ON_A_GPU else jaxtyping.install_import_hook(CHECKED, "beartype.beartype"):  # none is compiled
    for name in CHECKED:
        import_module(name)
    from octavo import evaluation
    from octavo.config import ModelConfig, RopeScaling
    from octavo.model import GPT

os.environ["HF_HUB_OFFLINE"] = "1"  # read by transformers when a test imports it
os.environ["TRANSFORMERS_VERBOSITY"] = "error"
torch.set_num_threads(1)  # tests run side by side, one per core
evaluation.SAMPLE_TOKENS = 8  # of what a model writes while it learns

TINY = {
    "gpt2": ModelConfig(vocab_size=23, context=16, layers=2, heads=4, width=16),
    "gpt2-untied": ModelConfig(vocab_size=23, context=16, layers=2, heads=2, width=16, tied=False),
    "llama": ModelConfig(
        dialect="modern", vocab_size=23, context=16, layers=2, heads=4, kv_heads=1, width=16, qk_norm=False, tied=False
    ),
    "qwen3": ModelConfig(
        dialect="modern", vocab_size=23, context=16, layers=2, heads=6, kv_heads=2, head_width=6, width=16
    ),
}


def random_model(
    config: ModelConfig, *, deviation: float = 0.2, dtype: torch.dtype = torch.float64, seed: int = 0
) -> GPT:
    """A model with no weight at zero or one, so that no part of it is silent."""
    torch.manual_seed(seed)
    model = GPT(config).to(dtype).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(1.0 if weight.dim() == 1 else 0.0, deviation)
    return model


@pytest.fixture(name="random_model", scope="session")
def random_model_fixture() -> Callable[..., GPT]:
    return random_model


def drawn_config(kind: str, seed: int) -> ModelConfig:
    """A small model of a random shape: 1:1, 1:3 or 1:H heads, and head widths that are not width / heads."""
    random = Random(f"{kind}{seed}")
    shape: dict[str, Any] = {
        "vocab_size": random.randint(5, 40),
        "context": random.randint(4, 24),
        "layers": random.randint(1, 3),
        "feed_forward": random.randint(5, 40),
        "norm_epsilon": random.choice([1e-6, 1e-5, 1e-3]),
        "tied": random.random() < 0.5,
    }
    if kind == "gpt2":
        heads = random.choice([1, 2, 3, 4])
        return ModelConfig(**shape, heads=heads, width=heads * random.choice([4, 5, 8]))
    heads, kv_heads = [(3, 3), (6, 2), (4, 1), (2, 2), (1, 1)][seed % 5]
    width = heads * random.choice([4, 5, 8]) + (random.randint(0, 3) if kind == "qwen3" else 0)
    scaling = RopeScaling(factor=8.0, low_frequency_factor=1.0, high_frequency_factor=4.0, original_context=8)
    return ModelConfig(
        **shape,
        dialect="modern",
        heads=heads,
        kv_heads=kv_heads,
        width=width,
        head_width=random.choice([4, 6, 10]),
        qk_norm=kind == "qwen3",
        rope_base=random.choice([100.0, 10000.0, 500000.0]),
        rope_scaling=scaling if seed % 2 else None,
    )


@pytest.fixture(name="drawn_config", scope="session")
def drawn_config_fixture() -> Callable[[str, int], ModelConfig]:
    return drawn_config


@pytest.fixture(scope="session")
def tiny() -> dict[str, ModelConfig]:
    """The same configs at once, for tests that draw their own examples."""
    return TINY


@pytest.fixture(params=TINY)
def config(request: pytest.FixtureRequest) -> ModelConfig:
    """Every dialect and layout in turn, too small to take time."""
    return TINY[request.param]


@pytest.fixture
def model(config: ModelConfig) -> GPT:
    """In float64, where no tolerance can hide a bug."""
    return random_model(config)


@pytest.fixture
def tokens(config: ModelConfig) -> torch.Tensor:
    """Three rows that fill the context."""
    return torch.randint(config.vocab_size, (3, config.context), generator=torch.Generator().manual_seed(1))


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Shapes in annotations are not checked, which takes more time than a small model does.

    That is for tests of what trainings write, whose every part is checked elsewhere; and for ONNX, in whose programs
    shapes stand for any number and are none.
    """
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Where a run may be written."""
    return tmp_path / "run"


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to train in, with a text and a home of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OCTAVO_HOME", str(tmp_path / "home"))
    (tmp_path / "text.txt").write_text(sentences(200))
    return tmp_path


@pytest.fixture(scope="module")
def running() -> Iterator[Any]:
    """A service of two small models, for all tests of a file."""
    from test_server import Rules, Running

    service = Running(Rules())
    yield service
    service.stop()


@pytest.fixture(scope="session")
def warm_process() -> Iterator[Warm]:
    warm = Warm()
    yield warm
    warm.close()


@pytest.fixture
def warm(warm_process: Warm) -> Iterator[Warm]:
    """What begins a process of its own in a twentieth second."""
    yield warm_process
    warm_process.end()


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a command line and gives its exit status, standard output and standard error."""

    from octavo.cli import run

    def call(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = run(words)
        output, errors = capsys.readouterr()
        return status, output, errors

    return call
