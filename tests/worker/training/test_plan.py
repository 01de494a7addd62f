"""The steps of a run whose pairs are filtered before each epoch."""

from hypothesis import given
from hypothesis import strategies as st

from chesboard.configs import TrainConfig
from worker.training.plan import Plan

FILTER = {"reward_model": "judge"}


@st.composite
def filtered(draw):
    """A configuration, and the pairs that are left in each of its epochs."""
    pairs = draw(st.integers(1, 12))
    left, epochs = frozenset(range(pairs)), []
    for _ in range(draw(st.integers(1, 4))):
        left = frozenset(draw(st.sets(st.sampled_from(sorted(left))))) if left else left
        epochs.append(left)
    config = TrainConfig(
        batch_size=draw(st.integers(1, 5)),
        epochs=len(epochs),
        extend_sft_epochs=draw(st.integers(0, 2)),
        max_steps=draw(st.none() | st.integers(1, 8)),
        shuffle=draw(st.booleans()),
        scheduler="linear",
        learning_rate=1.0,
        refresh_filter=FILTER,
    )
    return config, pairs, epochs


@given(filtered())
def test_each_epoch_has_the_pairs_that_are_left_of_it_once(case):
    config, pairs, epochs = case
    first = Plan(config, pairs)
    plan, step, batches = first, first.first_steps, []
    while True:
        if plan.next_filter == step:
            plan = plan.with_epoch(epochs[len(plan.left)])
        if step >= plan.steps:
            break
        step += 1
        assert not plan.is_first_phase(step)
        assert 0 < plan.learning_rate(step) <= 1
        batches.append((len(plan.left), list(plan.batch(step))))
    whole = []
    for epoch, left in enumerate(epochs, start=1):
        # The order is that of a run without a filter, as far as the pairs are left.
        plain = Plan(config.model_copy(update={"refresh_filter": None, "max_steps": None}), pairs)
        an_epoch = (plain.steps - plain.first_steps) // len(epochs)
        begins = plain.first_steps + (epoch - 1) * an_epoch
        order = [i for s in range(begins + 1, begins + an_epoch + 1) for i in plain.batch(s)]
        order = [index for index in order if index in left]
        size = config.batch_size
        whole += [(epoch, order[i : i + size]) for i in range(0, len(order), size)]
    assert batches == whole[: config.max_steps]


@given(filtered())
def test_a_plan_that_resumes_at_a_step_is_the_one_that_the_step_was_planned_by(case):
    config, pairs, epochs = case
    plan = Plan(config, pairs)
    plans, step = {}, plan.first_steps
    while True:
        plans[step] = plan
        if plan.next_filter == step:
            plan = plan.with_epoch(epochs[len(plan.left)])
        if step >= plan.steps:
            break
        step += 1
    for at, expected in plans.items():
        again = Plan(config, pairs)
        while again.next_filter is not None and again.next_filter < at:
            again = again.with_epoch(epochs[len(again.left)])
        assert (again.left, again.steps) == (expected.left, expected.steps)


def test_a_run_without_a_filter_never_filters():
    assert Plan(TrainConfig(epochs=3), 8).next_filter is None
