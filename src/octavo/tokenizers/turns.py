"""How a conversation is written for a model that is taught to answer here: ChatML, as Qwen and SmolLM2 read it, too."""

from collections.abc import Collection

TURN, END_OF_TURN = "<|im_start|>", "<|im_end|>"
TURNS = (TURN, END_OF_TURN)
TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def template_of(special: Collection[str]) -> dict[str, str]:
    """The setting of a tokenizer that has these special tokens: the template, where turns are among them."""
    return {"chat_template": TEMPLATE} if set(TURNS) <= set(special) else {}
