"""Laws of choosing a token: exact cuts, honest frequencies, and no row that knows of another."""

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from octavo.errors import OctavoError, SamplingError
from octavo.sampling import (
    Sampling,
    choose,
    draw,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    nucleus,
    penalise,
    uniform,
)

WORDS: list[dict[str, Any]] = [
    {"temperature": 0},
    {"temperature": 0.7},
    {"top_k": 3},
    {"top_p": 0.6},
    {"min_p": 0.2},
    {"temperature": 0, "repetition_penalty": 1.7},
    {"temperature": 1.3, "top_k": 5, "top_p": 0.9, "min_p": 0.05, "repetition_penalty": 1.2},
    {"frequency_penalty": 0.5, "presence_penalty": 0.3},
    {"logit_bias": {4: 2.5, 0: -100.0}, "forbidden": (1, 2)},
    {"temperature": 0, "forbidden": (7,)},
]


def logits_of(rows: int, size: int = 11, dtype: torch.dtype = torch.float64) -> Tensor:
    return (torch.randn(rows, size, generator=torch.Generator().manual_seed(3), dtype=torch.float64) * 2).to(dtype)


def drawn(logits: Tensor, count: int, **words: Any) -> Counter[int]:
    """How often each token comes with the seeds 0 … count - 1."""
    samplings = [Sampling(seed=seed, **words) for seed in range(count)]
    return Counter(choose(logits.expand(count, -1), samplings, [[]] * count).tokens)


def kept(x: Tensor) -> list[int]:
    return x[0].isfinite().nonzero()[:, 0].tolist()


def test_top_k_leaves_exactly_k_on_ties() -> None:
    tied = torch.tensor([[1.0, 2.0, 2.0, 0.0, 2.0, 1.0, 1.0]], dtype=torch.float64)
    sets = [kept(keep_top_k(tied.clone(), [Sampling(top_k=k)])) for k in range(1, 9)]
    assert sets[:5] == [[1], [1, 2], [1, 2, 4], [0, 1, 2, 4], [0, 1, 2, 4, 5]]
    assert sets[6] == sets[7] == list(range(7))
    assert set(drawn(torch.zeros(1, 9), 200, top_k=4)) == {0, 1, 2, 3}


@given(st.lists(st.integers(0, 12), min_size=1, max_size=30), st.floats(0.01, 1))
def test_top_p_keeps_the_smallest_sufficient_set(heights: list[int], p: float) -> None:
    x = torch.tensor([heights], dtype=torch.float64) / 3
    chosen = kept(keep_top_p(x.clone(), [Sampling(top_p=p)]))
    probabilities = x.softmax(-1)[0].tolist()
    likeliest = sorted(range(len(heights)), key=lambda token: (-heights[token], token))
    assert sorted(likeliest[: len(chosen)]) == chosen
    shares = [probabilities[token] for token in likeliest[: len(chosen)]]
    assert math.fsum(shares) >= p - 1e-12
    assert math.fsum(shares[:-1]) < p + 1e-12


def test_top_p_counts_an_exact_share_as_sufficient() -> None:
    x = torch.tensor([[0.125, 0.5, 0.25, 0.125]], dtype=torch.float64).log()
    cuts = (0.4, 0.5, 0.51, 0.75, 0.8, 0.875, 0.9, 1.0)
    sets = [kept(keep_top_p(x.clone(), [Sampling(top_p=p)])) for p in cuts]
    assert sets == [[1], [1], [1, 2], [1, 2], [0, 1, 2], [0, 1, 2], [0, 1, 2, 3], [0, 1, 2, 3]]


def test_a_nucleus_wider_than_the_first_look_is_found_too() -> None:
    probabilities = logits_of(3, 400).mul(0.1).softmax(-1)
    limits = torch.tensor([0.05, 0.5, 0.99], dtype=torch.float64)
    assert nucleus(probabilities, limits, 16).tolist() == nucleus(probabilities, limits, 400).tolist()


def test_every_cut_is_the_one_of_transformers() -> None:
    x = logits_of(1, 40)
    theirs = [TopKLogitsWarper(top_k=7), TopPLogitsWarper(top_p=0.8), MinPLogitsWarper(min_p=0.1)]
    ours = [keep_top_k, keep_top_p, keep_min_p]
    for their_cut, our_cut in zip(theirs, ours, strict=True):
        sampling = Sampling(top_k=7, top_p=0.8, min_p=0.1)
        assert torch.equal(our_cut(x.clone(), [sampling]), their_cut(torch.zeros(1, 1, dtype=torch.long), x.clone()))


def test_a_repetition_costs_what_it_costs_in_transformers() -> None:
    x, text = logits_of(1, 30), [3, 5, 3, 3, 8]
    theirs = RepetitionPenaltyLogitsProcessor(1.3)(torch.tensor([text]), x.clone())
    assert torch.equal(penalise(x.clone(), [Sampling(repetition_penalty=1.3)], [text], [2]), theirs)


def test_frequency_counts_and_presence_does_not() -> None:
    x = torch.zeros(1, 5, dtype=torch.float64)
    sampling = Sampling(frequency_penalty=0.5, presence_penalty=0.25)
    assert penalise(x, [sampling], [[1, 3, 3]], [0]).tolist() == [[0, -0.75, 0, -1.25, 0]]


def test_a_prompt_costs_what_was_said_in_it_a_repetition_and_nothing_else() -> None:
    logits, prompt = torch.tensor([[0.0, 2.0, 1.9]]), [1, 1, 1]
    for words, written, expected in (
        ({"frequency_penalty": 5.0}, [], 1),
        ({"presence_penalty": 5.0}, [], 1),
        ({"frequency_penalty": 5.0}, [1], 2),
        ({"presence_penalty": 5.0}, [1], 2),
        ({"repetition_penalty": 2.0}, [], 2),
    ):
        samplings = [Sampling(temperature=0, **words)]
        assert choose(logits, samplings, [[*prompt, *written]], [len(prompt)]).tokens == [expected]


def test_drawn_frequencies_match_the_distribution() -> None:
    logits, count = logits_of(1, 8), 5000
    for temperature in (1.0, 0.6):
        expected = (logits[0] / temperature).softmax(-1) * count
        found = drawn(logits, count, temperature=temperature)
        chi_square = sum((found[token] - share) ** 2 / share for token, share in enumerate(expected.tolist()))
        assert chi_square < 24.3  # of 7 degrees of freedom: one seed in a thousand would lie above


def test_drawn_frequencies_match_along_one_text_too() -> None:
    x, count = logits_of(1, 8), 4000
    texts = [[0] * length for length in range(count)]
    found = Counter(draw(x.expand(count, -1), [Sampling(seed=5)] * count, texts).tolist())
    expected = x[0].softmax(-1) * count
    assert sum((found[token] - share) ** 2 / share for token, share in enumerate(expected.tolist())) < 24.3


def test_what_transformers_would_draw_from_is_what_is_drawn_from() -> None:
    logits, text = logits_of(1, 12), [2, 2, 7]
    x = logits.clone()
    for change in (
        RepetitionPenaltyLogitsProcessor(1.5),
        TemperatureLogitsWarper(0.8),
        TopKLogitsWarper(9),
        TopPLogitsWarper(0.95),
        MinPLogitsWarper(0.02),
    ):
        x = change(torch.tensor([text]), x)
    shares = x.softmax(-1)[0].cumsum(-1)
    words = {"repetition_penalty": 1.5, "temperature": 0.8, "top_k": 9, "top_p": 0.95, "min_p": 0.02}
    for seed in range(300):
        expected = int((shares <= uniform(seed, len(text)) * shares[-1]).sum())
        assert choose(logits, [Sampling(seed=seed, **words)], [text]).tokens == [expected]


@pytest.mark.parametrize("temperature", [1e-3, 1e-300, 5e-324])
def test_temperature_towards_zero_is_greedy(temperature: float) -> None:
    logits = logits_of(6)
    cold = choose(logits, [Sampling(temperature=temperature, seed=seed) for seed in range(6)], [[]] * 6)
    assert cold == choose(logits, [Sampling(temperature=0)] * 6, [[]] * 6)


def test_greedy_takes_the_first_of_equals() -> None:
    assert choose(torch.tensor([[0.0, 3.0, 3.0], [3.0, 3.0, 0.0]]), [Sampling(temperature=0)] * 2, [[], []]).tokens == [
        1,
        0,
    ]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_row_chooses_alone_as_among_others(dtype: torch.dtype) -> None:
    logits = logits_of(4 * len(WORDS), 700, dtype)
    samplings = [Sampling(seed=seed, **words) for seed, words in enumerate(WORDS * 4)]
    history = [[row % 11, 4, 4, row] for row in range(len(samplings))]
    together = choose(logits, samplings, history)
    for row, sampling in enumerate(samplings):
        alone = choose(logits[row : row + 1], [sampling], history[row : row + 1])
        assert (alone.tokens[0], alone.logprobs[0]) == (together.tokens[row], together.logprobs[row])


def test_a_draw_depends_on_seed_and_place_alone() -> None:
    logits = torch.zeros(1, 1000)
    first = [choose(logits, [Sampling(seed=9)], [[0] * length]).tokens for length in range(20)]
    assert first == [choose(logits, [Sampling(seed=9)], [[1] * length]).tokens for length in range(20)]
    assert first != [choose(logits, [Sampling(seed=10)], [[0] * length]).tokens for length in range(20)]


def test_the_numbers_behind_the_draws_are_even_and_unrelated() -> None:
    drawn_numbers = [[uniform(seed, position) for position in range(200)] for seed in range(200)]
    numbers = torch.tensor(drawn_numbers, dtype=torch.float64)
    assert ((numbers >= 0) & (numbers < 1)).all()
    assert numbers.unique().numel() == numbers.numel()
    assert abs(numbers.mean() - 0.5) < 0.005
    assert abs(numbers.var() - 1 / 12) < 0.002
    for across in (numbers, numbers.T):
        neighbours = torch.corrcoef(torch.stack([across[:-1].flatten(), across[1:].flatten()]))[0, 1]
        assert abs(neighbours) < 0.02
    assert 0 <= uniform(2**63 - 1, 10**9) < 1


def test_torchs_own_random_state_is_left_alone() -> None:
    before = torch.get_rng_state()
    drawn(logits_of(1), 5)
    assert torch.equal(before, torch.get_rng_state())


def test_forbidden_tokens_are_never_chosen() -> None:
    logits = torch.tensor([[9.0, 1.0, 0.0, 9.5]])
    assert set(drawn(logits, 300, forbidden=(0, 3))) == {1, 2}
    assert choose(logits, [Sampling(temperature=0, forbidden=(0, 3))], [[]]).tokens == [1]
    mixed = [Sampling(temperature=0, forbidden=(3,)), Sampling(temperature=0)]
    assert choose(logits.expand(2, -1), mixed, [[], []]).tokens == [0, 3]
    assert choose(logits, [Sampling(forbidden=(0, 3), logit_bias={0: 1e308}, repetition_penalty=1e-300)], [[0]]).tokens[
        0
    ] in {1, 2}


def test_a_bias_moves_a_token_and_its_log_probability_stays_the_models_own() -> None:
    logits = logits_of(1)
    choice = choose(logits, [Sampling(temperature=0, logit_bias={6: 100.0})], [[]])
    assert choice.tokens == [6]
    assert choice.logprobs == [logits.log_softmax(-1)[0, 6].item()]


def test_log_probabilities_of_unlikely_tokens_are_finite() -> None:
    logits = torch.tensor([[1e4, 0.0]])
    assert choose(logits, [Sampling(forbidden=(0,))], [[]]).logprobs == [-1e4]


@pytest.mark.parametrize("temperature", [0, 1.0])
def test_where_forbidden_tokens_alone_have_a_logit_none_is_chosen(temperature: float) -> None:
    with pytest.raises(OctavoError, match="the model's logits are not finite"):
        choose(torch.tensor([[1.0, -math.inf]]), [Sampling(temperature=temperature, forbidden=(0,))], [[]])


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("temperature", [0, 1.0])
def test_logits_that_are_no_numbers_are_said_in_one_line(value: float, temperature: float) -> None:
    logits = torch.tensor([[0.0, value, 1.0]])
    with pytest.raises(OctavoError, match="the model's logits are not finite; its training diverged or its weights"):
        choose(logits, [Sampling(temperature=temperature)], [[]])


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("words", "line"),
    [
        ({"temperature": -1}, "temperature is -1; give 0 for the likeliest token or a number above it"),
        ({"temperature": math.nan}, "temperature is nan; give 0 for the likeliest token"),
        ({"temperature": math.inf}, "temperature is inf; give 0 for the likeliest token"),
        ({"temperature": 10**400}, "temperature is 10+; give 0 for the likeliest token"),
        ({"repetition_penalty": 10**400}, "repetition_penalty is 10+; give a number above 0; 1 changes nothing"),
        ({"top_k": 0}, "top_k is 0; give a whole number from 1"),
        ({"top_p": 0}, "top_p is 0; give a probability above 0 and at most 1"),
        ({"top_p": 1.5}, "top_p is 1.5; give a probability above 0 and at most 1"),
        ({"top_p": math.nan}, "top_p is nan; give a probability"),
        ({"min_p": 1}, "min_p is 1; give a probability from 0 to below 1"),
        ({"min_p": -0.1}, "min_p is -0.1; give a probability from 0 to below 1"),
        ({"repetition_penalty": 0}, "repetition_penalty is 0; give a number above 0; 1 changes nothing"),
        ({"frequency_penalty": math.inf}, "frequency_penalty is inf; give a finite number; 0 changes nothing"),
        ({"presence_penalty": math.nan}, "presence_penalty is nan; give a finite number; 0 changes nothing"),
        ({"seed": -1}, r"seed is -1; give a whole number from 0 to 2\^63 - 1"),
        ({"seed": 2**63}, f"seed is {2**63}; give a whole number from 0"),
        ({"logit_bias": {3: math.inf}}, "logit_bias of token 3 is inf; give a finite number"),
        ({"logit_bias": [1]}, r"logit_bias is \[1\]; give a number for each of some token ids"),
        ({"forbidden": 3}, "forbidden is 3; give a row of token ids"),
    ],
)
def test_a_value_out_of_its_range_is_refused_in_one_line(words: dict[str, Any], line: str) -> None:
    with pytest.raises(SamplingError, match=line):
        Sampling(**words)


@pytest.mark.usefixtures("unchecked")
def test_numbers_of_numpy_and_tokens_in_any_row_are_taken() -> None:
    words = {"temperature": np.float32(0.5), "top_k": np.int64(3), "seed": np.int64(7)}
    given = Sampling(**words, forbidden={np.int64(2)})
    assert given == Sampling(temperature=0.5, top_k=3, seed=7, forbidden=(2,))
    assert isinstance(given.top_k, int) and not isinstance(given.top_k, np.integer)
    biased: Any = {np.int64(3): np.float32(100)}
    assert Sampling(logit_bias=biased, forbidden=torch.tensor([1])) == Sampling(logit_bias={3: 100.0}, forbidden=(1,))


def test_ways_of_choosing_can_be_counted() -> None:
    assert len({Sampling(), Sampling(seed=0), Sampling(logit_bias={1: 2.0}), Sampling(seed=1)}) == 3


def test_a_penalty_may_be_any_whole_number() -> None:
    for name in ("repetition_penalty", "frequency_penalty", "presence_penalty"):
        words = {"temperature": 0, name: 10**30}
        assert choose(torch.tensor([[2.0, 1.0]]), [Sampling(**words)], [[1]]).tokens == [0]


def test_tokens_outside_the_vocabulary_are_refused_in_one_line() -> None:
    with pytest.raises(SamplingError, match="forbidden names token 9; the vocabulary has 0 to 8"):
        Sampling(forbidden=(1, 9)).check_vocabulary(9)
    with pytest.raises(SamplingError, match="logit_bias names token -1; the vocabulary has 0 to 8"):
        Sampling(logit_bias={-1: 1.0}).check_vocabulary(9)
    with pytest.raises(SamplingError, match="all 3 tokens are forbidden; leave one to choose"):
        Sampling(forbidden=(0, 1, 2, 2)).check_vocabulary(3)
