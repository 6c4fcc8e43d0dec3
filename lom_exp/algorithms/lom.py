"""LOM: weighted imitation Learning on One Mode (Wang, Jin and Montana, ICLR 2025).

A Gaussian mixture models the dataset's behavior, a hyper-Q scores each component by the expected
value of its actions, and the policy imitates samples of the best component, weighted by advantage.

The defaults follow the authors' released code (conf/algo/lom.yaml), `conf/algo/lom_paper.yaml`
Algorithm 1, Eq. 14-18 and Table 3. Departures, each a field where both readings are worth having:

- The code takes the next row's action as the next action, also across a time limit; here it is
  the episode's own (preprocessing.next_actions=legacy restores theirs). Eq. 16 has no terminal
  mask; here, as in the code, there is one.
- The code clamps the log-stds to [-15, 0] in the likelihood and in the hyper-Q's labels but not
  where the imitated action is drawn; here the one clamp is part of the mixture. The paper has none.
  A component that has crossed a bound gets no gradient that could lead it back: with a bound of
  0, one stuck at a std of 1 has been seen.
- Component densities are diagonal Gaussians; Eq. 14's isotropic one is normalized for A = 1 only.
- `component_loss`: Eq. 15's log of the mixture density, or the mean over components of
  log(weight density), which the code minimized until 29 Nov 2024.
- `hyper_critic`: M heads, which take one pass a state, or the code's one-hot input, which takes M.
  Both regress all components (Eq. 17 draws one; same expectation, less variance). Neither has a
  target network: Algorithm 1 updates one (line 19) but never reads it.
- Mixing weights are taken as log_softmax, where the code adds 1e-8 to the softmax.
- K critics with the least target, and noise on the next action, are the code's (K = 1 and no noise
  are Eq. 16). Labels and advantages come from the first critic, as in the code.
- Imitated actions are clipped to the box, as in the code; Algorithm 1 (line 13) only samples.
- `inverse_temperature` multiplies the advantage: the code's beta. Eq. 18 divides by its beta.
- `baseline` of the advantage: Q of the policy's action (code), of the component's mean (paper), or
  the hyper-Q of the component, which is the expectation both stand for.
- `component_choice` takes LOM apart (conf/ablation): the hyper-Q chooses the component, or else the
  Q of its mean, its mixing weight (heaviest), its number, which means nothing (first), or chance,
  anew for every action (random). With `all` none is chosen: actions are drawn from the whole
  mixture, and the baseline of a component is averaged over all of them.
- `policy_loss`: squared error on the mean (code) or log-likelihood (Eq. 18). Both have the same
  optimal mean.
- Eq. 14 leaves the means unbounded; the code squashes them: `squash_means`.

Shapes: B batch, O observation, A action, M components, K critics. This file sees one run.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from lom_exp import validation
from lom_exp.critics import init_critics, member, min_q, q, regress, smoothed, td_target
from lom_exp.distributions import component_log_probs, gaussian_log_prob, mixture_log_prob
from lom_exp.mixtures import component, init_mixture, mixture, over_components
from lom_exp.networks import Network, Params, descend, init_mlp, mlp, network, polyak, select
from lom_exp.policies import init_gaussian, tanh_mean
from lom_exp.random import Rng
from lom_exp.types import Metrics, Phases, Transitions

RARE_WEIGHT = 0.05  # mixing weight below which a chosen component is counted as rare

COMPONENT_CHOICES = ("hyper_critic", "critic", "heaviest", "first", "random", "all")


@dataclass(frozen=True)
class Config:
    """Hyperparameters of LOM; Table 3's where the paper prints them, else the authors' code's."""

    num_components: int = validation.padded(10)  # M
    component_loss: str = "mixture"  # or legacy_component_mean
    squash_means: bool = True  # component means through tanh
    min_log_std: float = -15.0  # of a component
    max_log_std: float = 0.0
    component_choice: str = "hyper_critic"  # or critic, heaviest, first, random, all
    min_component_weight: float = 0.0  # components of a smaller mixing weight are never chosen
    num_critics: int = 1  # K; the target is the minimum over them
    discount: float = 0.99
    tau: float = 0.005  # Polyak rate of the target critics
    target_update_period: int = 2  # updates from one Polyak step to the next
    smoothing_std: float = 0.2  # of the noise on next actions, 0 for none
    smoothing_clip: float = 0.5  # bound of that noise
    hyper_critic: str = "heads"  # or one_hot
    hyper_critic_samples: int = 1  # actions drawn per component for a hyper-Q label
    inverse_temperature: float = 5.0  # multiplies the advantage, in 1/return
    max_weight: float = 50.0  # C, the ceiling of exp(advantage)
    baseline: str = "policy"  # or component_mean, hyper_critic
    policy_loss: str = "squared_error"  # or log_likelihood
    action_noise_std: float = 0.0  # of the noise on imitated actions, which is not clipped
    behavior_learning_rate: float = 1e-3
    critic_learning_rate: float = 3e-4
    hyper_critic_learning_rate: float = 1e-3
    policy_learning_rate: float = 1e-3
    behavior_batch_size: int = 512
    critic_batch_size: int = 256
    hyper_critic_batch_size: int = 1024  # states; each is labeled for all M components
    policy_batch_size: int = 256
    hidden_sizes: tuple[int, ...] = (256, 256)  # of critics, hyper-Q and policy
    behavior_hidden_sizes: tuple[int, ...] = (512, 512)

    def __post_init__(self) -> None:
        validation.positive(self, "num_components", "num_critics", "target_update_period")
        validation.positive(self, "hyper_critic_samples", "inverse_temperature", "max_weight")
        validation.positive(self, "behavior_batch_size", "critic_batch_size")
        validation.positive(self, "hyper_critic_batch_size", "policy_batch_size")
        validation.positive(self, "behavior_learning_rate", "critic_learning_rate")
        validation.positive(self, "hyper_critic_learning_rate", "policy_learning_rate")
        validation.non_negative(self, "smoothing_std", "smoothing_clip", "action_noise_std")
        validation.unit_interval(self, "discount", "min_component_weight")
        validation.fraction(self, "tau")
        validation.layer_sizes(self, "hidden_sizes", "behavior_hidden_sizes")
        validation.ordered(self, "min_log_std", "max_log_std")
        validation.one_of(self, "component_loss", ("mixture", "legacy_component_mean"))
        validation.one_of(self, "component_choice", COMPONENT_CHOICES)
        validation.one_of(self, "hyper_critic", ("heads", "one_hot"))
        validation.one_of(self, "baseline", ("policy", "component_mean", "hyper_critic"))
        validation.one_of(self, "policy_loss", ("squared_error", "log_likelihood"))


class State(NamedTuple):
    behavior: Network
    critics: Network  # every leaf leads with K
    target_critics: Params
    hyper_critic: Network
    policy: Network  # of (mean's layers, log_std (A,))
    components: Tensor  # (M,), 1 for each


Updated = tuple[State, Metrics]


def first_critic(state: State) -> Params:
    return member(state.critics.params, 0)


def hyper_q(params: Params, observations: Tensor, components: Tensor, config: Config) -> Tensor:
    """Hyper-Q of every component: (B, O) -> (B, M)."""
    if config.hyper_critic == "heads":
        return mlp(params, observations)
    m = len(components)
    one_hot = torch.eye(m, device=observations.device).expand(len(observations), -1, -1)
    repeated = observations.unsqueeze(1).expand(-1, m, -1)
    return mlp(params, torch.cat((repeated, one_hot), -1)).squeeze(-1)


def init(observation_dim: int, action_dim: int, config: Config, rng: Rng) -> State:
    """Networks with torch's default initialization; targets start as the critics."""
    m, hidden = config.num_components, config.hidden_sizes
    if config.hyper_critic == "heads":
        hyper_critic_sizes = [observation_dim, *hidden, m]
    else:
        hyper_critic_sizes = [observation_dim + m, *hidden, 1]
    behavior = init_mixture(rng, observation_dim, action_dim, config.behavior_hidden_sizes, m)
    critics = init_critics(rng, observation_dim, action_dim, hidden, config.num_critics)
    return State(
        behavior=network(behavior),
        critics=network(critics),
        target_critics=critics,
        hyper_critic=network(init_mlp(rng, "hyper_critic", hyper_critic_sizes)),
        policy=network(init_gaussian(rng, [observation_dim, *hidden, action_dim])),
        components=torch.ones(m),
    )


def update_behavior(state: State, data: Transitions, config: Config, rng: Rng) -> Updated:
    """Fit the mixture to the dataset's actions by maximum likelihood (Eq. 15)."""
    batch = data.sample(rng, "behavior/batch", config.behavior_batch_size)

    def negative_log_likelihood(params: Params) -> Tensor:
        logits, means, stds = mixture(params, batch.observations, state.components, config)
        if config.component_loss == "mixture":
            return -mixture_log_prob(batch.actions, logits, means, stds).mean()
        log_weights = logits.log_softmax(-1).masked_fill(state.components == 0, 0)
        log_probs = component_log_probs(batch.actions, means, stds)
        return -over_components(log_weights + log_probs, state.components).mean()

    behavior, loss = descend(state.behavior, negative_log_likelihood, config.behavior_learning_rate)
    return state._replace(behavior=behavior), {"behavior/loss": loss}


def update_critics(state: State, data: Transitions, config: Config, rng: Rng) -> Updated:
    """SARSA (Eq. 16) with smoothed next actions; the target is the minimum over target critics."""
    batch = data.sample(rng, "critics/batch", config.critic_batch_size)
    next_actions = smoothed(batch.next_actions, rng, config.smoothing_std, config.smoothing_clip)
    next_q = min_q(state.target_critics, batch.next_observations, next_actions)
    target_q = td_target(batch, next_q, config.discount)
    critics, loss = regress(state.critics, batch, target_q, config.critic_learning_rate)
    target_critics = select(
        rng.update % config.target_update_period == 0,
        polyak(state.target_critics, critics.params, config.tau),
        state.target_critics,
    )
    state = state._replace(critics=critics, target_critics=target_critics)
    return state, {"critics/loss": loss, "critics/target_q": target_q.mean()}


def update_hyper_critic(state: State, data: Transitions, config: Config, rng: Rng) -> Updated:
    """Regress each component's hyper-Q onto the Q of actions drawn from it (Eq. 17)."""
    observations = data.sample(
        rng, "hyper_critic/batch", config.hyper_critic_batch_size
    ).observations
    components = state.components
    _, means, stds = mixture(state.behavior.params, observations, components, config)
    b, m, a = means.shape
    noise = rng.normal("components", (m, config.hyper_critic_samples, b, a)).movedim(0, 2)
    actions = means + stds * noise  # (samples, B, M, A), unclipped, as in the code
    component_q = q(first_critic(state), observations[:, None], actions).mean(0)  # (B, M)

    def squared_error(params: Params) -> Tensor:
        errors = hyper_q(params, observations, components, config) - component_q
        return over_components(errors**2, components).mean()

    hyper_critic, loss = descend(
        state.hyper_critic, squared_error, config.hyper_critic_learning_rate
    )
    highest = component_q.masked_fill(components == 0, -torch.inf).amax(-1)
    lowest = component_q.masked_fill(components == 0, torch.inf).amin(-1)
    metrics = {"hyper_critic/loss": loss, "hyper_critic/spread": (highest - lowest).mean()}
    return state._replace(hyper_critic=hyper_critic), metrics


def choosable(logits: Tensor, config: Config) -> tuple[Tensor, Tensor]:
    """Mixing weights (B, M), and which components (B, M) may be chosen.

    Components lighter than min_component_weight may not, but for the heaviest one.
    """
    weights = logits.softmax(-1)
    heaviest = weights == weights.amax(-1, keepdim=True)
    heavy_enough = (weights >= config.min_component_weight) & (logits > -torch.inf)
    return weights, heavy_enough | heaviest


def choose_component(scores: Tensor, logits: Tensor, config: Config) -> tuple[Tensor, Tensor]:
    """The component (B,) of highest score that may be chosen, and its mixing weight (B,)."""
    weights, candidates = choosable(logits, config)
    chosen = scores.masked_fill(~candidates, -torch.inf).argmax(-1)
    return chosen, weights.gather(-1, chosen[:, None]).squeeze(-1)


def component_scores(
    logits: Tensor, hyper_qs: Tensor, mean_qs: Callable[[], Tensor], config: Config, rng: Rng
) -> Tensor:
    """Scores (B, M) whose highest is the component to imitate; all arguments are (B, M)."""
    if config.component_choice == "hyper_critic":
        return hyper_qs
    if config.component_choice == "critic":
        return mean_qs()
    if config.component_choice == "heaviest":
        return logits
    if config.component_choice == "first":
        numbers = torch.arange(logits.shape[-1], dtype=logits.dtype, device=logits.device)
        return -numbers.expand_as(logits)
    uniform = rng.uniform("choice", (logits.shape[-1], *logits.shape[:-1])).movedim(0, -1)
    if config.component_choice == "random":
        return uniform
    return logits - (-uniform.log()).log()  # the highest is drawn by weight (Gumbel, 1954)


def update_policy(state: State, data: Transitions, config: Config, rng: Rng) -> Updated:
    """Imitate an action of the best component, weighted by its advantage (Eq. 18)."""
    observations = data.sample(rng, "policy/batch", config.policy_batch_size).observations
    logits, means, stds = mixture(state.behavior.params, observations, state.components, config)
    hyper_qs = hyper_q(state.hyper_critic.params, observations, state.components, config)
    critic = first_critic(state)

    def mean_qs() -> Tensor:
        return q(critic, observations[:, None], means)

    scores = component_scores(logits, hyper_qs, mean_qs, config, rng)
    chosen, mixing_weight = choose_component(scores, logits, config)
    mean, std = component(means, chosen), component(stds, chosen)
    actions = (mean + std * rng.normal("mode", mean.shape)).clamp(-1, 1)
    actions = actions + config.action_noise_std * rng.normal("action_noise", actions.shape)

    if config.baseline == "policy":
        current = tanh_mean(state.policy.params, observations)
        action_q, baseline = q(critic, observations, torch.stack((actions, current))).unbind()
    else:
        action_q = q(critic, observations, actions)
        if config.component_choice == "all":  # of the mixture that the actions are drawn from
            weights, candidates = choosable(logits, config)
            weights = weights.where(candidates, 0)
            component_qs = mean_qs() if config.baseline == "component_mean" else hyper_qs
            baseline = (weights * component_qs).sum(-1) / weights.sum(-1)
        elif config.baseline == "component_mean":
            baseline = q(critic, observations, mean)
        else:
            baseline = hyper_qs.gather(-1, chosen[:, None]).squeeze(-1)
    advantages = action_q - baseline
    weights = (config.inverse_temperature * advantages).exp().clamp(max=config.max_weight)

    def weighted_imitation(params: Params) -> Tensor:
        imitated = tanh_mean(params, observations)
        if config.policy_loss == "squared_error":
            return (weights * ((imitated - actions) ** 2).mean(-1)).mean()
        return -(weights * gaussian_log_prob(actions, imitated, params[1].exp())).mean()

    policy, loss = descend(state.policy, weighted_imitation, config.policy_learning_rate)
    metrics = {
        "policy/loss": loss,
        "policy/advantage": advantages.mean(),
        "policy/weight": weights.mean(),
        "policy/saturated_share": (weights >= config.max_weight).to(weights.dtype).mean(),
        "policy/vanished_share": (weights < 1e-3).to(weights.dtype).mean(),
        "policy/chosen_mixing_weight": mixing_weight.mean(),
        "policy/rare_choice_share": (mixing_weight < RARE_WEIGHT).to(weights.dtype).mean(),
        "policy/chosen_std": std.mean(),
        "policy/chosen_hyper_q": hyper_qs.gather(-1, chosen[:, None]).mean(),
    }
    return state._replace(policy=policy), metrics


def act(state: State, observations: Tensor, config: Config, rng: Rng) -> Tensor:
    """The policy's mean."""
    return tanh_mean(state.policy.params, observations)


phases: Phases = {
    "behavior": (update_behavior,),
    "policy": (update_critics, update_hyper_critic, update_policy),
}
