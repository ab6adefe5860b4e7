"""A model as an ONNX file, which onnxruntime and whatever is built on it run: tokens in, logits out, any length."""

import logging
import warnings
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from octavo.cache import NoCache, Seen
from octavo.disk import replace_file
from octavo.errors import ConfigError
from octavo.model import GPT
from octavo.scale import parameters

LARGEST = 1_500_000_000  # bytes of weights, of which PyTorch writes no more into the file itself


class Masked(NoCache):
    """Remembers nothing, and says which positions see which: a length that is not known yet has no other way."""

    def append(self, k: Tensor, v: Tensor) -> Seen:
        places = torch.arange(k.size(2), device=k.device)
        return k, v, (places[:, None] >= places).expand(k.size(0), 1, -1, -1)


class Whole(nn.Module):
    """A model that reads texts from their beginning, whatever their length."""

    def __init__(self, model: GPT) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        return self.model(tokens, Masked(self.model.config, tokens.size(0), tokens.device))


def save_onnx(model: GPT, path: Path | str) -> None:
    """Write a model in float32, whole or not at all: `tokens` (batch, time) in, `logits` (batch, time, V) out.

    Raises `ConfigError` where the packages that write ONNX are not installed and for a model that is too large for one
    file, `SaveError` with path and reason.
    """
    missing = [name for name in ("onnx", "onnxscript") if find_spec(name) is None]
    if missing:
        raise ConfigError(f"ONNX takes {' and '.join(missing)}; install the extra: pip install -e '.[export]'")
    size = 4 * parameters(model.config)
    if size > LARGEST:
        raise ConfigError(
            f"the model takes {size / 1e9:.1f} GB in float32 and a file of ONNX holds {LARGEST / 1e9:.1f}; "
            "export it as hf or gguf"
        )
    path = Path(path)
    axes = ({0: torch.export.Dim("batch"), 1: torch.export.Dim("time", max=model.config.context)},)
    tokens = torch.zeros(2, min(3, model.config.context), dtype=torch.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about PyTorch's own insides
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            Whole(model.float()).eval(),
            (tokens,),
            dynamo=True,
            dynamic_shapes=axes,
            input_names=["tokens"],
            output_names=["logits"],
            verbose=False,
        )
    assert program is not None  # it is None where a file was named
    replace_file(path, lambda temporary: program.save(temporary, external_data=False))
