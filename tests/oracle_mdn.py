"""A mixture density network as a policy once more, row by row, for lom_exp/algorithms/mdn.py.

Built like oracle_lom.py and for the same reason, from Bishop (1994) and Eq. 2 of the LOM paper.
`settings` is any object with the hyperparameters as attributes; `data` maps the names of the
columns to tensors; rows, uniform numbers and noises are handed in.
"""

import math

import torch
from oracle_lom import build, clip


class Mdn:
    def __init__(self, settings, data, policy):
        self.settings = settings
        self.data = data
        self.action_dim = data["actions"].shape[1]
        self.policy = build(policy)
        self.optimizer = torch.optim.Adam(self.policy.parameters(), lr=settings.learning_rate)

    def mixture(self, observation):
        """Lists of M mixing weights, of M lists of A means and of M lists of A stds."""
        settings, action_dim = self.settings, self.action_dim
        outputs = iter(self.policy(observation))
        means, log_stds, exponentials = [], [], []
        for _ in range(settings.num_components):
            means.append([next(outputs) for _ in range(action_dim)])
            log_stds.append([next(outputs) for _ in range(action_dim)])
            exponentials.append(torch.exp(next(outputs)))
        assert next(outputs, None) is None
        if settings.squash_means:
            means = [[clip(torch.tanh(mean), -0.9999, 0.9999) for mean in row] for row in means]
        low, high = settings.min_log_std, settings.max_log_std
        stds = [[torch.exp(clip(log_std, low, high)) for log_std in row] for row in log_stds]
        return [each / sum(exponentials) for each in exponentials], means, stds

    def update_policy(self, rows):
        """-mean over rows of the logarithm of the mixture's density."""
        loss = 0.0
        for row in rows:
            density = 0.0
            for weight, means, stds in zip(
                *self.mixture(self.data["observations"][row]), strict=True
            ):
                product = weight
                for a, mean, std in zip(self.data["actions"][row], means, stds, strict=True):
                    exponent = -((a - mean) ** 2) / (2 * std**2)
                    product = product * torch.exp(exponent) / (math.sqrt(2 * math.pi) * std)
                density = density + product
            loss = loss - torch.log(density) / len(rows)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return {"policy/loss": loss}

    def act(self, observation, uniform, noise):
        """A draw of a component and then of its Gaussian, or the heaviest component's mean."""
        weights, means, stds = self.mixture(observation)
        if self.settings.evaluation_action == "best_component":
            action = torch.stack(means[weights.index(max(weights))])
        else:
            chosen, below = 0, weights[0]
            while uniform >= below:
                chosen += 1
                below = below + weights[chosen]
            action = torch.stack(means[chosen]) + torch.stack(stds[chosen]) * noise
        return clip(action, -1.0, 1.0).detach()
