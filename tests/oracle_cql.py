"""CQL once more, row by row: what lom_exp/algorithms/cql.py is compared with.

Built like oracle_lom.py and for the same reason, from Kumar et al. (2020, Eq. 4 and appendix F)
on soft actor-critic (Haarnoja et al., 2018), and from a description of what CORL's code does where
the papers are silent. It draws nothing: the rows of a minibatch and all noises are handed in.

`settings` is any object with the hyperparameters as attributes; `data` maps the names of the
columns to tensors; parameters are lists of layers (weight (out, in), bias (out,)).
"""

import math

import torch
from oracle_lom import build, clip
from torch import nn


class Cql:
    """The networks of one run, their optimizers, and its one update."""

    def __init__(
        self, settings, data, critics, targets, policy, multiplier, offset, log_alpha, log_lagrange
    ):
        self.settings = settings
        self.data = data
        self.action_dim = data["actions"].shape[1]
        self.critics = [build(critic) for critic in critics]
        self.target_critics = [build(target) for target in targets]
        self.policy = build(policy)
        self.multiplier = nn.Parameter(multiplier.clone())
        self.offset = nn.Parameter(offset.clone())
        self.log_alpha = nn.Parameter(log_alpha.clone())
        self.log_lagrange = nn.Parameter(log_lagrange.clone())
        adam = torch.optim.Adam
        self.critic_optimizer = adam(
            [weight for critic in self.critics for weight in critic.parameters()],
            lr=settings.critic_learning_rate,
        )
        self.policy_optimizer = adam(
            [*self.policy.parameters(), self.multiplier, self.offset],
            lr=settings.policy_learning_rate,
        )
        self.entropy_optimizer = adam([self.log_alpha], lr=settings.policy_learning_rate)
        self.lagrange_optimizer = adam([self.log_lagrange], lr=settings.critic_learning_rate)

    # What the networks mean, for one observation (O,).

    def gaussian(self, observation):
        """Mean and standard deviation (A,) of the action before its tanh."""
        outputs = self.policy(observation)
        mean, raw = outputs[: self.action_dim], outputs[self.action_dim :]
        log_std = clip(self.multiplier * raw + self.offset, -20.0, 2.0)
        return mean, torch.exp(log_std)

    def draw(self, observation, noise):
        """An action (A,) and the logarithm of its density, by the change of variables."""
        mean, std = self.gaussian(observation)
        action, log_density = [], 0.0
        for j in range(self.action_dim):
            u = mean[j] + std[j] * noise[j]
            action.append(torch.tanh(u))
            log_normal = -(noise[j] ** 2) / 2 - torch.log(math.sqrt(2 * math.pi) * std[j])
            slope = 1 / torch.cosh(u) ** 2  # of tanh
            log_density = log_density + log_normal - torch.log(slope)
        return torch.stack(action), log_density

    def q(self, critic, observation, action):
        return critic(torch.cat([observation, action]))[0]

    # The losses, each of the networks as they are before the update.

    def target(self, row, noises):
        """r + discount min Q(s', a'), without an entropy, of the best of the actions drawn."""
        observation = self.data["next_observations"][row]
        values = []
        for noise in noises:
            action, _ = self.draw(observation, noise)
            value = min(self.q(target, observation, action) for target in self.target_critics)
            values.append(value)
        target = self.data["rewards"][row]
        if self.data["terminations"][row] == 0:
            target = target + self.settings.discount * max(values)
        return target

    def regularizer(self, critic, row, random, current, following):
        """Q of actions the policy or chance may take, above Q of the dataset's."""
        observation = self.data["observations"][row]
        q_data = self.q(critic, observation, self.data["actions"][row])
        terms = []
        for n in range(self.settings.num_actions):
            drawn = [(random[n], self.action_dim * math.log(0.5))]
            with torch.no_grad():
                drawn.append(self.draw(observation, current[n]))
                drawn.append(self.draw(self.data["next_observations"][row], following[n]))
            for action, log_density in drawn:
                value = self.q(critic, observation, action)
                if self.settings.importance_sampling:
                    value = value - log_density
                terms.append(torch.exp(value))
        if not self.settings.importance_sampling:
            terms.append(torch.exp(q_data))
        return torch.log(sum(terms)) - q_data

    def policy_losses(self, rows, noises):
        """Of the entropy weight and of the policy; and the mean entropy."""
        entropy_weight = torch.exp(self.log_alpha.detach())
        entropy_loss, policy_loss, entropy = 0.0, 0.0, 0.0
        for b, row in enumerate(rows):
            observation = self.data["observations"][row]
            drawn, log_density = self.draw(observation, noises[b])
            surplus = log_density.detach() - self.action_dim
            entropy_loss = entropy_loss - self.log_alpha * surplus / len(rows)
            value = min(self.q(critic, observation, drawn) for critic in self.critics)
            policy_loss = policy_loss + (entropy_weight * log_density - value) / len(rows)
            entropy = entropy - log_density / len(rows)
        return entropy_loss, policy_loss, entropy

    def critic_losses(self, rows, next_action, random, current, following):
        """Of the critics and of the Lagrange weight; and means of targets and regularizers."""
        settings, size = self.settings, len(rows)
        lagrange_weight = clip(torch.exp(self.log_lagrange), 0.0, 1e6)
        with torch.no_grad():
            targets = [self.target(row, next_action[:, b]) for b, row in enumerate(rows)]
        critic_loss, lagrange_loss, mean_regularizer = 0.0, 0.0, 0.0
        for critic in self.critics:
            regularizer = 0.0
            for b, row in enumerate(rows):
                value = self.q(critic, self.data["observations"][row], self.data["actions"][row])
                critic_loss = critic_loss + (value - targets[b]) ** 2 / size
                samples = random[:, b], current[:, b], following[:, b]
                regularizer = regularizer + self.regularizer(critic, row, *samples) / size
            if settings.lagrange:
                excess = settings.regularizer_weight * (regularizer - settings.lagrange_gap)
                critic_loss = critic_loss + lagrange_weight.detach() * excess
                lagrange_loss = lagrange_loss - lagrange_weight * excess.detach() / 2
            else:
                critic_loss = critic_loss + settings.regularizer_weight * regularizer
            mean_regularizer = mean_regularizer + regularizer / len(self.critics)
        return critic_loss, lagrange_loss, sum(targets) / size, mean_regularizer

    def update(self, rows, action, *others):
        """All steps. `action` is (B, A), the others (N, B, A) as `critic_losses` takes them."""
        settings = self.settings
        entropy_weight = torch.exp(self.log_alpha.detach())
        lagrange_weight = clip(torch.exp(self.log_lagrange.detach()), 0.0, 1e6)
        entropy_loss, policy_loss, entropy = self.policy_losses(rows, action)
        critic_loss, lagrange_loss, target, regularizer = self.critic_losses(rows, *others)
        self.step(self.entropy_optimizer, entropy_loss)
        self.step(self.policy_optimizer, policy_loss)
        self.step(self.critic_optimizer, critic_loss)
        if settings.lagrange:
            self.step(self.lagrange_optimizer, lagrange_loss)
        with torch.no_grad():
            for target_critic, critic in zip(self.target_critics, self.critics, strict=True):
                for slow, fast in zip(target_critic.parameters(), critic.parameters(), strict=True):
                    slow.copy_((1 - settings.tau) * slow + settings.tau * fast)
        metrics = {
            "critics/loss": critic_loss,
            "critics/target_q": target,
            "critics/excess": regularizer - settings.lagrange_gap,
            "policy/loss": policy_loss,
            "policy/entropy": entropy,
            "policy/entropy_weight": entropy_weight,
        }
        if settings.lagrange:
            metrics["critics/lagrange_weight"] = lagrange_weight
        return metrics

    def step(self, optimizer, loss):
        """Down the gradient of the optimizer's own parameters."""
        parameters = optimizer.param_groups[0]["params"]
        gradients = torch.autograd.grad(loss, parameters)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()

    def act(self, observation):
        """What is evaluated: the mean, squashed."""
        return torch.tanh(self.policy(observation)[: self.action_dim])
