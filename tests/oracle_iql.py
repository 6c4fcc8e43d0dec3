"""IQL once more, row by row: what lom_exp/algorithms/iql.py is compared with.

Built like oracle_lom.py and for the same reason, from Kostrikov et al. (2022, Eq. 5-7) and a
description of the authors' code: V, then the policy, then the critics, each after the other.
`settings` is any object with the hyperparameters as attributes; `data` maps the names of the
columns to tensors; rows are handed in.
"""

import math

import torch
from oracle_lom import build, clip
from torch import nn


class Iql:
    def __init__(self, settings, data, value, critics, target_critics, policy, log_std):
        self.settings = settings
        self.data = data
        self.value = build(value)
        self.critics = [build(critic) for critic in critics]
        self.target_critics = [build(critic) for critic in target_critics]
        self.policy = build(policy)
        self.log_std = nn.Parameter(log_std.clone())
        adam = torch.optim.Adam
        self.value_optimizer = adam(self.value.parameters(), lr=settings.value_learning_rate)
        self.critic_optimizers = [
            adam(critic.parameters(), lr=settings.critic_learning_rate) for critic in self.critics
        ]
        self.policy_optimizer = adam(
            [*self.policy.parameters(), self.log_std], lr=settings.policy_learning_rate
        )

    def q(self, critic, observation, action):
        return critic(torch.cat([observation, action]))[0]

    def advantage(self, row):
        """By the target critics; a function of V's parameters."""
        observation, action = self.data["observations"][row], self.data["actions"][row]
        with torch.no_grad():
            target_q = min(self.q(target, observation, action) for target in self.target_critics)
        return target_q - self.value(observation)[0]

    def update_value(self, rows):
        """Expectile regression: what V underestimates counts `expectile`, the rest 1 minus it."""
        loss = 0.0
        for row in rows:
            residual = self.advantage(row)
            share = self.settings.expectile if residual > 0 else 1 - self.settings.expectile
            loss = loss + share * residual**2 / len(rows)
        step(self.value_optimizer, loss)
        return {"value/loss": loss}

    def policy_rate(self, update):
        """A half cosine from the full rate down to zero, where it stays."""
        settings = self.settings
        if settings.policy_decay_updates == 0:
            return settings.policy_learning_rate
        progress = min(update / settings.policy_decay_updates, 1.0)
        return settings.policy_learning_rate * (1 + math.cos(math.pi * progress)) / 2

    def update_policy(self, update, rows):
        settings = self.settings
        loss, advantages, weights, values = 0.0, [], [], []
        for row in rows:
            observation, action = self.data["observations"][row], self.data["actions"][row]
            advantage = self.advantage(row).detach()
            weight = torch.exp(settings.inverse_temperature * advantage)
            weight = min(weight, torch.tensor(settings.max_weight))
            mean = torch.tanh(self.policy(observation))
            log_std = clip(self.log_std, settings.min_log_std, settings.max_log_std)
            cost = 0.0
            for j in range(len(action)):
                error = action[j] - mean[j]
                if settings.policy_loss == "squared_error":
                    cost = cost + error**2
                else:
                    std = torch.exp(log_std[j])
                    cost = cost + error**2 / (2 * std**2) + log_std[j] + math.log(2 * math.pi) / 2
            loss = loss + weight * cost / len(rows)
            advantages.append(advantage)
            weights.append(weight)
            values.append(self.value(observation)[0])
        self.policy_optimizer.param_groups[0]["lr"] = self.policy_rate(update)
        step(self.policy_optimizer, loss)
        saturated = [float(weight >= settings.max_weight) for weight in weights]
        return {
            "policy/loss": loss,
            "policy/advantage": sum(advantages) / len(rows),
            "policy/weight": sum(weights) / len(rows),
            "policy/saturated_share": sum(saturated) / len(rows),
            "policy/value": sum(values) / len(rows),
        }

    def update_critics(self, rows):
        """Towards V of the next observation; then the targets."""
        settings, targets = self.settings, []
        with torch.no_grad():
            for row in rows:
                target = self.data["rewards"][row]
                if self.data["terminations"][row] == 0:
                    next_value = self.value(self.data["next_observations"][row])[0]
                    target = target + settings.discount * next_value
                targets.append(target)
        total = 0.0
        for critic, optimizer in zip(self.critics, self.critic_optimizers, strict=True):
            loss = 0.0
            for target, row in zip(targets, rows, strict=True):
                value = self.q(critic, self.data["observations"][row], self.data["actions"][row])
                loss = loss + (value - target) ** 2 / len(rows)
            step(optimizer, loss)
            total = total + loss
        with torch.no_grad():
            for target, critic in zip(self.target_critics, self.critics, strict=True):
                for slow, fast in zip(target.parameters(), critic.parameters(), strict=True):
                    slow.copy_((1 - settings.tau) * slow + settings.tau * fast)
        return {"critics/loss": total, "critics/target_q": sum(targets) / len(targets)}


def step(optimizer, loss):
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
