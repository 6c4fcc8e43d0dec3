"""CRR once more, row by row: what lom_exp/algorithms/crr.py is compared with.

Built like oracle_lom.py and for the same reason, from Wang et al. (2020: Eq. 1-4, Algorithm 1),
with an expected critic and one bounded Gaussian in place of the paper's distributional critic and
mixture. `settings` is any object with the hyperparameters as attributes; `data` maps the names of
the columns to tensors; rows and noises are handed in. A policy's network answers with the A means
before their tanh, then with A numbers whose tanh places the logarithms of the stds.
"""

import math

import torch
from oracle_lom import build, clip
from torch.optim import Adam


class Crr:
    def __init__(self, settings, data, critic, target_critic, policy, target_policy):
        self.settings = settings
        self.data = data
        self.action_dim = data["actions"].shape[1]
        self.critic, self.target_critic = build(critic), build(target_critic)
        self.policy, self.target_policy = build(policy), build(target_policy)
        self.critic_adam = Adam(self.critic.parameters(), lr=settings.critic_learning_rate)
        self.policy_adam = Adam(self.policy.parameters(), lr=settings.policy_learning_rate)

    def q(self, critic, observation, action):
        return critic(torch.cat([observation, action]))[0]

    def gaussian(self, policy, observation):
        """Means and stds, lists of A numbers."""
        low, high = self.settings.min_log_std, self.settings.max_log_std
        outputs = policy(observation)
        means, stds = [], []
        for j in range(self.action_dim):
            means.append(torch.tanh(outputs[j]))
            position = (1 + torch.tanh(outputs[self.action_dim + j])) / 2  # 0 is low, 1 is high
            stds.append(torch.exp(low + (high - low) * position))
        return means, stds

    def sample(self, policy, observation, noise):
        """An action of the policy, moved to the nearest one in the box."""
        means, stds = self.gaussian(policy, observation)
        action = [means[j] + stds[j] * noise[j] for j in range(self.action_dim)]
        return clip(torch.stack(action), -1.0, 1.0)

    def log_pi(self, observation, action):
        """The logarithm of the Gaussian's density, which is not cut off at the box."""
        means, stds = self.gaussian(self.policy, observation)
        total = 0.0
        for j in range(self.action_dim):
            z = (action[j] - means[j]) / stds[j]
            total = total - z**2 / 2 - torch.log(stds[j] * math.sqrt(2 * math.pi))
        return total

    def advantage(self, observation, action, noises):
        """Of a dataset's action over m of the policy's own (Section 3), and the value of those."""
        values = []
        for noise in noises:
            own_action = self.sample(self.policy, observation, noise)
            values.append(self.q(self.critic, observation, own_action))
        baseline = sum(values) / len(values)
        if self.settings.baseline == "max":
            baseline = max(values)
        return self.q(self.critic, observation, action) - baseline, baseline

    def f(self, advantage):
        """Eq. 3 or Eq. 4, the latter no larger than its ceiling."""
        if self.settings.weighting == "binary":
            return torch.tensor(1.0 if advantage > 0 else 0.0)
        weight = torch.exp(advantage / self.settings.temperature)
        return min(weight, torch.tensor(self.settings.max_weight))

    def update_policy(self, rows, noises):
        """Filtered regression onto the rows' actions (Eq. 2); noises are (m, B, A)."""
        losses, advantages, weights, baselines = [], [], [], []
        for b, row in enumerate(rows):
            observation, action = self.data["observations"][row], self.data["actions"][row]
            with torch.no_grad():
                advantage, baseline = self.advantage(observation, action, noises[:, b])
                weight = self.f(advantage)
            losses.append(-weight * self.log_pi(observation, action))
            advantages.append(advantage)
            weights.append(weight)
            baselines.append(baseline)
        loss = sum(losses) / len(losses)
        descend(self.policy_adam, loss)
        return {
            "policy/loss": loss,
            "policy/advantage": sum(advantages) / len(advantages),
            "policy/weight": sum(weights) / len(weights),
            "policy/value": sum(baselines) / len(baselines),
        }

    def update_critic(self, rows, next_noises):
        """Squared distance to the target networks' value of a next action; noises are (B, A)."""
        errors, targets = [], []
        for b, row in enumerate(rows):
            observation, action = self.data["observations"][row], self.data["actions"][row]
            target = self.data["rewards"][row].clone()
            if not self.data["terminations"][row]:
                following = self.data["next_observations"][row]
                with torch.no_grad():
                    next_action = self.sample(self.target_policy, following, next_noises[b])
                    next_q = self.q(self.target_critic, following, next_action)
                target += self.settings.discount * next_q
            errors.append((self.q(self.critic, observation, action) - target) ** 2)
            targets.append(target)
        loss = sum(errors) / len(errors)
        descend(self.critic_adam, loss)
        return {"critics/loss": loss, "critics/target_q": sum(targets) / len(targets)}

    def update_targets(self, update):
        """Copies of both networks, at the end of every so many updates, which count from 0."""
        if (update + 1) % self.settings.target_update_period == 0:
            self.target_critic.load_state_dict(self.critic.state_dict())
            self.target_policy.load_state_dict(self.policy.state_dict())


def descend(adam, loss):
    adam.zero_grad()
    loss.backward()
    adam.step()
