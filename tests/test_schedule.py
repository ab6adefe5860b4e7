"""The learning rate as a function of the step."""

from hypothesis import given
from hypothesis import strategies as st

from octavo.schedule import Schedule


@given(steps=st.integers(1, 5000), warmup=st.floats(0, 0.5), decay=st.floats(0, 1))
def test_the_rate_is_positive_at_every_step_and_never_above_one(steps: int, warmup: float, decay: float) -> None:
    schedule = Schedule.planned(steps, warmup=warmup, decay=decay)
    assert all(0 < schedule.rate(step) <= 1 for step in range(steps))
    assert schedule.rate(steps) == 0


@given(steps=st.integers(10, 1000), at=st.integers(0, 999), to=st.integers(10, 2000))
def test_moving_the_end_leaves_what_has_been_and_never_jumps_up(steps: int, at: int, to: int) -> None:
    before = Schedule.planned(steps, warmup=0.02, decay=0.5)
    if not at < min(steps, to):
        return
    after = before.replanned(at, to, 0.5)
    assert after.steps == to and after.rate(to) == 0
    assert after.rate(at) <= max(before.rate(at), before.rate(at - 1) if at else 1) + 1e-12
    falling = [after.rate(step) for step in range(max(at, after.falls_from), to)]
    assert falling == sorted(falling, reverse=True)
