"""LAPO once more, row by row: what lom_exp/algorithms/lapo.py is compared with.

Built like oracle_lom.py and for the same reason, from a description of what the authors' code does
(Chen et al., 2022) and from Osa et al. (2023, appendix), who took it over. It draws nothing: the
rows of a minibatch and the standard normal noises are handed in.

`settings` is any object with the hyperparameters as attributes; `data` maps the names of the
columns to tensors; parameters are lists of layers (weight (out, in), bias (out,)).
"""

import torch
from oracle_lom import build, clip


class Lapo:
    """The networks of one run, their optimizers, and one method for each update."""

    def __init__(self, settings, data, online, target):
        """`online` is of critics, value, encoder, decoder and policy; `target` lacks a value."""
        self.settings = settings
        self.data = data
        self.latent_dim = settings.latents_per_action * data["actions"].shape[1]
        critics, value, encoder, decoder, policy = online
        self.critics = [build(critic) for critic in critics]
        self.value = build(value)
        self.encoder = build(encoder)
        self.decoder = build(decoder)
        self.policy = build(policy)
        critics, encoder, decoder, policy = target
        self.target_critics = [build(critic) for critic in critics]
        self.target_encoder = build(encoder)
        self.target_decoder = build(decoder)
        self.target_policy = build(policy)
        adam = torch.optim.Adam
        valued = [*self.critics, self.value]
        self.critic_optimizer = adam(
            [weight for module in valued for weight in module.parameters()],
            lr=settings.critic_learning_rate,
        )
        self.autoencoder_optimizer = adam(
            [*self.encoder.parameters(), *self.decoder.parameters()],
            lr=settings.autoencoder_learning_rate,
        )
        self.policy_optimizer = adam(self.policy.parameters(), lr=settings.policy_learning_rate)

    # What the networks mean, for one observation (O,).

    def latent(self, policy, observation):
        """Within the box of the latents, (L,)."""
        return self.settings.latent_bound * torch.tanh(policy(observation))

    def decode(self, decoder, observation, latent):
        """Nothing bounds it: actions are standardized."""
        return decoder(torch.cat([observation, latent]))

    def q(self, critic, observation, action):
        return critic(torch.cat([observation, action]))[0]

    def mixed_target_q(self, observation, latent):
        """Between the least and the largest target critic, at the action a latent stands for."""
        action = self.decode(self.target_decoder, observation, latent)
        values = [self.q(critic, observation, action) for critic in self.target_critics]
        pessimism = self.settings.pessimism
        return pessimism * min(values) + (1 - pessimism) * max(values)

    def bootstrapped(self, row, value):
        if self.data["terminations"][row] == 1:
            return self.data["rewards"][row]
        return self.data["rewards"][row] + self.settings.discount * value

    # The updates. Each returns what it measured.

    def update_critics(self, rows, smoothing):
        """Q towards the next V, and V towards the target critics at the latent policy's action."""
        settings, rewards = self.settings, self.data["rewards"]
        horizon = 1 / (1 - settings.discount)
        lowest, highest = float(min(rewards)) * horizon, float(max(rewards)) * horizon
        q_targets, v_targets = [], []
        with torch.no_grad():
            for b, row in enumerate(rows):
                next_value = self.value(self.data["next_observations"][row])[0]
                q_targets.append(self.bootstrapped(row, next_value))
                noise = settings.smoothing_std * smoothing[b]
                noise = clip(noise, -settings.smoothing_clip, settings.smoothing_clip)
                observation = self.data["observations"][row]
                latent = self.latent(self.target_policy, observation) + noise
                v_target = self.mixed_target_q(observation, latent)
                v_targets.append(clip(v_target, lowest, highest))
        q_loss, v_loss = 0.0, 0.0
        for b, row in enumerate(rows):
            observation, action = self.data["observations"][row], self.data["actions"][row]
            for critic in self.critics:
                error = self.q(critic, observation, action) - q_targets[b]
                q_loss = q_loss + error**2 / len(rows)
            v_loss = v_loss + (self.value(observation)[0] - v_targets[b]) ** 2 / len(rows)
        self.step(self.critic_optimizer, q_loss + v_loss)
        return {
            "critics/loss": q_loss,
            "critics/target_q": sum(q_targets) / len(rows),
            "value/loss": v_loss,
        }

    def update_autoencoder(self, rows, noises):
        """Reconstruct the dataset's actions, those of an advantage with the larger weight."""
        settings = self.settings
        loss, weights, advantages = 0.0, [], []
        for b, row in enumerate(rows):
            observation, action = self.data["observations"][row], self.data["actions"][row]
            with torch.no_grad():
                next_observation = self.data["next_observations"][row]
                next_latent = self.latent(self.target_policy, next_observation)
                next_value = self.mixed_target_q(next_observation, next_latent)
                advantage = self.bootstrapped(row, next_value) - self.value(observation)[0]
            weight = settings.expectile if advantage > 0 else 1 - settings.expectile
            outputs = self.encoder(torch.cat([observation, action]))
            mean, log_variance = outputs[: self.latent_dim], outputs[self.latent_dim :]
            latent = mean + torch.sqrt(torch.exp(log_variance)) * noises[b]
            reconstructed = self.decode(self.decoder, observation, latent)
            distance = sum((reconstructed - action) ** 2)
            divergence = 0.0
            for k in range(self.latent_dim):
                variance = torch.exp(log_variance[k])
                divergence = divergence + (variance + mean[k] ** 2 - 1 - log_variance[k]) / 2
            cost = distance + settings.kl_weight * divergence
            loss = loss + weight * cost / len(rows)
            weights.append(weight)
            advantages.append(advantage)
        self.step(self.autoencoder_optimizer, loss)
        return {
            "autoencoder/loss": loss,
            "autoencoder/advantage": sum(advantages) / len(rows),
            "autoencoder/weight": sum(weights) / len(rows),
        }

    def update_policy(self, rows):
        """Towards latents whose decoded actions the first critic values; then the targets."""
        loss = 0.0
        for row in rows:
            observation = self.data["observations"][row]
            latent = self.latent(self.policy, observation)
            action = self.decode(self.target_decoder, observation, latent)
            loss = loss - self.q(self.critics[0], observation, action) / len(rows)
        self.step(self.policy_optimizer, loss)
        self.follow(self.target_policy, self.policy)
        self.follow(self.target_encoder, self.encoder)
        self.follow(self.target_decoder, self.decoder)
        for target, critic in zip(self.target_critics, self.critics, strict=True):
            self.follow(target, critic)
        return {"policy/loss": loss}

    def follow(self, target, online):
        tau = self.settings.tau
        with torch.no_grad():
            for slow, fast in zip(target.parameters(), online.parameters(), strict=True):
                slow.copy_((1 - tau) * slow + tau * fast)

    def step(self, optimizer, loss):
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def act(self, observation):
        """The online policy's latent through the target decoder."""
        return self.decode(self.target_decoder, observation, self.latent(self.policy, observation))
