"""TD3 and TD3+BC once more, row by row: what lom_exp/algorithms/td3.py and td3_bc.py do.

Built like oracle_lom.py and for the same reason, from Fujimoto et al. (2018, Algorithm 1) and
Fujimoto and Gu (2021, Eq. 3-5). `settings` is any object with the hyperparameters as attributes;
`data` maps the names of the columns to tensors; rows and noises are handed in.
"""

import torch
from oracle_lom import build, clip


class Td3:
    def __init__(self, settings, data, critics, target_critics, policy, target_policy):
        self.settings = settings
        self.data = data
        self.critics = [build(critic) for critic in critics]
        self.target_critics = [build(critic) for critic in target_critics]
        self.policy = build(policy)
        self.target_policy = build(target_policy)
        adam = torch.optim.Adam
        self.critic_optimizers = [
            adam(critic.parameters(), lr=settings.critic_learning_rate) for critic in self.critics
        ]
        self.policy_optimizer = adam(self.policy.parameters(), lr=settings.policy_learning_rate)

    def q(self, critic, observation, action):
        return critic(torch.cat([observation, action]))[0]

    def update_critics(self, rows, smoothing):
        """Towards the smaller of two target critics at the target policy's noisy action."""
        settings, targets = self.settings, []
        with torch.no_grad():
            for b, row in enumerate(rows):
                next_observation = self.data["next_observations"][row]
                noise = settings.smoothing_std * smoothing[b]
                noise = clip(noise, -settings.smoothing_clip, settings.smoothing_clip)
                next_action = torch.tanh(self.target_policy(next_observation))
                next_action = clip(next_action + noise, -1.0, 1.0)
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
        return {"critics/loss": total, "critics/target_q": sum(targets) / len(targets)}

    def policy_loss(self, rows):
        loss = 0.0
        for row in rows:
            observation = self.data["observations"][row]
            action = torch.tanh(self.policy(observation))
            loss = loss - self.q(self.critics[0], observation, action) / len(rows)
        return loss, {}

    def update_policy(self, update, rows):
        """At every policy_period-th update, first at policy_period - 1; then all targets."""
        loss, metrics = self.policy_loss(rows)
        if update % self.settings.policy_period == self.settings.policy_period - 1:
            step(self.policy_optimizer, loss)
            for target, online in zip(self.target_critics, self.critics, strict=True):
                self.follow(target, online)
            self.follow(self.target_policy, self.policy)
        return {"policy/loss": loss, **metrics}

    def follow(self, target, online):
        tau = self.settings.tau
        with torch.no_grad():
            for slow, fast in zip(target.parameters(), online.parameters(), strict=True):
                slow.copy_((1 - tau) * slow + tau * fast)


class Td3Bc(Td3):
    def policy_loss(self, rows):
        """The mean over action dimensions, too; the scale of Q is a number, not a function."""
        values, errors = [], []
        for row in rows:
            observation = self.data["observations"][row]
            action = torch.tanh(self.policy(observation))
            values.append(self.q(self.critics[0], observation, action))
            error = (action - self.data["actions"][row]) ** 2
            errors.append(sum(error) / len(error))
        magnitude = sum(abs(value) for value in values) / len(values)
        scale = self.settings.q_weight / magnitude.detach()
        imitation = sum(errors) / len(errors)
        mean_q = sum(values) / len(values)
        loss = imitation - scale * mean_q
        return loss, {"policy/q": mean_q, "policy/q_scale": scale}


def step(optimizer, loss):
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
