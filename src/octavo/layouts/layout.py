"""What a layout of Hugging Face's is: the table of names, and one of settings, each read in both directions."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from octavo.config import ModelConfig
from octavo.errors import ConfigError
from octavo.layouts.names import Names
from octavo.plain import from_dict

if TYPE_CHECKING:
    from torch import Tensor

Settings = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Layout(Names):
    """How transformers writes one kind of model down: `model_type` and class, names, settings.

    A setting is one of three things: a value of `ModelConfig` under another key (`settings`), something that octavo's
    model cannot have otherwise (`only`: the values that mean the same, the first of which is written), or something
    that changes nothing here, but has a default there (`constants`).
    """

    model_type: str
    prefix: str  # before every name but the output's; left out by whoever saved the model without its output
    settings: Mapping[str, str]  # their key: ours
    defaults: Settings  # what their class takes for a key of `settings` that is left out
    only: Mapping[str, tuple[Any, ...]]
    constants: Settings
    more_to: Callable[[ModelConfig], dict[str, Any]] = field(default=lambda config: {})
    more_from: Callable[[Settings], dict[str, Any]] = field(default=lambda settings: {})

    def to_hf_config(
        self, config: ModelConfig, *, bos: int | None = None, eos: int | None = None, dtype: str = "float32"
    ) -> dict[str, Any]:
        """`config.json` as a value, with every key for which their class has a default."""
        return {
            "architectures": [self.architecture],
            "model_type": self.model_type,
            "dtype": dtype,
            "torch_dtype": dtype,  # as it was called before transformers 5
            "bos_token_id": bos,
            "eos_token_id": eos,
            "pad_token_id": None,  # the embedding of a padding token would learn nothing
            **{theirs: getattr(config, ours) for theirs, ours in self.settings.items()},
            **{key: values[0] for key, values in self.only.items()},
            **self.constants,
            **self.more_to(config),
        }

    def from_hf_config(self, settings: Settings) -> ModelConfig:
        """The shape of the model that a `config.json` describes.

        Raises `ConfigError` where it asks for what octavo's model does not have.
        """
        for key, values in {**UNKNOWN_HERE, **self.only}.items():
            if settings.get(key, values[0]) not in values:
                raise ConfigError(
                    f"{key} is {settings[key]!r}, which octavo's model cannot be; it can be {_listed(values)}"
                )
        settings = {**self.defaults, **settings}
        given = {ours: settings.get(theirs) for theirs, ours in self.settings.items()} | self.more_from(settings)
        left_out = [ours for ours in ("kv_heads", "head_width", "feed_forward") if given.get(ours) is None]
        return from_dict(ModelConfig, {ours: value for ours, value in given.items() if ours not in left_out})

    def to_hf(self, state: Mapping[str, "Tensor"], *, tied: bool) -> Mapping[str, "Tensor"]:
        """Octavo's weights under their names; a tied output is not written, for it is the embedding."""
        return self._to_theirs(state, tied=tied)

    def from_hf(self, state: Mapping[str, "Tensor"], *, tied: bool) -> Mapping[str, "Tensor"]:
        """Their weights under octavo's names. A tied output may be there or not."""
        return self._from_theirs(state, tied=tied)

    def is_buffer(self, name: str) -> bool:
        """The same of a name that may be without the prefix."""
        return super().is_buffer(name) or super().is_buffer(self.prefix + name)

    def _full_names(self, names: Mapping[str, object]) -> dict[str, str]:
        """Each name as `rows` has it, with the name as it was given; buffers are left out."""
        short = not any(name.startswith(self.prefix) for name in names)
        full = {self.prefix + name if short and name != "lm_head.weight" else name: name for name in names}
        return {name: full[name] for name in super()._full_names(full)}


# what other models of these types can be, under keys that their classes do not all know
UNKNOWN_HERE: Mapping[str, tuple[Any, ...]] = {
    "is_encoder_decoder": (False, None),
    "add_cross_attention": (False, None),
    "quantization_config": (None,),
    "rope_interleaved": (False, None),
    "per_layer_config": (None, {}),
}


def _listed(values: tuple[Any, ...]) -> str:
    return " or ".join(repr(value) for value in values)
