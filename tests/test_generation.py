"""Laws of generation: remembering, batching and sliding change nothing about the text, and nothing else changes."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

from octavo.config import ModelConfig
from octavo.errors import SamplingError, TextError
from octavo.fused import fused
from octavo.generation import generate
from octavo.layouts import layout_for
from octavo.model import GPT
from octavo.reading import Reader, window_start
from octavo.sampling import Sampling, choose

Text = list[int]
Models = Callable[..., GPT]
Numbers = list[float]

PROMPTS = [[3, 1, 4, 1, 5], [9], [2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2], list(range(22)) * 2]
DRAWN = {"temperature": 0.9, "top_k": 12, "top_p": 0.95, "repetition_penalty": 1.1}
CLASSES = {
    "gpt2": (GPT2Config, GPT2LMHeadModel),
    "llama": (LlamaConfig, LlamaForCausalLM),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM),
}


def grown(model: GPT, prompts: Sequence[Text], limit: int, **words: Any) -> tuple[list[Text], list[Numbers]]:
    """The new tokens of each row, and their log-probabilities."""
    steps = list(generate(model, prompts, max_new_tokens=limit, **words))
    tokens = [[step.tokens[row] for step in steps] for row in range(len(prompts))]
    logprobs = [[step.logprobs[row] for step in steps] for row in range(len(prompts))]
    return (
        [[token for token in row if token is not None] for row in tokens],
        [[logprob for logprob in row if logprob is not None] for row in logprobs],
    )


def plain(model: GPT, prompt: Text, limit: int, sampling: Sampling) -> tuple[Text, Numbers]:
    """The oracle: no cache, everything visible is read again for every token."""
    context, text, logprobs, start = model.config.context, list(prompt), [], 0
    for _ in range(limit):
        while len(text) - start > context:
            start += context - context // 2
        logits = model(torch.tensor([text[start:]]))[:, -1]
        choice = choose(logits, [sampling], [text])
        text += choice.tokens
        logprobs += choice.logprobs
    return text[len(prompt) :], logprobs


@pytest.mark.parametrize("words", [{"temperature": 0}, DRAWN], ids=["greedy", "drawn"])
def test_remembered_batched_and_sliding_equal_plain_generation(model: GPT, words: dict[str, Any]) -> None:
    limit = 2 * model.config.context + 5
    tokens, logprobs = grown(model, PROMPTS, limit, seed=11, **words)
    for prompt, text, numbers in zip(PROMPTS, tokens, logprobs, strict=True):
        expected, expected_numbers = plain(model, prompt, limit, Sampling(seed=11, **words))
        assert text == expected
        assert numbers == pytest.approx(expected_numbers, abs=1e-10)


def test_what_a_prompt_says_may_be_said_again_whatever_it_costs_to_repeat_oneself(model: GPT) -> None:
    prompt = list(range(model.config.vocab_size))
    greedy, costly = Sampling(temperature=0), Sampling(temperature=0, frequency_penalty=1e9)
    [[first, *_]], _ = grown(model, [prompt], 4, samplings=[greedy])
    [[same, *others]], _ = grown(model, [prompt], 4, samplings=[costly])
    assert same == first and len({same, *others}) == 4


@pytest.mark.parametrize("context", [1, 2, 3, 7])
def test_the_smallest_contexts_slide_too(random_model: Models, context: int) -> None:
    model = random_model(ModelConfig(vocab_size=23, context=context, layers=1, heads=2, width=8))
    tokens, _ = grown(model, PROMPTS, 12, temperature=0)
    assert tokens == [plain(model, prompt, 12, Sampling(temperature=0))[0] for prompt in PROMPTS]


def test_a_text_goes_on_the_same_when_it_is_given_back_as_a_prompt(model: GPT) -> None:
    prompt = PROMPTS[0]
    [text], _ = grown(model, [prompt], 40, **DRAWN)
    for cut in (1, 13, 29):
        [rest], _ = grown(model, [prompt + text[:cut]], 40 - cut, **DRAWN)
        assert rest == text[cut:]


def test_the_window_is_never_longer_than_the_context_nor_shorter_than_half() -> None:
    for context in range(1, 20):
        for length in range(1, 100):
            visible = length - window_start(length, context)
            assert min(length, context // 2 + 1) <= visible <= context


def test_the_same_seed_gives_the_same_text_alone_and_in_a_batch(model: GPT) -> None:
    together, _ = grown(model, PROMPTS * 4, 30, seed=4)
    assert together == [grown(model, [prompt], 30, seed=4)[0][0] for prompt in PROMPTS] * 4
    assert together != grown(model, PROMPTS * 4, 30, seed=5)[0]


@pytest.fixture
def threads(request: pytest.FixtureRequest) -> Iterator[None]:
    """So many cores: products round differently on one and on two."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("threads", "dtype", "width"),
    [
        (1, torch.float32, 40),
        (1, torch.bfloat16, 40),
        (1, torch.bfloat16, 64),
        pytest.param(2, torch.float32, 64, marks=pytest.mark.slow),
    ],
    indirect=["threads"],
)
@pytest.mark.parametrize("kind", [{"dialect": "gpt2"}, {"dialect": "modern", "kv_heads": 1}], ids=["gpt2", "modern"])
@pytest.mark.usefixtures("threads")
def test_in_the_bitwise_mode_a_text_is_the_same_to_the_last_bit(
    random_model: Models, dtype: torch.dtype, width: int, kind: dict[str, Any]
) -> None:
    config = ModelConfig(vocab_size=61, context=48, layers=2, heads=2, width=width, **kind)
    model = random_model(config, dtype=dtype, deviation=0.1)
    prompts = [[(7 * row + place) % 61 for place in range(1 + 5 * row % 60)] for row in range(11)]
    tokens, logprobs = grown(model, prompts, 12, seed=2, bitwise=True)
    for rows in ([0], [3], [1, 4, 9], [8, 7, 6, 5, 4, 3, 2]):
        some = grown(model, [prompts[row] for row in rows], 12, seed=2, bitwise=True)
        assert some == ([tokens[row] for row in rows], [logprobs[row] for row in rows])
    again = prompts[5] + tokens[5][:5]  # read at once what was written one by one
    assert grown(model, [again], 7, seed=2, bitwise=True) == ([tokens[5][5:]], [logprobs[5][5:]])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nor_do_neighbours_matter_that_are_much_longer(random_model: Models, dtype: torch.dtype) -> None:
    config = ModelConfig(dialect="modern", vocab_size=61, context=640, layers=2, heads=2, width=128)
    model = random_model(config, dtype=dtype, deviation=0.1)
    prompts = [[(7 * row + place * place) % 61 for place in range(length)] for row, length in enumerate((250, 30, 520))]
    tokens, logprobs = grown(model, prompts, 12, seed=2, bitwise=True)
    for row, prompt in enumerate(prompts):
        assert grown(model, [prompt], 12, seed=2, bitwise=True) == ([tokens[row]], [logprobs[row]])


def test_the_bitwise_mode_says_the_same_as_the_other(model: GPT) -> None:
    tokens, logprobs = grown(model, PROMPTS, 40, seed=1, bitwise=True)
    expected = grown(model, PROMPTS, 40, seed=1)
    assert tokens == expected[0]
    assert [*map(sum, logprobs)] == pytest.approx([*map(sum, expected[1])], abs=1e-9)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "qwen3"])
def test_greedy_text_is_that_of_transformers(random_model: Models, tiny: dict[str, ModelConfig], kind: str) -> None:
    model = random_model(tiny[kind], dtype=torch.float32)
    layout = layout_for(model.config)
    settings, theirs = CLASSES[kind]
    peer = theirs(settings(**layout.to_hf_config(model.config))).eval()
    peer.load_state_dict(layout.to_hf(model.state_dict(), tied=model.config.tied), strict=False)
    prompts = [[(5 * row + place) % 23 for place in range(5)] for row in range(4)]
    inputs = torch.tensor(prompts)
    output = peer.generate(inputs, attention_mask=torch.ones_like(inputs), max_new_tokens=11, do_sample=False)
    assert grown(model, prompts, 11, temperature=0)[0] == output[:, 5:].tolist()


def test_a_prompt_may_be_a_list_lists_or_a_tensor(model: GPT) -> None:
    def texts(prompt: Any) -> list[list[int | None]]:
        return [step.tokens for step in generate(model, prompt, max_new_tokens=4, temperature=0)]

    one = texts([5, 6, 7])
    assert one == texts([[5, 6, 7]]) == texts(torch.tensor([5, 6, 7])) == texts(torch.tensor([[5, 6, 7]]))
    assert texts([[5, 6, 7], [5, 6, 7]]) == [tokens * 2 for tokens in one]


@pytest.mark.usefixtures("unchecked")
def test_so_may_it_be_tensors_or_numbers_of_numpy_one_by_one(model: GPT) -> None:
    expected = grown(model, [[1, 2], [3]], 4, temperature=0)[0]
    for prompt in ([torch.tensor([1, 2]), torch.tensor([3])], [np.array([1, 2]), [np.int64(3)]]):
        assert grown(model, prompt, np.int64(4), temperature=np.float32(0), stop=np.array([22]))[0] == expected


def test_a_stop_token_ends_its_own_row_alone(model: GPT) -> None:
    free, numbers = grown(model, PROMPTS, 25, seed=8)
    stop = free[0][6]
    ended, ended_numbers = grown(model, PROMPTS, 25, seed=8, stop=[stop])
    for row, text in enumerate(free):
        length = text.index(stop) + 1 if stop in text else len(text)
        assert ended[row] == text[:length]
        assert ended_numbers[row] == pytest.approx(numbers[row][:length], abs=1e-10)


def test_a_row_that_ended_gets_none_and_the_others_go_on(model: GPT) -> None:
    generation = generate(model, PROMPTS[:3], max_new_tokens=6, seed=3)
    steps = [next(generation)]
    generation.end(1)
    steps += generation
    assert [[token is None for token in step.tokens] for step in steps] == [[False] * 3] + [[False, True, False]] * 5
    whole, _ = grown(model, PROMPTS[:3], 6, seed=3)
    assert [generation.texts[row] for row in (0, 2)] == [PROMPTS[row] + whole[row] for row in (0, 2)]
    for row in (0, 2):
        generation.end(row)
    assert next(generation, None) is None


def test_a_window_that_may_not_slide_ends_the_row_when_it_is_full(model: GPT) -> None:
    context = model.config.context
    tokens, _ = grown(model, PROMPTS[:3], 100, seed=6, slide=False)
    assert [len(prompt) + len(text) for prompt, text in zip(PROMPTS[:3], tokens, strict=True)] == [context] * 3
    whole, _ = grown(model, PROMPTS[:3], 100, seed=6)
    assert tokens == [text[: len(row)] for text, row in zip(whole, tokens, strict=True)]


def test_each_row_may_have_its_own_sampling(model: GPT) -> None:
    samplings = [Sampling(temperature=0), Sampling(seed=3), Sampling(top_k=2, seed=9), Sampling(forbidden=(4, 5))]
    together, _ = grown(model, PROMPTS, 20, samplings=samplings)
    for row, sampling in enumerate(samplings):
        assert together[row] == plain(model, PROMPTS[row], 20, sampling)[0]


def test_forbidden_tokens_do_not_appear(model: GPT) -> None:
    tokens, _ = grown(model, PROMPTS, 50, forbidden=range(3, 23))
    assert set().union(*tokens) == {0, 1, 2}


def test_nothing_else_is_changed_by_generating(config: ModelConfig) -> None:
    torch.manual_seed(0)
    model = GPT(config, dropout=0.5).double()
    model.blocks[0].eval()
    flags = [part.training for part in model.modules()]
    state, weights = torch.get_rng_state(), {name: value.clone() for name, value in model.state_dict().items()}
    generation = generate(model, PROMPTS, max_new_tokens=5, temperature=0)
    first = next(generation)
    assert not torch.is_inference_mode_enabled()
    assert [part.training for part in model.modules()] == flags
    rest = list(generation)
    assert [part.training for part in model.modules()] == flags
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())
    model(torch.tensor([[1, 2]])).sum().backward()
    model.eval()
    assert [first, *rest] == list(generate(model, PROMPTS, max_new_tokens=5, temperature=0))


def test_a_model_that_is_learning_writes_what_one_that_has_learned_writes(
    random_model: Models, config: ModelConfig
) -> None:
    """Also one that somebody listens to, of which no quick copy is made."""
    learned = random_model(config, deviation=0.5)
    model = GPT(config, dropout=0.5).double()
    model.load_state_dict(learned.state_dict())
    written = list(generate(learned, PROMPTS, max_new_tokens=8, temperature=0))
    assert list(generate(model, PROMPTS, max_new_tokens=8, temperature=0)) == written
    model.blocks[1].feed_forward_out.register_forward_hook(lambda *_: None)
    assert [step.tokens for step in generate(model, PROMPTS, max_new_tokens=8, temperature=0)] == [
        step.tokens for step in written
    ]


def test_dropout_comes_back_even_when_reading_fails(model: GPT) -> None:
    model = GPT(model.config, dropout=0.3)
    handle = model.norm.register_forward_hook(lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        next(generate(model, [1], max_new_tokens=1))
    handle.remove()
    assert model.dropout.training


def test_equal_prompts_are_read_once(model: GPT) -> None:
    read: list[int] = []
    handle = model.norm.register_forward_hook(lambda module, inputs, value: read.append(value.size(0)))
    tokens, _ = grown(model, [PROMPTS[0]] * 5, 3, samplings=[Sampling(seed=seed) for seed in range(5)])
    handle.remove()
    assert read == [1, 5, 5, 5]
    assert tokens == [grown(model, [PROMPTS[0]], 3, seed=seed)[0][0] for seed in range(5)]


def test_only_the_newest_token_is_read(model: GPT) -> None:
    read: list[int] = []
    handle = model.norm.register_forward_hook(lambda module, inputs, value: read.append(value.size(1)))
    grown(model, [[1, 2, 3, 4, 5]], 30)
    handle.remove()
    half = model.config.context // 2
    assert read == [4, *[1] * 12, half, *[1] * half, half, *[1] * half, half, *[1] * 2]


def test_the_memory_is_no_larger_than_the_text(model: GPT) -> None:
    for limit, capacity in ((4, 9), (100, model.config.context)):
        generation = generate(model, [[1, 2, 3, 4, 5]], max_new_tokens=limit)
        next(generation)
        assert generation.reader.cache is not None
        assert generation.reader.cache.capacity == capacity


def test_a_reader_reads_what_it_is_given(model: GPT) -> None:
    reader = Reader(model, model.config.context, rows=2)
    with torch.inference_mode():
        for texts in ([[1, 2], [3]], [[1, 2, 5], [3, 4]]):
            expected = torch.stack([model(torch.tensor([text]))[0, -1] for text in texts])
            assert torch.allclose(reader.read(texts), expected, rtol=0, atol=1e-10)
        reader.select([1])
        assert torch.allclose(reader.read([[3, 4, 6]])[0], model(torch.tensor([[3, 4, 6]]))[0, -1], rtol=0, atol=1e-10)


def test_taps_are_heard_while_generating(model: GPT) -> None:
    heard: list[torch.Tensor] = []
    handle = model.blocks[0].attention.heads.weights.register_forward_hook(lambda m, i, value: heard.append(value))
    tokens, _ = grown(model, PROMPTS[:2], 5, temperature=0)
    handle.remove()
    assert len(heard) == 6
    assert tokens == grown(model, PROMPTS[:2], 5, temperature=0)[0]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("prompt", "words", "kind", "line"),
    [
        ([], {}, TextError, "the prompt is empty; give at least one token"),
        ([[1], []], {}, TextError, "prompt 1 is empty; give at least one token"),
        ([1, 23], {}, TextError, "the prompt holds token 23; the vocabulary has 0 to 22"),
        ([True], {}, TextError, "the prompt holds token True; the vocabulary has 0 to 22"),
        ([[1], [-1]], {}, TextError, "prompt 1 holds token -1; the vocabulary has 0 to 22"),
        (list(range(16)), {"slide": False}, TextError, "of 16 tokens fills the context of 16; shorten it or let it"),
        (5, {}, TextError, "the prompt is 5; give token ids, which a tokenizer's encode makes of a text"),
        ("abc", {}, TextError, "the prompt is 'abc'; give token ids"),
        ([1], {"stop": 3}, SamplingError, "stop is 3; give a row of token ids"),
        ([1], {"forbidden": 3}, SamplingError, "forbidden is 3; give a row of token ids"),
        ([1], {"samplings": [None]}, SamplingError, "a sampling is None; give an octavo.Sampling for each prompt"),
        ([1], {"samplings": Sampling()}, SamplingError, "samplings is Sampling.*; give one for each prompt, in a list"),
        ([1], {"max_new_tokens": 0}, SamplingError, "max_new_tokens is 0; give a whole number from 1"),
        ([1], {"temperature": -0.5}, SamplingError, "temperature is -0.5; give 0 for the likeliest token"),
        ([1], {"stop": [23]}, SamplingError, "stop names token 23; the vocabulary has 0 to 22"),
        ([1], {"forbidden": [99]}, SamplingError, "forbidden names token 99; the vocabulary has 0 to 22"),
        ([[1], [2]], {"samplings": [Sampling()]}, SamplingError, "1 samplings do not fit 2 prompts; give one for each"),
    ],
)
def test_what_is_wrong_is_said_at_the_call(
    random_model: Models, tiny: dict[str, ModelConfig], prompt: Any, words: dict[str, Any], kind: Any, line: str
) -> None:
    with pytest.raises(kind, match=line):
        generate(random_model(tiny["gpt2"]), prompt, **{"max_new_tokens": 5, **words})


def test_the_bitwise_mode_is_for_a_model_that_is_no_quick_copy_and_not_listened_to(model: GPT) -> None:
    handle = model.blocks[0].stream.register_forward_hook(lambda *_: None)
    with pytest.raises(SamplingError, match="somebody listens to the model or changed it, or it is a quick copy"):
        generate(model, [1], max_new_tokens=1, bitwise=True)
    handle.remove()
    with pytest.raises(SamplingError, match="somebody listens to the model or changed it, or it is a quick copy"):
        generate(fused(model, quantize="int8"), [1], max_new_tokens=1, bitwise=True)
