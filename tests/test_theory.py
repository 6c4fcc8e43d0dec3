"""Proposition 1 and Theorem 1 of LOM on random tabular MDPs, and LOM's losses beside them.

A mixture over the actions of a finite MDP is M distributions over its A actions in each of its S
states, and their weights. Every value is the solution of a linear system; nothing is sampled. The
paper's letters: phi are the components, alpha their weights, pi_b the behavior they make up, zeta
a hyper-policy, which chooses components, Q_H the hyper-Q. What was found:

- Proposition 1 holds as printed, for every hyper-policy, discount and horizon. (The lines of its
  proof, Eq. 20, leave out that p(s_{t+1} | zeta) is conditional on the first state and action.)
- Theorem 1 holds for an infinite horizon. For the finite T that Eq. 1, 4 and 5 print it does not:
  zeta_g knows only the state, and what is best with T steps to go may be worst with one. It does
  hold if zeta_g is greedy for the steps that are left.
- It needs the maximum over all components: with a min_component_weight above 0, which leaves some
  out, it can fail. With a hyper-Q that is off by e it holds up to 2 e / (1 - discount).
- Theorem 2's V(pi_L) >= V(pi_g) holds for the advantage of pi_g, as its proof has it. Algorithm 1
  takes the advantage from the behavior's critic; what then holds is V(pi_L) >= V(pi_b) only.

Shapes: S states, A actions, M components.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lom_by_hand import WholeDataset, behavior, dataset, rng
from numpy.typing import NDArray
from torch.testing import assert_close

from lom_exp.algorithms import lom
from lom_exp.networks import network

Array = NDArray[np.float64]


class Mdp(NamedTuple):
    """A finite MDP; an end is a state that is never left and earns nothing."""

    dynamics: Array  # (S, A, S)
    rewards: Array  # (S, A)
    discount: float


class Mixture(NamedTuple):
    weights: Array  # (S, M), alpha
    components: Array  # (S, M, A), phi


def q_values(mdp: Mdp, policy: Array) -> Array:
    """Q (S, A) of a policy (S, A): one linear system over all pairs of a state and an action."""
    states, actions = policy.shape
    pairs = states * actions
    chain = mdp.dynamics.reshape(pairs, states)[:, :, None] * policy  # to the next pair
    system = np.eye(pairs) - mdp.discount * chain.reshape(pairs, pairs)
    return np.linalg.solve(system, mdp.rewards.ravel()).reshape(states, actions)


def values(mdp: Mdp, policy: Array) -> Array:
    """V (S,) of a policy (S, A): a linear system over the states."""
    chain = np.einsum("sa,sat->st", policy, mdp.dynamics)
    rewards = (policy * mdp.rewards).sum(-1)
    return np.linalg.solve(np.eye(len(policy)) - mdp.discount * chain, rewards)


def finite_q_values(mdp: Mdp, policies: list[Array]) -> Array:
    """Q (S, A) of as many steps as there are policies, which are followed in their order."""
    continuation = np.zeros(len(mdp.rewards))
    for policy in reversed(policies):
        q = mdp.rewards + mdp.discount * mdp.dynamics @ continuation
        continuation = (policy * q).sum(-1)
    return q


def hyper_mdp(mdp: Mdp, components: Array) -> Mdp:
    """Section 4.2: the MDP whose actions are the components."""
    return Mdp(
        np.einsum("sma,sat->smt", components, mdp.dynamics),
        np.einsum("sma,sa->sm", components, mdp.rewards),
        mdp.discount,
    )


def composite(hyper_policy: Array, components: Array) -> Array:
    """Eq. 3: the policy (S, A) of a hyper-policy (S, M)."""
    return np.einsum("sm,sma->sa", hyper_policy, components)


def greedy(hyper_qs: Array) -> Array:
    """Eq. 7: all on a component of the highest hyper-Q, (S, M)."""
    return np.eye(hyper_qs.shape[1])[hyper_qs.argmax(-1)]


def scale(mdp: Mdp) -> float:
    """No value's magnitude is above it."""
    return float(np.abs(mdp.rewards).max()) / (1 - mdp.discount) + 1e-300


def assert_no_worse(mdp: Mdp, policy: Array, than: Array) -> None:
    """Everywhere, but for rounding."""
    assert (values(mdp, policy) - values(mdp, than)).min() >= -1e-9 * scale(mdp)


def distributions(generator: np.random.Generator, evenness: float, *shape: int) -> Array:
    """Random distributions over the last axis: 0.01 is all but deterministic, 100 all but even."""
    drawn = generator.gamma(evenness, size=shape) + 1e-300
    return drawn / drawn.sum(-1, keepdims=True)


EVENNESS = st.sampled_from([0.01, 0.1, 1.0, 100.0])


@st.composite
def problems(draw: st.DrawFn) -> tuple[Mdp, Mixture]:
    """MDPs and mixtures, the awkward ones among them.

    Absorbing states, next to no or long memory, rare and huge rewards, components that nobody
    plays, and components that are the same.
    """
    states, actions, modes = (draw(st.integers(1, high)) for high in (6, 5, 4))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dynamics = distributions(generator, draw(EVENNESS), states, actions, states)
    rewards = generator.normal(size=(states, actions)) * draw(st.sampled_from([1e-6, 1.0, 1e6]))
    if draw(st.booleans()):
        rewards *= generator.random((states, actions)) < 0.3
    if draw(st.booleans()):
        dynamics[0], rewards[0] = np.eye(states)[0], 0.0
    weights = distributions(generator, draw(EVENNESS), states, modes)
    components = distributions(generator, draw(EVENNESS), states, modes, actions)
    if modes > 1 and draw(st.booleans()):
        weights[:, 0] = 0.0
        weights /= weights.sum(-1, keepdims=True)
    if modes > 1 and draw(st.booleans()):
        components[0] = components[0, 0]
    discount = draw(st.sampled_from([0.0, 0.5, 0.9, 0.99, 0.999]))
    return Mdp(dynamics, rewards, discount), Mixture(weights, components)


many = settings(max_examples=150, deadline=None)


@many
@given(problems(), st.integers(0, 2**32 - 1))
def test_the_hyper_q_is_the_expected_q_of_the_components_actions(problem, seed):
    """Proposition 1 (Eq. 6). Left: the hyper-MDP is solved as an MDP of its own, as Eq. 5 says."""
    mdp, (weights, components) = problem
    generator = np.random.default_rng(seed)
    for hyper_policy in (weights, distributions(generator, 0.3, *weights.shape)):
        hyper_qs = q_values(hyper_mdp(mdp, components), hyper_policy)
        qs = q_values(mdp, composite(hyper_policy, components))
        expected = np.einsum("sma,sa->sm", components, qs)
        np.testing.assert_allclose(hyper_qs, expected, rtol=1e-9, atol=1e-10 * scale(mdp))


@many
@given(problems(), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_the_hyper_q_is_that_expectation_at_every_horizon_and_without_discount(
    problem, steps, seed
):
    """Proposition 1 with the finite T of Eq. 5, where the hyper-policy may change with time."""
    mdp, (weights, components) = problem
    generator = np.random.default_rng(seed)
    plans = [distributions(generator, 0.3, *weights.shape) for _ in range(steps)]
    for discount in (mdp.discount, 1.0):
        finite = mdp._replace(discount=discount)
        hyper_qs = finite_q_values(hyper_mdp(finite, components), plans)
        qs = finite_q_values(finite, [composite(plan, components) for plan in plans])
        expected = np.einsum("sma,sa->sm", components, qs)
        atol = 1e-12 * steps * np.abs(mdp.rewards).max()
        np.testing.assert_allclose(hyper_qs, expected, rtol=1e-12, atol=atol)


def behavior_hyper_qs(mdp: Mdp, mixture: Mixture) -> Array:
    return q_values(hyper_mdp(mdp, mixture.components), mixture.weights)


def one_mode(mdp: Mdp, mixture: Mixture) -> Array:
    """The composite policy (S, A) of the greedy hyper-policy."""
    return composite(greedy(behavior_hyper_qs(mdp, mixture)), mixture.components)


@many
@given(problems())
def test_choosing_the_component_of_highest_hyper_q_is_no_worse_than_the_behavior(problem):
    """Theorem 1 (Eq. 8)."""
    mdp, mixture = problem
    assert_no_worse(mdp, one_mode(mdp, mixture), than=composite(*mixture))


@many
@given(problems())
def test_it_is_better_wherever_it_ever_meets_a_choice_and_equal_elsewhere(problem):
    """The advantage of the choice, summed over the states to come, is the improvement."""
    mdp, mixture = problem
    policy, old = one_mode(mdp, mixture), composite(*mixture)
    advantage = behavior_hyper_qs(mdp, mixture).max(-1) - values(mdp, old)  # (S,), >= 0
    assert advantage.min() >= -1e-9 * scale(mdp)
    gained = values(mdp._replace(rewards=np.broadcast_to(advantage[:, None], old.shape)), policy)
    improvement = values(mdp, policy) - values(mdp, old)
    np.testing.assert_allclose(improvement, gained, rtol=1e-6, atol=1e-8 * scale(mdp))


@many
@given(problems(), st.sampled_from([1e-3, 0.1, 1.0]), st.integers(0, 2**32 - 1))
def test_a_hyper_q_that_is_off_by_e_costs_at_most_2e_over_1_minus_the_discount(
    problem, share, seed
):
    """The form of Theorem 1 that a learned hyper-Q can have."""
    mdp, mixture = problem
    error = share * np.abs(mdp.rewards).max()
    exact = behavior_hyper_qs(mdp, mixture)
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], exact.shape)
    against = np.where(greedy(exact) > 0, -1.0, 1.0)  # the best looks worse, the others better
    for off in (signs, against):
        policy = composite(greedy(exact + error * off), mixture.components)
        loss = (values(mdp, composite(*mixture)) - values(mdp, policy)).max()
        assert loss <= 2 * error / (1 - mdp.discount) + 1e-9 * scale(mdp)


def finite_loss(mdp: Mdp, mixture: Mixture, steps: int) -> float:
    """The most, over states, that the greedy hyper-policy of Eq. 7 loses against the behavior."""
    hyper = hyper_mdp(mdp, mixture.components)
    chosen = greedy(finite_q_values(hyper, [mixture.weights] * steps))
    new = (chosen * finite_q_values(hyper, [chosen] * steps)).sum(-1)
    old = (mixture.weights * finite_q_values(hyper, [mixture.weights] * steps)).sum(-1)
    return float((old - new).max())


def infinite_loss(mdp: Mdp, mixture: Mixture) -> float:
    old = values(mdp, composite(*mixture))
    return float((old - values(mdp, one_mode(mdp, mixture))).max())


def worst_found(loss, starts: int, moves: int) -> float:
    """The greatest loss that hill climbing over MDPs and mixtures can find."""
    generator = np.random.default_rng(0)
    worst = -np.inf

    def tables() -> list[Array]:  # of logits, and of rewards in [-1, 1]
        shapes = (3, 3, 3), (3, 3), (3, 2), (3, 2, 3)
        return [2 * generator.normal(size=shape) for shape in shapes]

    def problem(drawn: list[Array]) -> tuple[Mdp, Mixture]:
        dynamics, weights, components = (
            np.exp(table) / np.exp(table).sum(-1, keepdims=True)
            for table in (drawn[0], drawn[2], drawn[3])
        )
        return Mdp(dynamics, np.tanh(drawn[1]), 0.9), Mixture(weights, components)

    for _ in range(starts):
        here = tables()
        height = loss(*problem(here))
        for _ in range(moves):
            there = [table + 0.3 * step for table, step in zip(here, tables(), strict=True)]
            found = loss(*problem(there))
            if found > height:
                here, height = there, found
        worst = max(worst, height)
    return worst


def test_a_search_for_a_counterexample_finds_none_but_does_where_there_are_some():
    assert worst_found(infinite_loss, starts=5, moves=150) <= 1e-12
    assert worst_found(lambda *problem: finite_loss(*problem, 3), starts=5, moves=150) > 0.01


def test_with_three_steps_as_printed_choosing_the_best_component_can_be_worse():
    """To invest pays 3 one step later, which pays unless it is the last step; to cash pays 1.

    In state 0 the behavior invests (to state 1) or cashes (and stays) with equal probability; in
    state 1 every action pays 3 and leads back to 0. With three steps to go investing is worth
    0 + 3 + 1/2 and cashing 1 + (3 + 3/2) / 2, so that the greedy hyper-policy invests: 0, 3, 0.
    """
    leave, stay = [0.0, 1.0], [1.0, 0.0]
    mdp = Mdp(np.array([[leave, stay], [stay, stay]]), np.array([[0.0, 1.0], [3.0, 3.0]]), 1.0)
    mixture = Mixture(np.full((2, 2), 0.5), np.array([np.eye(2)] * 2))
    hyper = hyper_mdp(mdp, mixture.components)
    three_steps = [mixture.weights] * 3
    hyper_qs = finite_q_values(hyper, three_steps)
    assert hyper_qs[0].tolist() == [3.5, 3.25]
    chosen = greedy(hyper_qs)
    assert (mixture.weights * hyper_qs).sum(-1)[0] == 3.375
    assert (chosen * finite_q_values(hyper, [chosen] * 3)).sum(-1)[0] == 3.0
    assert finite_loss(mdp, mixture, 3) == 0.375


@many
@given(problems(), st.integers(1, 6))
def test_choosing_for_the_steps_that_are_left_is_no_worse_at_any_horizon(problem, steps):
    """The form of Theorem 1 that holds for a finite T."""
    mdp, mixture = problem
    hyper = hyper_mdp(mdp._replace(discount=1.0), mixture.components)
    behavior_plan = [mixture.weights] * steps
    plan = [greedy(finite_q_values(hyper, behavior_plan[t:])) for t in range(steps)]
    new = (plan[0] * finite_q_values(hyper, plan)).sum(-1)
    old = (mixture.weights * finite_q_values(hyper, behavior_plan)).sum(-1)
    assert (new - old).min() >= -1e-12 * steps * np.abs(mdp.rewards).max()


def test_leaving_out_light_components_can_be_worse_than_the_behavior():
    """One state, rewards 0 and 1, weights 0.7 and 0.3: without the lighter one 0.3 becomes 0."""
    mdp = Mdp(np.ones((1, 2, 1)), np.array([[0.0, 1.0]]), 0.5)
    mixture = Mixture(np.array([[0.7, 0.3]]), np.array([np.eye(2)]))
    assert values(mdp, composite(*mixture))[0] == pytest.approx(0.3 / 0.5)

    def value_of_choice(min_component_weight: float) -> float:
        config = lom.Config(num_components=2, min_component_weight=min_component_weight)
        hyper_qs = torch.from_numpy(behavior_hyper_qs(mdp, mixture))
        chosen, _ = lom.choose_component(hyper_qs, torch.tensor(mixture.weights).log(), config)
        policy = composite(np.eye(2)[chosen.numpy()], mixture.components)
        return float(values(mdp, policy)[0])

    assert value_of_choice(0.0) == pytest.approx(1 / 0.5)
    assert value_of_choice(0.4) == 0.0


def weighted(policy: Array, advantages: Array, max_weight: float) -> Array:
    """What weighted imitation of a policy (S, A) tends to, the weights clipped (Eq. 11, 18)."""
    with np.errstate(over="ignore"):
        weights = np.minimum(np.exp(advantages), max_weight)
    found = policy * weights
    return found / found.sum(-1, keepdims=True)


@many
@given(problems(), st.sampled_from([0.2, 5.0]), st.sampled_from([1.5, 50.0]))
def test_weighting_by_the_advantage_improves_on_whom_the_advantage_is_of(
    problem, inverse_temperature, max_weight
):
    """Theorem 2, for the advantage of its proof and for that of Algorithm 1; clipped or not."""
    mdp, mixture = problem
    mdp = mdp._replace(rewards=mdp.rewards / (np.abs(mdp.rewards).max() + 1e-300))
    chosen, old = one_mode(mdp, mixture), composite(*mixture)

    def improved(reference: Array) -> Array:
        qs = q_values(mdp, reference)
        baseline = (chosen * qs).sum(-1, keepdims=True)
        return weighted(chosen, inverse_temperature * (qs - baseline), max_weight)

    assert_no_worse(mdp, improved(chosen), than=chosen)
    assert_no_worse(mdp, improved(chosen), than=old)
    assert_no_worse(mdp, improved(old), than=old)


def test_weighting_by_the_behaviors_advantage_can_be_worse_than_not_weighting():
    """Why V(pi_L) >= V(pi_g) is not promised by Algorithm 1, line 15.

    The one component of state 0 stops with reward 1 or goes on to state 1 for nothing, where one
    component earns 3 and one -3. The behavior earns 0 there on average, so its critic prefers to
    stop; but who chooses the better component there, as pi_g does, should go on.
    """
    end = [0.0, 0.0, 1.0]
    mdp = Mdp(
        np.array([[end, [0.0, 1.0, 0.0]], [end, end], [end, end]]),
        np.array([[1.0, 0.0], [3.0, -3.0], [0.0, 0.0]]),
        0.9,
    )
    components = np.array([[[0.5, 0.5], [0.5, 0.5]], np.eye(2), np.eye(2)])
    mixture = Mixture(np.full((3, 2), 0.5), components)
    old, chosen = composite(*mixture), one_mode(mdp, mixture)
    qs = q_values(mdp, old)
    assert qs[0].tolist() == pytest.approx([1.0, 0.0])
    advantages = qs - (chosen * qs).sum(-1, keepdims=True)
    learned = weighted(chosen, 5.0 * advantages, max_weight=50.0)
    stopping = 1 / (1 + np.exp(-5.0))
    assert values(mdp, learned)[0] == pytest.approx(stopping + (1 - stopping) * 2.7)  # 1.01
    assert values(mdp, chosen)[0] == pytest.approx(0.5 + 0.5 * 2.7)  # 1.85
    assert values(mdp, old)[0] == pytest.approx(0.5)


# LOM itself on such MDPs. An action is a number, of which the MDP sees in which of A bins it lies,
# so that a Gaussian is a distribution over the bins. In the place of random numbers come the
# midpoints of the normal's POINTS equal slices, in which every expectation is an exact mean.

POINTS, STATES, MODES = 8, 4, 3
EDGES = torch.tensor([-0.45, -0.1, 0.2, 0.5], dtype=torch.float64)  # between the bins
WIDTH = 1e-4  # over which the critic goes from one bin's value to the next
CONFIG = lom.Config(
    num_components=MODES,
    squash_means=False,
    smoothing_std=0.0,
    discount=0.9,
    hyper_critic_samples=POINTS,
    baseline="hyper_critic",
)


def quantiles() -> torch.Tensor:
    return torch.special.ndtri((torch.arange(POINTS) + 0.5) / POINTS)


class Slices:
    """In place of random noise: slice number i of POINTS along an axis, again and again.

    The axis is that of a component's samples, (M, samples, B, A), or otherwise the first.
    """

    def normal(self, stream, shape):
        axis = 1 if stream == "components" else 0
        repeated = quantiles().repeat(shape[axis] // POINTS)
        return repeated.view(-1, *[1] * (len(shape) - axis - 1)).expand(shape)


class Continuous(NamedTuple):
    """A tabular problem whose components are Gaussians over numbers."""

    mdp: Mdp
    mixture: Mixture  # over the bins
    behavior: torch.Tensor  # (M, 2): means and stds, the same in every state
    parts: NDArray[np.int64]  # (M,): the components' weights are parts of their sum


def continuous(seed: int) -> Continuous:
    """Two equally likely next states of each pair; the weights are the same in every state."""
    generator = np.random.default_rng(seed)
    bins = len(EDGES) + 1
    targets = generator.integers(0, STATES, (STATES, bins, 2))
    mdp = Mdp(
        np.eye(STATES)[targets].mean(-2), generator.normal(size=(STATES, bins)), CONFIG.discount
    )
    gaussians = torch.tensor(
        [(generator.uniform(-0.5, 0.5), generator.uniform(0.05, 0.3)) for _ in range(MODES)]
    )
    points = gaussians[:, :1] + gaussians[:, 1:] * quantiles()  # (M, POINTS)
    played = np.eye(bins)[torch.bucketize(points, EDGES).numpy()].mean(-2)  # (M, A)
    parts = generator.integers(1, 4, MODES)
    mixture = Mixture(np.tile(parts / parts.sum(), (STATES, 1)), np.tile(played, (STATES, 1, 1)))
    return Continuous(mdp, mixture, gaussians, parts)


def transitions_of(problem: Continuous) -> WholeDataset:
    """Every state, action, next state and next action, as often as they are likely."""
    gaussians, parts = problem.behavior, problem.parts
    points = gaussians[:, :1] + gaussians[:, 1:] * quantiles()
    actions = points.repeat_interleave(torch.from_numpy(parts), 0).flatten()
    # columns: state, action, which of the two next states, next action
    grid = torch.cartesian_prod(
        torch.arange(STATES).double(), actions, torch.arange(2).double(), actions
    )
    states, bins = grid[:, 0].long(), torch.bucketize(grid[:, 1].contiguous(), EDGES)
    dynamics = torch.from_numpy(problem.mdp.dynamics)[states, bins]
    # the first or the second half of each pair's two equal chances
    following = torch.searchsorted(dynamics.cumsum(-1), 0.25 + 0.5 * grid[:, 2:3]).squeeze(-1)
    one_hot = torch.eye(STATES)
    return dataset(
        grid[:, 1:2],
        observations=one_hot[states],
        rewards=torch.from_numpy(problem.mdp.rewards)[states, bins],
        next_observations=one_hot[following],
        next_actions=grid[:, 3:4],
    )


def table_critic(table: Array) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Q (S, A) as a ReLU network of a one-hot state and a number: a step at each edge.

    A step is the difference of two ramps; those of other states lie below zero.
    """
    far = 3 / WIDTH
    weights, biases, heights = [], [], []
    for state in range(STATES):
        first = torch.zeros(STATES + 1)
        first[state] = far
        weights.append(first)  # 1 in this state, however large the action
        biases.append(1.0 - far)
        heights.append(table[state, 0])
        for edge, step in zip(EDGES.tolist(), np.diff(table[state]), strict=True):
            for half, sign in ((0.5, 1.0), (-0.5, -1.0)):
                ramp = first.clone()
                ramp[-1] = 1 / WIDTH
                weights.append(ramp)
                biases.append(half - edge / WIDTH - far)
                heights.append(sign * step)
    hidden = torch.stack(weights)[None], torch.tensor(biases)[None]  # (K, out, in), K = 1
    return [hidden, (torch.tensor(heights)[None, None], torch.zeros(1, 1))]


def lom_state(problem: Continuous, critic: Array, hyper_qs: Array) -> lom.State:
    """LOM's networks with these tables in them; the mixture is the problem's."""
    means, stds = problem.behavior[:, :1].tolist(), problem.behavior[:, 1:].tolist()
    weights = problem.mixture.weights[0].tolist()
    [(_, outputs)] = behavior(weights, means, stds).params
    mixture_params = [(torch.zeros(len(outputs), STATES), outputs)]
    critics = table_critic(critic)
    state = lom.init(STATES, 1, CONFIG, rng(phase="init"))
    return state._replace(
        behavior=network(mixture_params),
        critics=network(critics),
        target_critics=critics,
        hyper_critic=network([(torch.from_numpy(hyper_qs).T.contiguous(), torch.zeros(MODES))]),
    )


def exact_tables(problem: Continuous) -> tuple[Array, Array]:
    """Q (S, A) and hyper-Q (S, M) of the behavior."""
    return q_values(problem.mdp, composite(*problem.mixture)), behavior_hyper_qs(
        problem.mdp, problem.mixture
    )


def every_state_and_slice() -> WholeDataset:
    """POINTS rows of each state, so that `Slices` gives each of them every slice."""
    observations = torch.eye(STATES).repeat_interleave(POINTS, 0)
    return dataset(torch.zeros(STATES * POINTS, 1), observations=observations)


random_problems = pytest.mark.parametrize("seed", range(6))


@pytest.mark.usefixtures("float64")
@random_problems
def test_the_critic_of_lom_rests_at_the_behaviors_q_and_only_there(seed):
    """Eq. 16: the gradient of the SARSA loss over all the behavior does is zero at Q^{pi_b}."""
    problem = continuous(seed)
    qs, hyper_qs = exact_tables(problem)
    data = transitions_of(problem)

    def slope(table: Array) -> float:
        state = lom_state(problem, table, hyper_qs)
        after, _ = lom.update_critics(state, data, CONFIG, rng())
        return float(after.critics.first_moment[-1][0].abs().amax())

    greedy_qs = q_values(problem.mdp, one_mode(problem.mdp, problem.mixture))
    assert slope(qs) < 1e-9
    assert slope(greedy_qs) > 1e-3  # Q of the policy that is to be learned
    assert slope(qs + 1e-4) > 1e-6


@pytest.mark.usefixtures("float64")
@random_problems
def test_the_hyper_critic_of_lom_regresses_onto_the_expected_q_of_each_component(seed):
    """Eq. 17 is Proposition 1: with Q^{pi_b} as its critic, its loss is 0 at the true hyper-Q."""
    problem = continuous(seed)
    qs, hyper_qs = exact_tables(problem)
    states = dataset(torch.zeros(STATES, 1), observations=torch.eye(STATES))

    def loss(table: Array) -> float:
        state = lom_state(problem, qs, table)
        _, metrics = lom.update_hyper_critic(state, states, CONFIG, Slices())
        return metrics["hyper_critic/loss"].item()

    at_means = np.take(
        qs, torch.bucketize(problem.behavior[:, 0].contiguous(), EDGES).numpy(), axis=1
    )
    assert loss(hyper_qs) < 1e-18
    assert loss(hyper_qs + 0.1) == pytest.approx(0.01)
    assert loss(at_means) > 1e-3  # Q of a component's mean is another number


@pytest.mark.usefixtures("float64")
@random_problems
def test_the_policy_of_lom_imitates_the_component_of_theorem_1(seed):
    """What is imitated is the greedy hyper-policy's, with advantages of mean zero, and improves."""
    problem = continuous(seed)
    qs, hyper_qs = exact_tables(problem)
    state, data = lom_state(problem, qs, hyper_qs), every_state_and_slice()
    _, metrics = lom.update_policy(state, data, CONFIG, Slices())
    assert metrics["policy/chosen_hyper_q"].item() == pytest.approx(hyper_qs.max(-1).mean())
    assert metrics["policy/advantage"].item() == pytest.approx(0, abs=1e-9)

    learned = lom.hyper_q(state.hyper_critic.params, torch.eye(STATES), state.components, CONFIG)
    assert_close(learned, torch.from_numpy(hyper_qs))
    logits = torch.from_numpy(problem.mixture.weights).log()
    chosen, _ = lom.choose_component(learned, logits, CONFIG)
    policy = composite(np.eye(MODES)[chosen.numpy()], problem.mixture.components)
    improvement = values(problem.mdp, policy) - values(problem.mdp, composite(*problem.mixture))
    assert improvement.min() > 0
