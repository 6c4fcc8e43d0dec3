"""The comparison of test_lom.py is worth something: it notices each of these mistakes.

They are planted in the oracle; a comparison does not know which of its two sides is wrong.
"""

import types
from pathlib import Path

import oracle_lom
import pytest
from test_lom import assert_same_training, configuration

pytestmark = pytest.mark.usefixtures("float64")

# (what is wrong, the oracle's line, the line with the mistake, settings under which it matters)
MISTAKES = [
    (
        "no terminal mask",
        'if self.data["terminations"][row] == 0:',
        "if True:",
        {},
    ),
    (
        "a terminal mask that is upside down",
        'if self.data["terminations"][row] == 0:',
        'if self.data["terminations"][row] == 1:',
        {},
    ),
    (
        "the maximum over critics",
        "next_q = min(",
        "next_q = max(",
        {},
    ),
    (
        "the minimum over the critics instead of over their targets",
        "for target in self.target_critics\n",
        "for target in self.critics\n",
        {},
    ),
    (
        "the action instead of the next action",
        'self.data["next_actions"][row] + noise',
        'self.data["actions"][row] + noise',
        {},
    ),
    (
        "the observation instead of the next observation",
        'next_observation = self.data["next_observations"][row]',
        'next_observation = self.data["observations"][row]',
        {},
    ),
    (
        "no discount",
        "target + settings.discount * next_q",
        "target + next_q",
        {},
    ),
    (
        "smoothing noise without a bound",
        "noise = clip(noise, -settings.smoothing_clip, settings.smoothing_clip)",
        "pass",
        {},
    ),
    (
        "next actions that leave the box",
        'clip(self.data["next_actions"][row] + noise, -1.0, 1.0)',
        'self.data["next_actions"][row] + noise',
        {},
    ),
    (
        "the Polyak average upside down",
        "(1 - settings.tau) * slow + settings.tau * fast",
        "settings.tau * slow + (1 - settings.tau) * fast",
        {},
    ),
    (
        "targets that move at odd updates",
        "update % settings.target_update_period == 0",
        "update % settings.target_update_period == 1",
        {},
    ),
    (
        "targets that move at every update",
        "update % settings.target_update_period == 0",
        "True",
        {},
    ),
    (
        "the critics' summed error",
        "(value - targets[b]) ** 2 / len(rows)",
        "(value - targets[b]) ** 2",
        {},
    ),
    (
        "labels from another critic than the first",
        "self.q(self.critics[0], observation, action) / len(noises)",
        "self.q(self.critics[1], observation, action) / len(noises)",
        {},
    ),
    (
        "labels from a target critic",
        "self.q(self.critics[0], observation, action) / len(noises)",
        "self.q(self.target_critics[0], observation, action) / len(noises)",
        {},
    ),
    (
        "labels at the components' means",
        "means[u] + stds[u] * sample[b, u]",
        "means[u]",
        {},
    ),
    (
        "labels of clipped actions",
        "action = means[u] + stds[u] * sample[b, u]",
        "action = clip(means[u] + stds[u] * sample[b, u], -1.0, 1.0)",
        {},
    ),
    (
        "the first sample alone",
        "for sample in noises:",
        "for sample in [noises[0]] * len(noises):",
        {"hyper_critic_samples": 2},
    ),
    (
        "the hyper-critic's error summed over components",
        "/ (len(rows) * len(labels))",
        "/ len(rows)",
        {},
    ),
    (
        "the component of lowest hyper-Q",
        "return max(candidates, key=lambda u: hyper_qs[u].item())",
        "return min(candidates, key=lambda u: hyper_qs[u].item())",
        {},
    ),
    (
        "the component of largest mixing weight",
        "key=lambda u: hyper_qs[u].item()",
        "key=lambda u: weights[u].item()",
        {},
    ),
    (
        "the hyper-Q in place of the Q of the component's mean",
        "key=lambda u: mean_qs[u].item()",
        "key=lambda u: hyper_qs[u].item()",
        {"component_choice": "critic"},
    ),
    (
        "the last component in place of the first",
        "return candidates[0]",
        "return candidates[-1]",
        {"component_choice": "first"},
    ),
    (
        "components drawn by chance alone in place of their weights",
        "-torch.log(uniforms[u]) / weights[u]",
        "-torch.log(uniforms[u])",
        {"component_choice": "all"},
    ),
    (
        "the baseline of the drawn component in place of the whole mixture's",
        "drawn = self.candidates(mixing_weights)",
        "pass",
        {"component_choice": "all", "baseline": "hyper_critic"},
    ),
    (
        "a baseline that counts components which may not be chosen",
        "drawn = self.candidates(mixing_weights)",
        "drawn = range(len(mixing_weights))",
        {"component_choice": "all", "baseline": "component_mean", "min_component_weight": 0.2},
    ),
    (
        "the mean of the components' Qs without their weights",
        "mixing_weights[i] * values[i]",
        "values[i] * total / len(drawn)",
        {"component_choice": "all", "baseline": "hyper_critic"},
    ),
    (
        "light components that may be chosen",
        "if weights[u] >= self.settings.min_component_weight or weights[u] == max(weights)",
        "if True",
        {"min_component_weight": 0.2},
    ),
    (
        "the component's mean imitated",
        "means[u] + stds[u] * noises[b]",
        "means[u]",
        {},
    ),
    (
        "an imitated action that leaves the box",
        "clip(means[u] + stds[u] * noises[b], -1.0, 1.0)",
        "means[u] + stds[u] * noises[b]",
        {},
    ),
    (
        "an imitated action clipped after its noise",
        "action = action + settings.action_noise_std * action_noises[b]",
        "action = clip(action + settings.action_noise_std * action_noises[b], -1.0, 1.0)",
        {"action_noise_std": 0.4},
    ),
    (
        "the baseline of the imitated action's component instead of the policy's action",
        "reference = self.policy_action(observation)",
        "reference = means[u]",
        {},
    ),
    (
        "the baseline of the policy's action before its tanh",
        "reference = self.policy_action(observation)",
        "reference = self.policy(observation)",
        {},
    ),
    (
        "an exponent that is divided",
        "settings.inverse_temperature * advantage",
        "advantage / settings.inverse_temperature",
        {},
    ),
    (
        "weights without a ceiling",
        "weight = min(weight, torch.tensor(settings.max_weight))",
        "pass",
        {},
    ),
    (
        "the policy's summed error",
        "weight * cost / len(rows)",
        "weight * cost",
        {},
    ),
    (
        "the policy's error summed over action dimensions",
        "sum((imitated - action) ** 2) / self.action_dim",
        "sum((imitated - action) ** 2)",
        {},
    ),
    (
        "the policy's error without weights",
        "weight * cost / len(rows)",
        "cost / len(rows)",
        {},
    ),
    (
        "the likelihood of one component after another without their mixing weights",
        "[weight * density for",
        "[density for",
        {},
    ),
    (
        "the legacy component loss in place of the mixture's",
        'if self.settings.component_loss == "mixture":',
        "if False:",
        {},
    ),
    (
        "log-stds without bounds",
        "log_std = clip(log_std, self.settings.min_log_std, self.settings.max_log_std)",
        "pass",
        {},
    ),
    (
        "means that are not squashed",
        "if self.settings.squash_means:",
        "if False:",
        {},
    ),
]


def test_every_planted_mistake_is_found_only_by_its_line():
    source = Path(oracle_lom.__file__).read_text()
    for name, line, _, _ in MISTAKES:
        assert source.count(line) == 1, name


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake[0])
def test_a_planted_mistake_is_noticed(mistake):
    _, line, mistaken_line, changes = mistake
    source = Path(oracle_lom.__file__).read_text().replace(line, mistaken_line)
    mistaken = types.ModuleType("mistaken_oracle")
    exec(compile(source, "mistaken_oracle", "exec"), mistaken.__dict__)
    with pytest.raises(AssertionError, match="not close"):
        assert_same_training(configuration(**changes), mistaken.Lom)
