"""The global batch is a pure function of (seed, step), and an epoch is every token once."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.data import Batches, windows
from octavo.data.batches import permuted
from octavo.errors import ConfigError

LAW = settings(derandomize=True, deadline=None, database=None, max_examples=150)


@st.composite
def batches(draw: st.DrawFn) -> Batches:
    size = draw(st.integers(2, 200))
    context = draw(st.integers(1, size - 1))
    tokens = np.arange(1, size + 1, dtype=np.uint16)  # each token is its own place, none is 0
    return Batches(tokens, context, draw(st.integers(1, 20)), draw(st.integers(0, 2**40)))


def rows_of(batch: Batches, first: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """`count` rows from the row `first` of the whole training on, one by one."""
    found = [
        batch.rows(row // batch.batch, row % batch.batch, row % batch.batch + 1) for row in range(first, first + count)
    ]
    return np.concatenate([x for x, _ in found]), np.concatenate([y for _, y in found])


@LAW
@given(batches(), st.integers(0, 3))
def test_every_token_is_predicted_exactly_once_per_epoch(batch: Batches, epoch: int) -> None:
    inputs, targets = rows_of(batch, epoch * batch.windows, batch.windows)
    real = targets >= 0
    assert Counter(targets[real].tolist()) == Counter(batch.tokens[1:].tolist())
    assert (inputs[real] + 1 == targets[real]).all()
    assert (inputs[~real] == 0).all() and (targets[~real] == -1).all()


@LAW
@given(batches(), st.integers(0, 50))
def test_only_one_window_of_an_epoch_is_not_full(batch: Batches, epoch: int) -> None:
    _, targets = rows_of(batch, epoch * batch.windows, batch.windows)
    assert sum((row < 0).any() for row in targets) == (batch.ring % batch.context > 0)


@LAW
@given(batches(), st.integers(0, 1000), st.data())
def test_any_slices_of_a_batch_are_the_whole_batch(batch: Batches, step: int, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, batch.batch), max_size=4)))
    cuts = [0, *cuts, batch.batch]
    whole = batch.rows(step, 0, batch.batch)
    parts = [batch.rows(step, start, stop) for start, stop in pairwise(cuts)]
    for side in (0, 1):
        assert (np.concatenate([part[side] for part in parts]) == whole[side]).all()
        assert whole[side].dtype == np.int64 and whole[side].shape == (batch.batch, batch.context)


@LAW
@given(batches(), st.integers(0, 1000))
def test_a_batch_depends_on_nothing_but_seed_and_step(batch: Batches, step: int) -> None:
    again = Batches(batch.tokens.copy(), batch.context, batch.batch, batch.seed)
    again.rows(step + 1, 0, batch.batch)  # what was asked before leaves no trace
    for one, other in zip(batch.rows(step, 0, batch.batch), again.rows(step, 0, batch.batch), strict=True):
        assert (one == other).all()


@LAW
@given(batches(), st.integers(2, 20))
def test_the_size_of_the_batch_does_not_change_the_order_of_the_rows(batch: Batches, size: int) -> None:
    other = Batches(batch.tokens, batch.context, size, batch.seed)
    assert (rows_of(batch, 0, 40)[1] == rows_of(other, 0, 40)[1]).all()


def test_seeds_and_epochs_have_orders_of_their_own() -> None:
    tokens = np.arange(10_001)
    orders = [
        rows_of(Batches(tokens, 10, 8, seed), epoch * 1000, 1000)[0][:, 0] for seed in range(3) for epoch in range(2)
    ]
    for number, order in enumerate(orders):
        assert all((order != other).mean() > 0.99 for other in orders[:number])


def test_an_epoch_begins_at_places_spread_over_the_first_context() -> None:
    batch = Batches(np.arange(1, 1002), 10, 8, seed=1)
    starts = {int(rows_of(batch, epoch * batch.windows, 1)[0][0, 0]) % 10 for epoch in range(60)}
    assert len(starts) == 10


@LAW
@given(st.integers(1, 500), st.integers(0, 2**62))
def test_the_order_of_an_epoch_is_a_permutation(size: int, key: int) -> None:
    assert sorted(permuted(np.arange(size), size, key).tolist()) == list(range(size))


def test_the_order_looks_drawn_at_random() -> None:
    size = 1000
    orders = np.stack([permuted(np.arange(size), size, key) for key in range(50)]) / size
    assert abs(np.corrcoef(orders[:, :-1].ravel(), orders[:, 1:].ravel())[0, 1]) < 0.02
    assert abs(np.corrcoef(orders.ravel(), np.tile(np.arange(size), 50))[0, 1]) < 0.02
    where = Counter(int(permuted(np.array([3]), 10, key)[0]) for key in range(3000))
    assert all(230 < where[place] < 370 for place in range(10))


def test_a_place_in_a_huge_epoch_is_found_without_the_rest() -> None:
    size = 10**15
    places = permuted(np.arange(size - 5, size), size, key=1)
    assert len(set(places.tolist())) == 5 and places.min() >= 0 and places.max() < size


def test_an_epoch_and_a_half_in_one_batch_is_still_every_token_in_turn() -> None:
    batch = Batches(np.arange(1, 6), context=4, batch=3, seed=0)
    _, targets = batch.rows(0, 0, 3)
    assert batch.windows == 1 and batch.steps_per_epoch == pytest.approx(1 / 3)
    assert [sorted(row) for row in targets.tolist()] == [[2, 3, 4, 5]] * 3


@pytest.mark.parametrize(("size", "context"), [(10, 10), (1, 1), (0, 4)])
def test_a_context_longer_than_the_text_is_refused_with_numbers(size: int, context: int) -> None:
    with pytest.raises(
        ConfigError, match=f"context {context} is longer than a text of {size} tokens can fill; choose at"
    ):
        Batches(np.arange(size), context, 1, 0)


def test_sizes_and_rows_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match="context 0 and batch 1 are too small; give at least 1"):
        Batches(np.arange(9), 0, 1, 0)
    for step, start, stop in ((-1, 0, 1), (0, 2, 1), (0, 0, 5), (0, -1, 1)):
        line = f"rows {start} to {stop} of step {step} are not in a batch of 4; count from 0"
        with pytest.raises(ConfigError, match=line):
            Batches(np.arange(9), 2, 4, 0).rows(step, start, stop)
    with pytest.raises(ConfigError, match="context 4 and rows 0 are too small; give at least 1"):
        windows(np.arange(9), 4, 0)


@LAW
@given(st.integers(0, 100), st.integers(1, 30), st.integers(1, 8))
def test_an_evaluation_predicts_every_token_but_the_first_once_and_in_order(size: int, context: int, rows: int) -> None:
    found = list(windows(np.arange(1, size + 1, dtype=np.uint32), context, rows))
    assert all(x.shape == y.shape and 0 < len(x) <= rows and x.shape[1] == context for x, y in found)
    inputs = np.concatenate([x.reshape(-1) for x, _ in found] or [np.empty(0, np.int64)])
    targets = np.concatenate([y.reshape(-1) for _, y in found] or [np.empty(0, np.int64)])
    predicted = max(0, size - 1)
    assert targets[:predicted].tolist() == list(range(2, size + 1)) and (targets[predicted:] == -1).all()
    assert inputs[:predicted].tolist() == list(range(1, size)) and (inputs[predicted:] == 0).all()
    assert len(targets) - predicted < context
