"""OneStep RL once more, row by row: what lom_exp/algorithms/onestep.py is compared with.

Built like oracle_lom.py and for the same reason, from Brandfonbrener et al. (2021, Algorithm 1,
exponentially weighted imitation) and a description of the authors' code. `settings` is any object
with the hyperparameters as attributes; `data` maps the names of the columns to tensors; rows and
noises are handed in.
"""

import math

import torch
from oracle_lom import build, clip

LARGEST_ACTION = 1 - 1e-4  # whose likelihood the policy is asked for


class OneStep:
    def __init__(self, settings, data, behavior, critic, target_critic, policy):
        self.settings = settings
        self.data = data
        self.action_dim = data["actions"].shape[1]
        self.behavior = build(behavior)
        self.critic = build(critic)
        self.target_critic = build(target_critic)
        self.policy = build(policy)
        adam = torch.optim.Adam
        self.behavior_optimizer = adam(
            self.behavior.parameters(), lr=settings.behavior_learning_rate
        )
        self.critic_optimizer = adam(self.critic.parameters(), lr=settings.critic_learning_rate)
        self.policy_optimizer = adam(self.policy.parameters(), lr=settings.policy_learning_rate)

    def gaussian(self, module, observation):
        """Lists of A means in (-1, 1) and A stds within their bounds."""
        low, high = self.settings.min_log_std, self.settings.max_log_std
        outputs = module(observation)
        means, stds = [], []
        for j in range(self.action_dim):
            means.append(torch.tanh(outputs[j]))
            share = (torch.tanh(outputs[self.action_dim + j]) + 1) / 2
            stds.append(torch.exp(low + (high - low) * share))
        return means, stds

    def log_likelihood(self, module, observation, action):
        total = 0.0
        for a, mean, std in zip(action, *self.gaussian(module, observation), strict=True):
            exponent = -((a - mean) ** 2) / (2 * std**2)
            total = total + exponent - torch.log(std) - math.log(2 * math.pi) / 2
        return total

    def q(self, critic, observation, action):
        return critic(torch.cat([observation, action]))[0]

    def update_behavior(self, rows):
        """By maximum likelihood; the policy, which is not trained yet, is a copy."""
        loss = 0.0
        for row in rows:
            observation, action = self.data["observations"][row], self.data["actions"][row]
            loss = loss - self.log_likelihood(self.behavior, observation, action) / len(rows)
        step(self.behavior_optimizer, loss)
        self.policy.load_state_dict(self.behavior.state_dict())
        return {"behavior/loss": loss}

    def update_critics(self, update, rows):
        """SARSA; then, at every so manieth update and the first, the target."""
        settings, loss, targets = self.settings, 0.0, []
        for row in rows:
            with torch.no_grad():
                target = self.data["rewards"][row]
                if self.data["terminations"][row] == 0:
                    next_observation = self.data["next_observations"][row]
                    next_action = self.data["next_actions"][row]
                    next_q = self.q(self.target_critic, next_observation, next_action)
                    target = target + settings.discount * next_q
            value = self.q(self.critic, self.data["observations"][row], self.data["actions"][row])
            loss = loss + (value - target) ** 2 / len(rows)
            targets.append(target)
        step(self.critic_optimizer, loss)
        if update % settings.target_update_period == 0:
            with torch.no_grad():
                pairs = zip(self.target_critic.parameters(), self.critic.parameters(), strict=True)
                for slow, fast in pairs:
                    slow.copy_((1 - settings.tau) * slow + settings.tau * fast)
        return {"critics/loss": loss, "critics/target_q": sum(targets) / len(rows)}

    def update_policy(self, rows, noises):
        """Weighted likelihood; the baseline is the mean Q of the behavior's actions."""
        settings = self.settings
        loss, advantages, weights = 0.0, [], []
        for b, row in enumerate(rows):
            observation, action = self.data["observations"][row], self.data["actions"][row]
            with torch.no_grad():
                means, stds = self.gaussian(self.behavior, observation)
                baseline = 0.0
                for noise in noises[:, b]:
                    drawn = torch.stack(means) + torch.stack(stds) * noise
                    baseline = baseline + self.q(self.critic, observation, drawn) / len(noises)
                advantage = self.q(self.critic, observation, action) - baseline
                weight = torch.exp(settings.inverse_temperature * advantage)
                weight = min(weight, torch.tensor(settings.max_weight))
            reachable = clip(action, -LARGEST_ACTION, LARGEST_ACTION)
            likelihood = self.log_likelihood(self.policy, observation, reachable)
            loss = loss - weight * likelihood / len(rows)
            advantages.append(advantage)
            weights.append(weight)
        step(self.policy_optimizer, loss)
        saturated = [float(weight >= settings.max_weight) for weight in weights]
        return {
            "policy/loss": loss,
            "policy/advantage": sum(advantages) / len(rows),
            "policy/weight": sum(weights) / len(rows),
            "policy/saturated_share": sum(saturated) / len(rows),
        }


def step(optimizer, loss):
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
