"""The forward pass step by step, with this model's own numbers: each step's equation, shapes and line of code.

The numbers of one head of one layer are computed here by the equation that is shown; what the others add is taken from
the model. Where the model has a tap, the two are compared, and `Step.error` says how far they are apart.
"""

from octavo.config import USUAL
from octavo.errors import ConfigError
from octavo.explaining.step import Step, line_of
from octavo.explaining.telling import Telling
from octavo.lens.trace import at_rest, check_layer
from octavo.looking import look
from octavo.model import GPT
from octavo.sampling import Sampling
from octavo.tokenizers import Tokenizer

__all__ = ["Step", "explain", "line_of"]


def explain(
    model: GPT,
    tokenizer: Tokenizer,
    text: str,
    *,
    layer: int = 0,
    head: int = 0,
    temperature: float = USUAL,
    seed: int = 0,
) -> list[Step]:
    """The steps from a text to the token that follows it, with the numbers of its last position, one layer and head.

    Raises `ConfigError` for a layer or head that the model does not have, and what `look` raises.
    """
    check_layer(model, layer)
    if not 0 <= head < model.config.heads:
        raise ConfigError(f"there is no head {head}; the model has heads 0 to {model.config.heads - 1}")
    chosen = Sampling(temperature=temperature, seed=seed, forbidden=tokenizer.unsayable(model.config.vocab_size))
    with at_rest(model):
        return list(Telling(look(model, tokenizer, text), text, layer, head, chosen).steps())
