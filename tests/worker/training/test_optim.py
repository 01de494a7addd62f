import pytest
import torch
from torch.nn import Parameter

from chesboard.configs import TrainConfig
from worker.training.optim import clip_gradients, learning_rate, make_optimizer, set_learning_rate


def rates(steps=10, **settings):
    config = TrainConfig(learning_rate=1.0, **settings)
    return [learning_rate(config, step, steps) for step in range(1, steps + 1)]


def test_constant_rate_stays():
    assert rates() == [1.0] * 10


def test_warmup_rises_evenly_to_the_full_rate():
    assert rates(warmup_steps=4)[:6] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])


def test_linear_rate_falls_evenly_and_would_be_zero_after_the_last_step():
    assert rates(steps=4, scheduler="linear") == pytest.approx([1.0, 0.75, 0.5, 0.25])


def test_cosine_rate_is_half_in_the_middle():
    values = rates(steps=10, scheduler="cosine")
    assert values[0] == 1.0
    assert values[5] == pytest.approx(0.5)
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize("scheduler", ["constant", "linear", "cosine"])
def test_warmup_longer_than_the_run_never_divides_by_zero(scheduler):
    values = rates(steps=3, warmup_steps=100, scheduler=scheduler)
    assert all(0 < value <= 1 for value in values)


def step_once(optimizer, gradient, **config):
    parameter = Parameter(torch.ones(2, 2))
    optimizer = make_optimizer([parameter], TrainConfig(optimizer=optimizer, **config))
    parameter.grad = torch.full((2, 2), gradient)
    optimizer.step()
    return 1 - parameter[0, 0].item()


def test_first_steps_of_each_optimizer():
    assert step_once("sgd", 3.0, learning_rate=0.01) == pytest.approx(0.03, rel=1e-4)
    assert step_once("adamw", 3.0, learning_rate=0.01) == pytest.approx(0.01, rel=1e-4)
    # RMSprop starts its mean of squares at zero: 1 / sqrt(1 - 0.99) = 10 learning rates
    assert step_once("rmsprop", 3.0, learning_rate=0.01) == pytest.approx(0.1, rel=1e-4)


def test_weight_decay_of_adamw_is_decoupled_and_spares_vectors():
    matrix, vector = Parameter(torch.ones(2, 2)), Parameter(torch.ones(2))
    config = TrainConfig(optimizer="adamw", learning_rate=0.1, weight_decay=0.5)
    optimizer = make_optimizer([matrix, vector], config)
    matrix.grad, vector.grad = torch.zeros(2, 2), torch.zeros(2)
    optimizer.step()
    assert matrix[0, 0].item() == pytest.approx(1 - 0.1 * 0.5)
    assert vector[0].item() == 1.0


def test_learning_rate_is_set_in_every_group():
    optimizer = make_optimizer(
        [Parameter(torch.ones(2, 2)), Parameter(torch.ones(2))], TrainConfig()
    )
    set_learning_rate(optimizer, 0.25)
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 0.25]


@pytest.mark.parametrize(("limit", "scaled"), [(None, 3.0), (10.0, 3.0), (2.5, 1.5)])
def test_clipping_scales_the_whole_gradient_and_tells_its_norm(limit, scaled):
    parameters = [Parameter(torch.zeros(1)), Parameter(torch.zeros(1)), Parameter(torch.zeros(1))]
    parameters[0].grad, parameters[1].grad = torch.tensor([3.0]), torch.tensor([4.0])
    assert clip_gradients(parameters, limit).item() == pytest.approx(5.0)
    assert parameters[0].grad.item() == pytest.approx(scaled, rel=1e-5)
