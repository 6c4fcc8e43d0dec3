"""AWAC once more, row by row: what lom_exp/algorithms/awac.py is compared with.

Built like oracle_lom.py and for the same reason, from Nair et al. (2020, Algorithm 1) and a
description of CORL's implementation. `settings` is any object with the hyperparameters as
attributes; `data` maps the names of the columns to tensors; rows and noises are handed in.
"""

import math

import torch
from oracle_lom import build, clip
from torch import nn


class Awac:
    def __init__(self, settings, data, critics, target_critics, policy, log_std):
        self.settings = settings
        self.data = data
        self.critics = [build(critic) for critic in critics]
        self.target_critics = [build(critic) for critic in target_critics]
        self.policy = build(policy)
        self.log_std = nn.Parameter(log_std.clone())
        adam = torch.optim.Adam
        self.critic_optimizers = [
            adam(critic.parameters(), lr=settings.critic_learning_rate) for critic in self.critics
        ]
        self.policy_optimizer = adam(
            [*self.policy.parameters(), self.log_std], lr=settings.policy_learning_rate
        )

    def std(self):
        log_std = clip(self.log_std, self.settings.min_log_std, self.settings.max_log_std)
        return torch.exp(log_std)

    def draw(self, observation, noise):
        return clip(self.policy(observation) + self.std() * noise, -1.0, 1.0)

    def q(self, critic, observation, action):
        return critic(torch.cat([observation, action]))[0]

    def update_critics(self, rows, next_noises):
        """Towards the smaller target critic at an action of the policy; then the targets."""
        settings, targets = self.settings, []
        with torch.no_grad():
            for b, row in enumerate(rows):
                next_observation = self.data["next_observations"][row]
                next_action = self.draw(next_observation, next_noises[b])
                next_q = min(
                    self.q(target, next_observation, next_action) for target in self.target_critics
                )
                target = self.data["rewards"][row]
                if self.data["terminations"][row] == 0:
                    target = target + settings.discount * next_q
                targets.append(target)
        total = 0.0
        for critic, optimizer in zip(self.critics, self.critic_optimizers, strict=True):
            loss = 0.0
            for b, row in enumerate(rows):
                value = self.q(critic, self.data["observations"][row], self.data["actions"][row])
                loss = loss + (value - targets[b]) ** 2 / len(rows)
            step(optimizer, loss)
            total = total + loss
        with torch.no_grad():
            for target, critic in zip(self.target_critics, self.critics, strict=True):
                for slow, fast in zip(target.parameters(), critic.parameters(), strict=True):
                    slow.copy_((1 - settings.tau) * slow + settings.tau * fast)
        return {"critics/loss": total, "critics/target_q": sum(targets) / len(targets)}

    def update_policy(self, rows, noises):
        """Weighted likelihood of the data's actions; the baseline is the Q of one own action."""
        settings = self.settings
        loss, advantages, weights, baselines = 0.0, [], [], []
        for b, row in enumerate(rows):
            observation, action = self.data["observations"][row], self.data["actions"][row]
            with torch.no_grad():
                own_action = self.draw(observation, noises[b])
                baseline = min(self.q(critic, observation, own_action) for critic in self.critics)
                value = min(self.q(critic, observation, action) for critic in self.critics)
                advantage = value - baseline
                weight = torch.exp(advantage / settings.temperature)
                weight = min(weight, torch.tensor(settings.max_weight))
            mean, std = self.policy(observation), self.std()
            log_likelihood = 0.0
            for j in range(len(action)):
                exponent = -((action[j] - mean[j]) ** 2) / (2 * std[j] ** 2)
                log_likelihood = log_likelihood + exponent - math.log(2 * math.pi) / 2
                log_likelihood = log_likelihood - torch.log(std[j])
            loss = loss - weight * log_likelihood / len(rows)
            advantages.append(advantage)
            weights.append(weight)
            baselines.append(baseline)
        step(self.policy_optimizer, loss)
        saturated = [float(weight >= settings.max_weight) for weight in weights]
        return {
            "policy/loss": loss,
            "policy/advantage": sum(advantages) / len(rows),
            "policy/weight": sum(weights) / len(rows),
            "policy/saturated_share": sum(saturated) / len(rows),
            "policy/value": sum(baselines) / len(rows),
        }


def step(optimizer, loss):
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
