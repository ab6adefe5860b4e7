"""A model of which no more is in memory than what is being multiplied says what the whole one says."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from weakref import WeakSet

import pytest
import torch
from torch import Tensor

from octavo.agreement import Probe, probed, read_by
from octavo.gguf_file import GgufType, as_read_back, save_gguf
from octavo.gguf_reading import open_gguf
from octavo.model import GPT
from octavo.parts import Parts, parts_of
from octavo.porting import open_parts
from octavo.reckoning import reckoning
from octavo.run import save
from test_gguf import CHARACTERS, RUN

Models = Callable[..., GPT]
TOKENS = torch.arange(40)[None] % 70


class Watched(Mapping[str, Tensor]):
    """Weights made anew for whoever asks, which remember how many there were at a time."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self.weights = weights
        self.alive, self.most = WeakSet[Tensor](), 0

    def __getitem__(self, name: str) -> Tensor:
        weight = self.weights[name].clone()
        self.alive.add(weight)
        self.most = max(self.most, len(self.alive))
        return weight

    def __iter__(self) -> Iterator[str]:
        return iter(self.weights)

    def __len__(self) -> int:
        return len(self.weights)


@pytest.fixture(autouse=True)
def pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """So small that every matrix is made of several."""
    for place in ("reckoning", "gguf_file", "gguf_reading", "run"):
        monkeypatch.setattr(f"octavo.{place}.PIECE", 999)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("kind", RUN)
def test_it_says_in_float32_what_the_whole_model_says(kind: str, dtype: torch.dtype, random_model: Models) -> None:
    model = random_model(RUN[kind], dtype=dtype)
    with reckoning(model.config, model.state_dict()) as reckoned:
        found = reckoned(TOKENS)
    whole = GPT(model.config).eval()
    whole.load_state_dict(model.state_dict())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, whole(TOKENS).detach(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rounding", ["f16", "bf16", "q8_0"])
@pytest.mark.parametrize("kind", ["gpt2", "llama", "qwen3-untied"])
def test_what_is_rounded_on_the_way_says_what_the_file_says(
    kind: str, rounding: GgufType, random_model: Models, tmp_path: Path
) -> None:
    model = random_model(RUN[kind], dtype=torch.float32)
    save_gguf(model, CHARACTERS, tmp_path / "a.gguf", dtype=rounding)
    parts, _ = open_gguf(tmp_path / "a.gguf", exact=True)
    with reckoning(parts.config, parts.weights) as written:
        expected = written(TOKENS)
    with reckoning(model.config, model.state_dict(), lambda name, rows: as_read_back(name, rows, rounding)) as reckoned:
        assert torch.equal(reckoned(TOKENS), expected)


@pytest.mark.parametrize("kind", RUN)
def test_there_is_never_more_than_one_weight_in_memory(kind: str, random_model: Models, tmp_path: Path) -> None:
    whole = parts_of(random_model(RUN[kind], dtype=torch.float32))
    fused = 3 if kind.startswith("gpt2") else 1  # its queries, keys and values are one weight
    for write in (
        lambda parts: save(parts, CHARACTERS, tmp_path / "run"),
        lambda parts: save_gguf(parts, CHARACTERS, tmp_path / "a.gguf", dtype="q8_0" if "wide" not in kind else "f16"),
    ):
        watched = Watched(whole.weights)
        write(Parts(whole.config, watched, whole.dtype))
        assert watched.most <= fused
    watched = Watched(whole.weights)
    with reckoning(whole.config, watched) as model:
        small = len(watched.alive)  # norms and biases
        model(TOKENS)
    assert watched.most <= small + 1


@pytest.mark.parametrize("kind", RUN)
def test_a_model_goes_from_place_to_place_without_being_whole(
    kind: str, random_model: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = random_model(RUN[kind], dtype=torch.bfloat16)
    save(model, CHARACTERS, tmp_path / "a")
    save_gguf(model, CHARACTERS, tmp_path / "a.gguf", dtype="bf16")
    monkeypatch.setattr("octavo.parts.Parts.whole", None)
    for source in ("a", "a.gguf"):
        save(open_parts(tmp_path / source)[0], CHARACTERS, tmp_path / "b")
        assert (tmp_path / "b/model.safetensors").read_bytes() == (tmp_path / "a/model.safetensors").read_bytes()
        save_gguf(open_parts(tmp_path / source, exact=True)[0], CHARACTERS, tmp_path / "b.gguf", dtype="bf16")
        assert (tmp_path / "b.gguf").read_bytes() == (tmp_path / "a.gguf").read_bytes()


def test_a_probe_is_read_at_once_and_told_up_to_the_first_other_token(random_model: Models) -> None:
    model = random_model(RUN["qwen3"], dtype=torch.float32)
    probe = probed(model, CHARACTERS)
    assert len(probe.greedy) == 32 and not set(probe.greedy) & set(probe.never)
    assert read_by(model, probe).greedy == probe.greedy
    other = Probe(probe.prompt, [*probe.greedy[:5], 3, *probe.greedy[6:]], probe.never, probe.logits)
    assert read_by(model, other).greedy == probe.greedy[:6] and probe.greedy[5] != 3
