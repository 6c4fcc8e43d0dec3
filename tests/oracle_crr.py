"""CRR once more, row by row: what lom_exp/algorithms/crr.py is compared with.

Built like oracle_lom.py and for the same reason, from the equations of Wang et al. (2020, Eq. 1-4
and Algorithm 1) for a Gaussian policy and a critic of expected returns. `settings` is any object
with the hyperparameters as attributes; `data` maps the names of the columns to tensors; rows and
noises are handed in.
"""

import math

import torch
from oracle_lom import build, clip


class Crr:
    def __init__(self, settings, data, critic, target_critic, policy, target_policy):
        self.settings = settings
        self.data = data
        self.critic, self.target_critic = build(critic), build(target_critic)
        self.policy, self.target_policy = build(policy), build(target_policy)
        adam = torch.optim.Adam
        self.critic_optimizer = adam(self.critic.parameters(), lr=settings.critic_learning_rate)
        self.policy_optimizer = adam(self.policy.parameters(), lr=settings.policy_learning_rate)

    def moments(self, policy, observation):
        """Mean and standard deviation, one pair for each action dimension."""
        low, high = self.settings.min_log_std, self.settings.max_log_std
        outputs = policy(observation)
        half = len(outputs) // 2
        return [
            (
                torch.tanh(outputs[j]),
                torch.exp(low + (high - low) * (torch.tanh(outputs[half + j]) + 1) / 2),
            )
            for j in range(half)
        ]

    def draw(self, policy, observation, noise):
        pairs = zip(self.moments(policy, observation), noise, strict=True)
        return clip(torch.stack([mean + std * z for (mean, std), z in pairs]), -1.0, 1.0)

    def q(self, critic, observation, action):
        return critic(torch.cat([observation, action]))[0]

    def filter(self, advantage):
        """f of Eq. 1: the indicator of Eq. 3 or the exponential of Eq. 4 below its ceiling."""
        if self.settings.weighting == "binary":
            return torch.tensor(1.0) if advantage > 0 else torch.tensor(0.0)
        weight = torch.exp(advantage / self.settings.temperature)
        return min(weight, torch.tensor(self.settings.max_weight))

    def update_policy(self, rows, noises):
        """Filtered regression; noises (S, rows, A) are those of the drawn actions."""
        loss, advantages, weights, values = 0.0, [], [], []
        for b, row in enumerate(rows):
            observation, action = self.data["observations"][row], self.data["actions"][row]
            with torch.no_grad():
                drawn = [
                    self.q(self.critic, observation, self.draw(self.policy, observation, noise[b]))
                    for noise in noises
                ]
                value = sum(drawn) / len(drawn)
                if self.settings.baseline == "max":
                    value = max(drawn)
                advantage = self.q(self.critic, observation, action) - value
                weight = self.filter(advantage)
            log_density = 0.0
            for j, (mean, std) in enumerate(self.moments(self.policy, observation)):
                density = torch.exp(-((action[j] - mean) ** 2) / (2 * std**2))
                log_density = log_density + torch.log(density / (math.sqrt(2 * math.pi) * std))
            loss = loss - weight * log_density / len(rows)
            advantages.append(advantage)
            weights.append(weight)
            values.append(value)
        step(self.policy_optimizer, loss)
        return {
            "policy/loss": loss,
            "policy/advantage": sum(advantages) / len(rows),
            "policy/weight": sum(weights) / len(rows),
            "policy/value": sum(values) / len(rows),
        }

    def update_critic(self, rows, next_noises):
        """Squared error to the target critic's value of one action of the target policy."""
        loss, targets = 0.0, []
        for b, row in enumerate(rows):
            with torch.no_grad():
                next_observation = self.data["next_observations"][row]
                next_action = self.draw(self.target_policy, next_observation, next_noises[b])
                target = self.data["rewards"][row]
                if self.data["terminations"][row] == 0:
                    next_q = self.q(self.target_critic, next_observation, next_action)
                    target = target + self.settings.discount * next_q
            value = self.q(self.critic, self.data["observations"][row], self.data["actions"][row])
            loss = loss + (value - target) ** 2 / len(rows)
            targets.append(target)
        step(self.critic_optimizer, loss)
        return {"critics/loss": loss, "critics/target_q": sum(targets) / len(rows)}

    def update_targets(self, update):
        """After every so many updates, the first of which is number 0."""
        if (update + 1) % self.settings.target_update_period == 0:
            self.target_critic.load_state_dict(self.critic.state_dict())
            self.target_policy.load_state_dict(self.policy.state_dict())


def step(optimizer, loss):
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
