"""WCGAN once more, as plainly as possible: what lom_exp/algorithms/wcgan.py is compared with.

Built like oracle_lom.py and for the same reason, from Wang, Jin and Montana (2025, Eq. 39) and from
a description of the authors' code. Rows are taken one by one but where batch normalization needs
them all. It draws nothing: the rows of a minibatch and the standard normal noises are handed in.

`settings` is any object with the hyperparameters as attributes; `data` maps the names of the
columns to tensors; parameters are lists of layers (weight (out, in), bias (out,)).
"""

import torch
from oracle_lom import build, clip
from torch import nn


def leaky(layers):
    """`build`, with LeakyReLU."""
    plain = build(layers)
    return nn.Sequential(*[nn.LeakyReLU() if isinstance(m, nn.ReLU) else m for m in plain])


class Wcgan:
    """The networks of one run, their optimizers, and one method for each update."""

    def __init__(self, settings, data, layers, norms, discriminator, value, target_value):
        """`norms` are the batch norms' (scale, shift), one pair for each hidden layer."""
        self.settings = settings
        self.data = data
        self.generator = nn.Sequential()
        for module in build(layers):
            if isinstance(module, nn.ReLU):
                scale, shift = norms[len(self.norms())]
                norm = nn.BatchNorm1d(len(scale))
                norm.load_state_dict({"weight": scale, "bias": shift}, strict=False)
                self.generator.append(norm)
            self.generator.append(module)
        self.discriminator = leaky(discriminator)
        self.value = build(value)
        self.target_value = build(target_value)
        adam = torch.optim.Adam
        self.generator_optimizer = adam(
            self.generator.parameters(), lr=settings.generator_learning_rate
        )
        self.discriminator_optimizer = adam(
            self.discriminator.parameters(), lr=settings.discriminator_learning_rate
        )
        self.value_optimizer = adam(self.value.parameters(), lr=settings.value_learning_rate)

    def norms(self):
        return [module for module in self.generator if isinstance(module, nn.BatchNorm1d)]

    def jittered(self, column, row, jitter):
        return self.data[column][row] + self.settings.jitter_std * jitter

    def generate(self, observations, noises):
        """Actions of many rows at once, which share their batch norms' moments."""
        inputs = [torch.cat(pair) for pair in zip(observations, noises, strict=True)]
        return torch.tanh(self.generator(torch.stack(inputs)))

    def realness(self, observation, action):
        """The discriminator's probability, away from 0 and 1."""
        logit = self.discriminator(torch.cat([observation, action]))[0]
        return clip(1 / (1 + torch.exp(-logit)), 1e-4, 1 - 1e-4)

    def advantage(self, row, observation, next_observation):
        advantage = self.data["rewards"][row] - self.value(observation)[0]
        if self.data["terminations"][row] == 0:
            advantage = advantage + self.settings.discount * self.value(next_observation)[0]
        return advantage

    def update_discriminator(self, rows, jitters, next_jitters, noises):
        """Eq. 39 over D: the dataset's actions are weighed, the generator's as much in all."""
        settings, size = self.settings, len(rows)
        observations = [
            self.jittered("observations", row, jitters[b]) for b, row in enumerate(rows)
        ]
        weights, advantages = [], []
        with torch.no_grad():
            for b, row in enumerate(rows):
                next_observation = self.jittered("next_observations", row, next_jitters[b])
                advantage = self.advantage(row, observations[b], next_observation)
                weight = torch.exp(settings.inverse_temperature * advantage)
                weights.append(min(weight, torch.tensor(settings.max_weight)))
                advantages.append(advantage)
            generated = self.generate(observations, noises)
        fake_weight = sum(weights) / size if settings.fake_weight == "mean" else 1.0
        loss = 0.0
        for b, row in enumerate(rows):
            of_data = self.realness(observations[b], self.data["actions"][row])
            of_generated = self.realness(observations[b], generated[b])
            loss = loss - weights[b] * torch.log(of_data) / size
            loss = loss - fake_weight * torch.log(1 - of_generated) / size
        self.step(self.discriminator_optimizer, loss)
        saturated = sum(float(weight >= settings.max_weight) for weight in weights)
        return {
            "discriminator/loss": loss,
            "discriminator/weight": sum(weights) / size,
            "discriminator/advantage": sum(advantages) / size,
            "discriminator/saturated_share": saturated / size,
        }

    def update_generator(self, rows, jitters, noises):
        """Eq. 39 over the policy."""
        observations = [
            self.jittered("observations", row, jitters[b]) for b, row in enumerate(rows)
        ]
        generated = self.generate(observations, noises)
        loss = 0.0
        for observation, action in zip(observations, generated, strict=True):
            realness = self.realness(observation, action)
            if self.settings.generator_loss == "saturating":
                loss = loss + torch.log(1 - realness) / len(rows)
            else:
                loss = loss - torch.log(realness) / len(rows)
        self.step(self.generator_optimizer, loss)
        return {"generator/loss": loss}

    def update_value(self, update, rows):
        """TD(0) on the dataset, without jitter; then the target network."""
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

    def act(self, observations, noises):
        """Actions (E, A) by the running statistics of the batch norms."""
        self.generator.eval()
        actions = self.generate(observations, noises)
        self.generator.train()
        return actions
