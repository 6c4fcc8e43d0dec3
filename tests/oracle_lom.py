"""LOM once more, as plainly as it can be written: what lom_exp/algorithms/lom.py is compared with.

Written from the paper (Algorithm 1, Eq. 14-18) and from a description of what the authors' code
does where the paper is silent. It shares no code with lom_exp: torch.nn modules, torch.optim.Adam,
autograd, and a loop wherever an equation has an index. It draws nothing: the rows of a minibatch
and the standard normal noises are handed in.

`settings` is any object with the hyperparameters as attributes; `data` maps the names of the
columns to tensors; parameters are lists of layers (weight (out, in), bias (out,)).
"""

import copy
import math

import torch
from torch import nn


def build(layers):
    """A ReLU network with a copy of the given weights."""
    modules = []
    for weight, bias in layers:
        linear = nn.Linear(weight.shape[1], weight.shape[0])
        with torch.no_grad():
            linear.weight.copy_(weight)
            linear.bias.copy_(bias)
        modules += [linear, nn.ReLU()]
    return nn.Sequential(*modules[:-1])


def layers_of(module):
    """What `build` was given, as it is now."""
    return [
        (part.weight.detach(), part.bias.detach()) for part in module if isinstance(part, nn.Linear)
    ]


def clip(x, low, high):
    return torch.minimum(torch.maximum(x, torch.tensor(low)), torch.tensor(high))


class Lom:
    """The networks of one run, their optimizers, and one method for each update."""

    def __init__(self, settings, data, behavior, critics, hyper_critic, policy, log_std):
        self.settings = settings
        self.data = data
        self.action_dim = data["actions"].shape[1]
        self.behavior = build(behavior)
        self.critics = [build(critic) for critic in critics]
        self.target_critics = copy.deepcopy(self.critics)
        self.hyper_critic = build(hyper_critic)
        self.policy = build(policy)
        self.log_std = nn.Parameter(log_std.clone())
        adam = torch.optim.Adam
        self.behavior_optimizer = adam(
            self.behavior.parameters(), lr=settings.behavior_learning_rate
        )
        self.critic_optimizers = [
            adam(critic.parameters(), lr=settings.critic_learning_rate) for critic in self.critics
        ]
        self.hyper_critic_optimizer = adam(
            self.hyper_critic.parameters(), lr=settings.hyper_critic_learning_rate
        )
        self.policy_optimizer = adam(
            [*self.policy.parameters(), self.log_std], lr=settings.policy_learning_rate
        )

    # What the networks mean, for one observation (O,).

    def mixture(self, observation):
        """Lists of M mixing weights, means (A,) and standard deviations (A,)."""
        action_dim = self.action_dim
        outputs = self.behavior(observation)
        exponentials, means, stds = [], [], []
        for i in range(self.settings.num_components):
            start = i * (2 * action_dim + 1)  # of this component's own outputs
            mean = outputs[start : start + action_dim]
            if self.settings.squash_means:
                mean = clip(torch.tanh(mean), -0.9999, 0.9999)
            means.append(mean)
            log_std = outputs[start + action_dim : start + 2 * action_dim]
            log_std = clip(log_std, self.settings.min_log_std, self.settings.max_log_std)
            stds.append(torch.exp(log_std))
            exponentials.append(torch.exp(outputs[start + 2 * action_dim]))
        weights = [exponential / sum(exponentials) for exponential in exponentials]
        return weights, means, stds

    def density(self, action, mean, std):
        """Of a Gaussian with a diagonal covariance."""
        result = 1.0
        for j in range(self.action_dim):
            exponent = -((action[j] - mean[j]) ** 2) / (2 * std[j] ** 2)
            result = result * torch.exp(exponent) / (math.sqrt(2 * math.pi) * std[j])
        return result

    def q(self, critic, observation, action):
        return critic(torch.cat([observation, action]))[0]

    def hyper_q(self, observation):
        """A list of the M hyper-Qs."""
        num_components = self.settings.num_components
        if self.settings.hyper_critic == "heads":
            outputs = self.hyper_critic(observation)
            return [outputs[u] for u in range(num_components)]
        values = []
        for u in range(num_components):
            one_hot = torch.zeros(num_components)
            one_hot[u] = 1.0
            values.append(self.hyper_critic(torch.cat([observation, one_hot]))[0])
        return values

    def policy_action(self, observation):
        return torch.tanh(self.policy(observation))

    # The updates. Each returns what it measured.

    def update_behavior(self, rows):
        """Eq. 15."""
        loss = 0.0
        for row in rows:
            observation, action = self.data["observations"][row], self.data["actions"][row]
            weights, means, stds = self.mixture(observation)
            densities = [
                self.density(action, mean, std) for mean, std in zip(means, stds, strict=True)
            ]
            joint = [weight * density for weight, density in zip(weights, densities, strict=True)]
            if self.settings.component_loss == "mixture":
                log_likelihood = torch.log(sum(joint))
            else:
                log_likelihood = sum(torch.log(term) for term in joint) / len(joint)
            loss = loss - log_likelihood / len(rows)
        self.step(self.behavior_optimizer, loss)
        return {"behavior/loss": loss}

    def update_critics(self, update, rows, smoothing):
        """Eq. 16, with an ensemble, smoothing and a terminal mask; then the target networks."""
        settings = self.settings
        targets = []
        with torch.no_grad():
            for b, row in enumerate(rows):
                noise = settings.smoothing_std * smoothing[b]
                noise = clip(noise, -settings.smoothing_clip, settings.smoothing_clip)
                next_action = clip(self.data["next_actions"][row] + noise, -1.0, 1.0)
                next_observation = self.data["next_observations"][row]
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
            self.step(optimizer, loss)
            total = total + loss
        if update % settings.target_update_period == 0:
            with torch.no_grad():
                for target, critic in zip(self.target_critics, self.critics, strict=True):
                    for slow, fast in zip(target.parameters(), critic.parameters(), strict=True):
                        slow.copy_((1 - settings.tau) * slow + settings.tau * fast)
        return {"critics/loss": total, "critics/target_q": sum(targets) / len(targets)}

    def update_hyper_critic(self, rows, noises):
        """Eq. 17 over all components; `noises` is (samples, B, M, A)."""
        loss, highest, lowest = 0.0, 0.0, 0.0
        for b, row in enumerate(rows):
            observation = self.data["observations"][row]
            labels = []
            with torch.no_grad():
                _, means, stds = self.mixture(observation)
                for u in range(self.settings.num_components):
                    label = 0.0
                    for sample in noises:
                        action = means[u] + stds[u] * sample[b, u]
                        label = label + self.q(self.critics[0], observation, action) / len(noises)
                    labels.append(label)
            for value, label in zip(self.hyper_q(observation), labels, strict=True):
                loss = loss + (value - label) ** 2 / (len(rows) * len(labels))
            highest = highest + max(labels) / len(rows)
            lowest = lowest + min(labels) / len(rows)
        self.step(self.hyper_critic_optimizer, loss)
        return {"hyper_critic/loss": loss, "hyper_critic/spread": highest - lowest}

    def candidates(self, weights):
        """The components that are heavy enough, or else the heaviest."""
        return [
            u
            for u in range(len(weights))
            if weights[u] >= self.settings.min_component_weight or weights[u] == max(weights)
        ]

    def choose(self, hyper_qs, mean_qs, weights, uniforms):
        """The component to imitate; the uniforms are one for each component."""
        candidates = self.candidates(weights)
        if self.settings.component_choice == "hyper_critic":
            return max(candidates, key=lambda u: hyper_qs[u].item())
        if self.settings.component_choice == "critic":
            return max(candidates, key=lambda u: mean_qs[u].item())
        if self.settings.component_choice == "heaviest":
            return max(candidates, key=lambda u: weights[u].item())
        if self.settings.component_choice == "first":
            return candidates[0]
        if self.settings.component_choice == "random":
            return max(candidates, key=lambda u: uniforms[u].item())
        # By weight: of exponential waiting times, of rates like the weights, the first to end.
        return min(candidates, key=lambda u: (-torch.log(uniforms[u]) / weights[u]).item())

    def update_policy(self, rows, noises, action_noises, uniforms):
        """Eq. 18."""
        settings = self.settings
        measured = []  # per row: what the averages below are of
        loss = 0.0
        for b, row in enumerate(rows):
            observation = self.data["observations"][row]
            with torch.no_grad():
                mixing_weights, means, stds = self.mixture(observation)
                hyper_qs = self.hyper_q(observation)
                mean_qs = [self.q(self.critics[0], observation, mean) for mean in means]
                u = self.choose(hyper_qs, mean_qs, mixing_weights, uniforms[b])
                action = clip(means[u] + stds[u] * noises[b], -1.0, 1.0)
                action = action + settings.action_noise_std * action_noises[b]
                if settings.baseline == "policy":
                    reference = self.policy_action(observation)
                    baseline = self.q(self.critics[0], observation, reference)
                else:
                    values = mean_qs if settings.baseline == "component_mean" else hyper_qs
                    drawn = [u]
                    if settings.component_choice == "all":
                        drawn = self.candidates(mixing_weights)
                    total = sum(mixing_weights[i] for i in drawn)
                    baseline = sum(mixing_weights[i] * values[i] for i in drawn) / total
                advantage = self.q(self.critics[0], observation, action) - baseline
                weight = torch.exp(settings.inverse_temperature * advantage)
                saturated = weight >= settings.max_weight
                weight = min(weight, torch.tensor(settings.max_weight))
            imitated = self.policy_action(observation)
            if settings.policy_loss == "squared_error":
                cost = sum((imitated - action) ** 2) / self.action_dim
            else:
                cost = -torch.log(self.density(action, imitated, torch.exp(self.log_std)))
            loss = loss + weight * cost / len(rows)
            measured.append(
                {
                    "policy/advantage": advantage,
                    "policy/weight": weight,
                    "policy/saturated_share": saturated,
                    "policy/vanished_share": weight < 1e-3,
                    "policy/chosen_mixing_weight": mixing_weights[u],
                    "policy/rare_choice_share": mixing_weights[u] < 0.05,
                    "policy/chosen_std": sum(stds[u]) / self.action_dim,
                    "policy/chosen_hyper_q": hyper_qs[u],
                }
            )
        self.step(self.policy_optimizer, loss)
        averages = {
            name: sum(row[name].double() for row in measured) / len(measured)
            for name in measured[0]
        }
        return {"policy/loss": loss, **averages}

    def step(self, optimizer, loss):
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
