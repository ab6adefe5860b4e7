"""octavo: a GPT that fits the hand.

What is named here is the public interface, with what README and docs name of the modules; a name is imported when it is
first used, so that `import octavo` is quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from octavo.api import resume, train
    from octavo.completion import complete, completions
    from octavo.config import GPT2, GPT2_LARGE, GPT2_MEDIUM, GPT2_XL, ModelConfig, RunConfig, TrainConfig
    from octavo.errors import OctavoError
    from octavo.generation import generate
    from octavo.model import GPT, FeedForward, GPTBlock, MultiHeadAttention, SelfAttention
    from octavo.porting import load
    from octavo.run import save
    from octavo.sampling import Sampling
    from octavo.tap import Tap
    from octavo.tokenizers import BPETokenizer, SimpleTokenizer

__version__ = "0.1.0"

_HOMES = {
    "octavo.api": ("resume", "train"),
    "octavo.completion": ("complete", "completions"),
    "octavo.config": ("GPT2", "GPT2_LARGE", "GPT2_MEDIUM", "GPT2_XL", "ModelConfig", "RunConfig", "TrainConfig"),
    "octavo.errors": ("OctavoError",),
    "octavo.generation": ("generate",),
    "octavo.model": ("GPT", "FeedForward", "GPTBlock", "MultiHeadAttention", "SelfAttention"),
    "octavo.porting": ("load",),
    "octavo.run": ("save",),
    "octavo.sampling": ("Sampling",),
    "octavo.tap": ("Tap",),
    "octavo.tokenizers": ("BPETokenizer", "SimpleTokenizer"),
}
_MODULES = (
    "cache",
    "config",
    "errors",
    "events",
    "figure",
    "lens",
    "loss",
    "report",
    "tap",
)  # that are used by their names
_NEEDED = {"Any", "TYPE_CHECKING", "import_module"}  # here, and no part of octavo
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "GPT",
    "GPT2",
    "GPT2_LARGE",
    "GPT2_MEDIUM",
    "GPT2_XL",
    "BPETokenizer",
    "FeedForward",
    "GPTBlock",
    "ModelConfig",
    "MultiHeadAttention",
    "OctavoError",
    "RunConfig",
    "Sampling",
    "SelfAttention",
    "SimpleTokenizer",
    "Tap",
    "TrainConfig",
    "complete",
    "completions",
    "generate",
    "load",
    "resume",
    "save",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"octavo.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'octavo' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value  # a submodule of the same name (octavo.generation) must not hide it
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME, *_MODULES} - _NEEDED)
