"""BC once more, row by row: what lom_exp/algorithms/bc.py is compared with.

Built like oracle_lom.py and for the same reason. `settings` is any object with the hyperparameters
as attributes; `data` maps the names of the columns to tensors.
"""

import math

import torch
from oracle_lom import build
from torch import nn


class Bc:
    def __init__(self, settings, data, policy, log_std):
        self.settings = settings
        self.data = data
        self.policy = build(policy)
        self.log_std = nn.Parameter(log_std.clone())
        self.optimizer = torch.optim.Adam(
            [*self.policy.parameters(), self.log_std], lr=settings.learning_rate
        )

    def update_policy(self, rows):
        """-mean over rows and action dimensions of log N, or the mean squared error."""
        loss = 0.0
        for row in rows:
            action = self.data["actions"][row]
            mean = torch.tanh(self.policy(self.data["observations"][row]))
            for j in range(len(action)):
                error = mean[j] - action[j]
                if self.settings.policy_loss == "squared_error":
                    cost = error**2
                else:
                    std = torch.exp(self.log_std[j])
                    density = torch.exp(-(error**2) / (2 * std**2)) / (math.sqrt(2 * math.pi) * std)
                    cost = -torch.log(density)
                loss = loss + cost / (len(rows) * len(action))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        std = torch.exp(self.log_std.detach()).mean()
        return {"policy/loss": loss, "policy/std": std}
