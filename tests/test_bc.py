"""BC against an independent implementation, and its optimum against numbers worked out by hand."""

import types
from pathlib import Path

import oracle_bc
import pytest
import torch
from lom_by_hand import WholeDataset
from oracle_lom import layers_of
from torch.testing import assert_close

from lom_exp.algorithms import bc
from lom_exp.networks import network
from lom_exp.random import Rng
from lom_exp.types import Transitions

pytestmark = pytest.mark.usefixtures("float64")

LOSSES = ("log_likelihood", "squared_error")


def rng(update=0, phase="policy"):
    return Rng.of(torch.tensor(5), phase, torch.tensor(update))


def transitions(kind, observations, actions):
    size = len(actions)
    return kind(
        observations=observations,
        actions=actions,
        rewards=torch.zeros(size),
        next_observations=observations,
        next_actions=actions,
        terminations=torch.zeros(size),
    )


def assert_same_training(policy_loss, oracle_class=oracle_bc.Bc):
    config = bc.Config(policy_loss, learning_rate=0.02, batch_size=7, hidden_sizes=(6, 8))
    generator = torch.Generator().manual_seed(0)
    observations = torch.randn(19, 4, generator=generator)
    actions = torch.randn(19, 3, generator=generator).clamp(-1, 1)
    data = transitions(Transitions, observations, actions)
    state = bc.init(4, 3, config, rng(phase="init"))
    layers, _ = state.policy.params
    log_std = torch.tensor([-0.4, 0.1, 0.3])
    state = bc.State(network((layers, log_std)))
    oracle = oracle_class(config, data._asdict(), layers, log_std)
    for update in range(8):
        state, ours = bc.update_policy(state, data, config, rng(update))
        theirs = oracle.update_policy(rng(update).integers("policy/batch", 19, (7,)))
        theirs = {name: value.detach() for name, value in theirs.items()}
        assert_close(ours, theirs, rtol=1e-8, atol=1e-8)
        expected = (layers_of(oracle.policy), oracle.log_std.detach())
        assert_close(state.policy.params, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("policy_loss", LOSSES)
def test_training_equals_the_oracles(policy_loss):
    assert_same_training(policy_loss)


@pytest.mark.parametrize("policy_loss", LOSSES)
@pytest.mark.parametrize(
    ("line", "mistaken_line"),
    [
        ("cost / (len(rows) * len(action))", "cost / len(rows)"),
        ("cost / (len(rows) * len(action))", "cost / len(action)"),
        ("torch.tanh(self.policy(", "(self.policy("),
        ('self.data["actions"][row]', 'self.data["actions"][row - 1]'),
    ],
)
def test_a_planted_mistake_is_noticed(line, mistaken_line, policy_loss):
    source = Path(oracle_bc.__file__).read_text()
    assert source.count(line) == 1
    mistaken = types.ModuleType("mistaken_oracle")
    exec(compile(source.replace(line, mistaken_line), "mistaken", "exec"), mistaken.__dict__)
    with pytest.raises(AssertionError, match="not close"):
        assert_same_training(policy_loss, mistaken.Bc)


def fitted(policy_loss, actions):
    """Mean (A,) and std (A,) of a policy without layers to hide in, trained on one observation."""
    config = bc.Config(policy_loss, learning_rate=0.02)
    data = transitions(WholeDataset, torch.zeros(len(actions), 1), actions)
    action_dim = actions.shape[1]
    layers = [(torch.zeros(action_dim, 1), torch.full((action_dim,), 0.3))]
    state = bc.State(network((layers, torch.full((action_dim,), -0.5))))
    for update in range(600):
        rate = 0.02 if update < 500 else 0.001
        config = bc.Config(policy_loss, learning_rate=rate)
        state, _ = bc.update_policy(state, data, config, rng(update))
    mean = bc.act(state, torch.zeros(1, 1), config, rng())[0]
    return mean, state.policy.params[1].exp()


def test_of_two_opposite_actions_the_average_is_learned():
    mean, std = fitted("log_likelihood", torch.tensor([[-1.0], [1.0]]))
    assert mean.item() == pytest.approx(0, abs=1e-3)
    assert std.item() == pytest.approx(1, abs=1e-3)


def test_both_losses_have_the_mean_action_and_the_likelihood_the_residuals_rms():
    actions = torch.tensor([[0.1, -0.9], [0.5, -0.3], [-0.3, -0.3]])
    likely, std = fitted("log_likelihood", actions)
    closest, untouched = fitted("squared_error", actions)
    assert_close(likely, torch.tensor([0.1, -0.5]), atol=1e-3, rtol=0)
    assert_close(closest, torch.tensor([0.1, -0.5]), atol=1e-3, rtol=0)
    assert_close(std, torch.tensor([(0.32 / 3) ** 0.5, (0.24 / 3) ** 0.5]), atol=1e-3, rtol=0)
    assert_close(untouched.log(), torch.tensor([-0.5, -0.5]))


def test_the_policy_starts_with_a_std_of_one():
    state = bc.init(4, 3, bc.Config(), rng(phase="init"))
    assert state.policy.params[1].exp().tolist() == [1.0, 1.0, 1.0]


def test_the_initial_loss_of_a_hand_made_batch():
    """Mean 0 and std 1: log(2 pi) / 2 = 0.918939, and half the mean square of the actions."""
    data = transitions(WholeDataset, torch.zeros(2, 1), torch.tensor([[0.6, 0.0], [0.0, -0.8]]))
    state = bc.State(network(([(torch.zeros(2, 1), torch.zeros(2))], torch.zeros(2))))
    losses = [
        bc.update_policy(state, data, bc.Config(policy_loss), rng())[1]["policy/loss"].item()
        for policy_loss in LOSSES
    ]
    assert losses == pytest.approx([0.918939 + 0.125, 0.25], abs=1e-6)


def test_the_policy_acts_within_the_box_and_without_noise():
    config = bc.Config(hidden_sizes=(6,))
    state = bc.init(3, 2, config, rng())
    observations = 1e3 * torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    actions = bc.act(state, observations, config, rng())
    assert actions.shape == (7, 2)
    assert actions.abs().amax() <= 1
    assert (actions == bc.act(state, observations, config, rng(update=9))).all()
