"""WCVAE once more, row by row: what lom_exp/algorithms/wcvae.py is compared with.

Built like oracle_lom.py and for the same reason, from Wang, Jin and Montana (2025, Eq. 40); they
print no architecture. It draws nothing: the rows of a minibatch and the standard normal noises are
handed in.

`settings` is any object with the hyperparameters as attributes; `data` maps the names of the
columns to tensors; parameters are lists of layers (weight (out, in), bias (out,)).
"""

import copy

import torch
from oracle_lom import build, clip


class Wcvae:
    """The networks of one run, their optimizers, and one method for each update."""

    def __init__(self, settings, data, encoder, decoder, value):
        self.settings = settings
        self.data = data
        self.latent_dim = settings.latents_per_action * data["actions"].shape[1]
        self.encoder = build(encoder)
        self.decoder = build(decoder)
        self.value = build(value)
        self.target_value = copy.deepcopy(self.value)
        self.autoencoder_optimizer = torch.optim.Adam(
            [*self.encoder.parameters(), *self.decoder.parameters()],
            lr=settings.autoencoder_learning_rate,
        )
        self.value_optimizer = torch.optim.Adam(
            self.value.parameters(), lr=settings.value_learning_rate
        )

    def decode(self, observation, latent):
        return torch.tanh(self.decoder(torch.cat([observation, latent])))

    def advantage(self, row):
        advantage = self.data["rewards"][row] - self.value(self.data["observations"][row])[0]
        if self.data["terminations"][row] == 0:
            next_value = self.value(self.data["next_observations"][row])[0]
            advantage = advantage + self.settings.discount * next_value
        return advantage

    def update_autoencoder(self, rows, noises):
        """Eq. 40: the weight multiplies the reconstruction and the divergence."""
        settings = self.settings
        loss, measured = 0.0, []
        for b, row in enumerate(rows):
            observation, action = self.data["observations"][row], self.data["actions"][row]
            with torch.no_grad():
                advantage = self.advantage(row)
                weight = torch.exp(settings.inverse_temperature * advantage)
                weight = min(weight, torch.tensor(settings.max_weight))
            outputs = self.encoder(torch.cat([observation, action]))
            mean, log_variance = outputs[: self.latent_dim], outputs[self.latent_dim :]
            log_variance = clip(log_variance, -8.0, 8.0)
            std = torch.sqrt(torch.exp(log_variance))
            reconstructed = self.decode(observation, mean + std * noises[b])
            distance = sum((reconstructed - action) ** 2)
            divergence = 0.0
            for k in range(self.latent_dim):
                divergence = divergence + (std[k] ** 2 + mean[k] ** 2 - 1) / 2 - torch.log(std[k])
            cost = distance + settings.kl_weight * divergence
            loss = loss + weight * cost / len(rows)
            measured.append(
                {
                    "autoencoder/weight": weight,
                    "autoencoder/advantage": advantage,
                    "autoencoder/saturated_share": weight >= settings.max_weight,
                }
            )
        self.step(self.autoencoder_optimizer, loss)
        averages = {
            name: sum(row[name].double() for row in measured) / len(measured)
            for name in measured[0]
        }
        return {"autoencoder/loss": loss, **averages}

    def update_value(self, update, rows):
        """TD(0) on the dataset; then the target network."""
        settings, loss = self.settings, 0.0
        for row in rows:
            target = self.data["rewards"][row]
            if self.data["terminations"][row] == 0:
                with torch.no_grad():
                    next_value = self.target_value(self.data["next_observations"][row])[0]
                target = target + settings.discount * next_value
            loss = loss + (self.value(self.data["observations"][row])[0] - target) ** 2 / len(rows)
        self.step(self.value_optimizer, loss)
        if update % settings.target_update_period == 0:
            with torch.no_grad():
                for slow, fast in zip(
                    self.target_value.parameters(), self.value.parameters(), strict=True
                ):
                    slow.copy_((1 - settings.tau) * slow + settings.tau * fast)
        return {"value/loss": loss}

    def step(self, optimizer, loss):
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def act(self, observation, latent):
        return self.decode(observation, latent)
