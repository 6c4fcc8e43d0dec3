"""DMPO and infoDMPO as plainly as they can be written: what their modules are compared with.

Written from Osa, Hayashi, Deo, Morihira and Yoshiike (TMLR 2023, Eq. 9-19, 46-47 and Algorithm 1)
and from a description of what the authors' code does where the paper is silent. It shares no code
with lom_exp: torch.nn modules, torch.optim.Adam, autograd, and a loop wherever an equation has an
index. It draws nothing: the rows of a minibatch, normal and uniform noises and latents are handed
in.

`settings` is any object with the hyperparameters as attributes; `data` maps the names of the
columns to tensors; parameters are lists of layers (weight (out, in), bias (out,)).
"""

import itertools

import torch
from oracle_lom import build, clip
from torch import nn

EPSILON = 1e-12  # inside logarithms


class Actor(nn.Module):
    """One network for all latents: the latent is embedded in as many numbers as an observation."""

    def __init__(self, embedding, layers):
        super().__init__()
        self.embedding = build([embedding])
        self.body = build(layers)

    def forward(self, observation, latent):
        embedded = torch.relu(self.embedding(latent))
        return torch.tanh(self.body(torch.cat([observation, embedded])))


def softmax(values):
    """Of a list of numbers, as a list."""
    largest = max(value.detach() for value in values)
    exponentials = [torch.exp(value - largest) for value in values]
    return [exponential / sum(exponentials) for exponential in exponentials]


def move(slow, fast, tau):
    """A Polyak step of a target network."""
    with torch.no_grad():
        for old, new in zip(slow.parameters(), fast.parameters(), strict=True):
            old.copy_((1 - tau) * old + tau * new)


class Dmpo:
    """The networks of one run, their optimizers, and one method for each update.

    An actor is (embedding, layers); critics and their targets come in lists of two.
    """

    def __init__(self, settings, data, critics, target_critics, actor, target_actor, posterior):
        self.settings = settings
        self.data = data
        self.critics = [build(critic) for critic in critics]
        self.target_critics = [build(critic) for critic in target_critics]
        self.actor = Actor(*actor)
        self.target_actor = Actor(*target_actor)
        self.posterior = build(posterior)
        adam = torch.optim.Adam
        self.critic_optimizers = [
            adam(critic.parameters(), lr=settings.critic_learning_rate) for critic in self.critics
        ]
        self.policy_optimizer = adam(
            [*self.actor.parameters(), *self.posterior.parameters()],
            lr=settings.policy_learning_rate,
        )

    # What the networks mean, for one observation (O,).

    def one_hot(self, k):
        latent = torch.zeros(self.settings.num_latents)
        latent[k] = 1.0
        return latent

    def least_q(self, critics, observation, action):
        """The smaller of the two critics' values."""
        return min(critic(torch.cat([observation, action]))[0] for critic in critics)

    def latent_values(self, actor, critics, observation):
        """A list of the K values of what the sub-policies would do."""
        values = []
        for k in range(self.settings.num_latents):
            action = actor(observation, self.one_hot(k))
            values.append(self.least_q(critics, observation, action))
        return values

    def select(self, actor, critics, observation):
        """The gating policy (Eq. 3): the best latent, the first of equals, and its value."""
        values = self.latent_values(actor, critics, observation)
        best = 0
        for k in range(len(values)):
            if values[k] > values[best]:
                best = k
        return best, values[best]

    def act(self, observation):
        with torch.no_grad():
            best, _ = self.select(self.actor, self.critics, observation)
            return self.actor(observation, self.one_hot(best))

    # The updates. Each returns what it measured.

    def update_critics(self, update, rows, smoothing):
        """Eq. 16, 17 and 47: the latent is chosen without the noise that its action then gets."""
        settings = self.settings
        targets = []
        with torch.no_grad():
            for b, row in enumerate(rows):
                next_observation = self.data["next_observations"][row]
                judges = (
                    self.critics if settings.target_selection == "online" else self.target_critics
                )
                k, _ = self.select(self.target_actor, judges, next_observation)
                next_action = self.target_actor(next_observation, self.one_hot(k))
                noise = settings.smoothing_std * smoothing[b]
                noise = clip(noise, -settings.smoothing_clip, settings.smoothing_clip)
                next_action = clip(next_action + noise, -1.0, 1.0)
                next_q = self.least_q(self.target_critics, next_observation, next_action)
                target = self.data["rewards"][row]
                if self.data["terminations"][row] == 0:
                    target = target + settings.discount * next_q
                targets.append(target)
        total = 0.0
        for critic, optimizer in zip(self.critics, self.critic_optimizers, strict=True):
            loss = 0.0
            for b, row in enumerate(rows):
                pair = torch.cat([self.data["observations"][row], self.data["actions"][row]])
                loss = loss + (critic(pair)[0] - targets[b]) ** 2 / len(rows)
            self.step(optimizer, loss)
            total = total + loss
        return {"critics/loss": total, "critics/target_q": sum(targets) / len(targets)}

    def weights(self, advantages):
        """Eq. 19, by default divided by its mean over the minibatch."""
        alpha, largest = self.settings.inverse_temperature, max(advantages)
        width = max(largest - min(advantages), torch.tensor(1e-8))
        weights = [torch.exp(alpha * (advantage - largest) / width) for advantage in advantages]
        if self.settings.advantage_weight == "normalized_mean":
            mean = sum(weights) / len(weights)
            weights = [weight / mean for weight in weights]
        return weights

    def relaxed_latent(self, probabilities, uniform):
        """Eq. 18 (Gumbel-softmax): a soft one-hot vector (K,)."""
        logits = []
        for k in range(self.settings.num_latents):
            gumbel = -torch.log(-torch.log(uniform[k] + EPSILON) + EPSILON)
            logit = torch.log(probabilities[k] + EPSILON) + gumbel
            logits.append(logit / self.settings.gumbel_temperature)
        return torch.stack(softmax(logits))

    def divergence(self, probabilities, prior):
        """Kullback-Leibler, of one list of K probabilities from another."""
        total = 0.0
        for p, q in zip(probabilities, prior, strict=True):
            total = total + p * torch.log((p + EPSILON) / (q + EPSILON))
        return total

    def update_policy(self, update, rows, uniforms):
        """Eq. 8-11, weighted by Eq. 19 with the advantage of Eq. 46; then the target networks.

        Without a step when it is not the policy's turn: the loss is measured all the same.
        """
        settings = self.settings
        observations, actions = self.data["observations"], self.data["actions"]
        advantages = []
        with torch.no_grad():
            for row in rows:
                _, value = self.select(self.target_actor, self.critics, observations[row])
                own = self.least_q(self.critics, observations[row], actions[row])
                advantages.append(own - value)
            weights = self.weights(advantages)
        loss, spread = 0.0, 0.0
        for b, row in enumerate(rows):
            observation, action = observations[row], actions[row]
            probabilities = softmax(list(self.posterior(torch.cat([observation, action]))))
            latent = self.relaxed_latent(probabilities, uniforms[b])
            errors = self.actor(observation, latent) - action
            with torch.no_grad():
                values = self.latent_values(self.actor, self.critics, observation)
            prior = softmax(values)
            spread = spread + (max(values) - min(values)) / len(rows)
            divergence = self.divergence(probabilities, prior)
            cost = sum(errors**2) + settings.kl_weight * divergence
            loss = loss + weights[b] * cost / len(rows)
        if (update + 1) % settings.policy_period == 0:
            self.step(self.policy_optimizer, loss)
            for slow, fast in zip(self.target_critics, self.critics, strict=True):
                move(slow, fast, settings.tau)
            move(self.target_actor, self.actor, settings.tau)
        squares = sum(weight**2 for weight in weights)
        return {
            "policy/loss": loss,
            "policy/advantage": sum(advantages) / len(rows),
            "policy/effective_share": sum(weights) ** 2 / squares / len(rows),
            "policy/latent_spread": spread,
        }

    def step(self, optimizer, loss):
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


class InfoDmpo(Dmpo):
    """The actor has a second optimizer, which it shares with the discriminator (Eq. 12-13)."""

    def __init__(self, settings, data, discriminator, **networks):
        super().__init__(settings, data, **networks)
        self.discriminator = build(discriminator)
        parameters = itertools.chain(self.actor.parameters(), self.discriminator.parameters())
        self.information_optimizer = torch.optim.Adam(
            parameters, lr=settings.information_learning_rate
        )

    def update_information(self, update, rows, latents):
        """The cross-entropy of latents and what the discriminator makes of their actions.

        The authors' code hands probabilities to a loss that expects logits.
        """
        loss = 0.0
        for row, k in zip(rows, latents.tolist(), strict=True):
            observation = self.data["observations"][row]
            action = self.actor(observation, self.one_hot(k))
            probabilities = softmax(list(self.discriminator(torch.cat([observation, action]))))
            if self.settings.information_loss == "released":
                probabilities = softmax(probabilities)
            loss = loss - torch.log(probabilities[k]) / len(rows)
        if (update + 1) % self.settings.policy_period == 0:
            self.step(self.information_optimizer, loss)
        return {"information/loss": loss}
