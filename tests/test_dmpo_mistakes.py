"""The comparison of test_dmpo.py is worth something: it notices each of these mistakes.

They are planted in the oracle; a comparison does not know which of its two sides is wrong.
"""

import oracle_dmpo
import pytest
from comparison import with_mistake
from test_dmpo import assert_same_training, configuration

from lom_exp.algorithms import dmpo, infodmpo

pytestmark = pytest.mark.usefixtures("float64")

# (what is wrong, the oracle's line, the line with the mistake)
MISTAKES = [
    ("no terminal mask", 'if self.data["terminations"][row] == 0:', "if True:"),
    ("the maximum over critics", "return min(critic(", "return max(critic("),
    ("the worst latent", "if values[k] > values[best]:", "if values[k] < values[best]:"),
    (
        "the next latent chosen by the other critics",
        'if settings.target_selection == "online" else',
        'if settings.target_selection == "target" else',
    ),
    (
        "the online actor's next action",
        "next_action = self.target_actor(next_observation, self.one_hot(k))",
        "next_action = self.actor(next_observation, self.one_hot(k))",
    ),
    (
        "the next latent chosen among the online actor's actions",
        "self.select(self.target_actor, judges, next_observation)",
        "self.select(self.actor, judges, next_observation)",
    ),
    (
        "the next value of online critics",
        "next_q = self.least_q(self.target_critics,",
        "next_q = self.least_q(self.critics,",
    ),
    (
        "smoothing noise without a bound",
        "noise = clip(noise, -settings.smoothing_clip, settings.smoothing_clip)",
        "pass",
    ),
    (
        "next actions that leave the box",
        "clip(next_action + noise, -1.0, 1.0)",
        "next_action + noise",
    ),
    (
        "critics that learn the mean of both errors",
        "(critic(pair)[0] - targets[b]) ** 2 / len(rows)",
        "(critic(pair)[0] - targets[b]) ** 2 / len(rows) / 2",
    ),
    (
        "the Polyak average upside down",
        "(1 - tau) * old + tau * new",
        "tau * old + (1 - tau) * new",
    ),
    (
        "critics' targets that move at every update",
        """            for slow, fast in zip(self.target_critics, self.critics, strict=True):
                move(""",
        """            pass
        if True:
            for slow, fast in zip(self.target_critics, self.critics, strict=True):
                move(""",
    ),
    (
        "an actor whose target stands still",
        "move(self.target_actor, self.actor, settings.tau)",
        "pass",
    ),
    (
        "a policy that moves at the other updates",
        "        if (update + 1) % settings.policy_period == 0:",
        "        if update % settings.policy_period == 0:",
    ),
    (
        "the advantage over the online actor",
        "self.select(self.target_actor, self.critics, observations[row])",
        "self.select(self.actor, self.critics, observations[row])",
    ),
    (
        "the advantage by target critics",
        "own = self.least_q(self.critics,",
        "own = self.least_q(self.target_critics,",
    ),
    (
        "advantages that are not normalized",
        "(advantage - largest) / width",
        "(advantage - largest)",
    ),
    ("weights that are not divided by their mean", "[weight / mean for", "[weight for"),
    (
        "a divergence without the advantage's weight",
        "+ settings.kl_weight * divergence",
        "+ settings.kl_weight * divergence / weights[b]",
    ),
    (
        "the mean over action dimensions",
        "cost = sum(errors**2)",
        "cost = sum(errors**2) / len(errors)",
    ),
    ("half the squared error", "cost = sum(errors**2)", "cost = sum(errors**2) / 2"),
    (
        "the divergence the other way round",
        "p * torch.log((p + EPSILON) / (q + EPSILON))",
        "q * torch.log((q + EPSILON) / (p + EPSILON))",
    ),
    (
        "a prior that is learned from",
        "            with torch.no_grad():\n                values =",
        "            if True:\n                values =",
    ),
    (
        "the target actor's prior",
        "self.latent_values(self.actor, self.critics, observation)",
        "self.latent_values(self.target_actor, self.critics, observation)",
    ),
    (
        "the target critics' prior",
        "self.latent_values(self.actor, self.critics, observation)",
        "self.latent_values(self.actor, self.target_critics, observation)",
    ),
    (
        "a latent that is not drawn",
        "torch.log(probabilities[k] + EPSILON) + gumbel",
        "torch.log(probabilities[k] + EPSILON)",
    ),
    ("Gumbel noise upside down", "gumbel = -torch.log(-torch", "gumbel = torch.log(-torch"),
    (
        "a hard latent",
        "latent = self.relaxed_latent(probabilities, uniforms[b])",
        "latent = self.one_hot(self.relaxed_latent(probabilities, uniforms[b]).argmax())",
    ),
    (
        "a temperature that multiplies",
        "logit / self.settings.gumbel_temperature",
        "logit * self.settings.gumbel_temperature",
    ),
    (
        "an embedding without its ReLU",
        "torch.relu(self.embedding(latent))",
        "self.embedding(latent)",
    ),
    ("a ReLU network's output in place of its tanh", "return torch.tanh(self", "return (self"),
]
INFORMATION_MISTAKES = [
    (
        "a discriminator that alone learns",
        "parameters = itertools.chain(self.actor.parameters(), self.discriminator.parameters())",
        "parameters = self.discriminator.parameters()",
    ),
    (
        "an actor that alone learns",
        "parameters = itertools.chain(self.actor.parameters(), self.discriminator.parameters())",
        "parameters = self.actor.parameters()",
    ),
    (
        "information that is lost",
        "loss = loss - torch.log(probabilities[k]) / len(rows)",
        "loss = loss + torch.log(probabilities[k]) / len(rows)",
    ),
    (
        "the other loss",
        'if self.settings.information_loss == "released":',
        'if self.settings.information_loss == "intended":',
    ),
    (
        "the dataset's actions told apart",
        "action = self.actor(observation, self.one_hot(k))\n            probabilities",
        'action = self.data["actions"][row]\n            probabilities',
    ),
    (
        "the target actor told apart",
        "action = self.actor(observation, self.one_hot(k))\n            probabilities",
        "action = self.target_actor(observation, self.one_hot(k))\n            probabilities",
    ),
    (
        "a step at every update",
        "if (update + 1) % self.settings.policy_period == 0:",
        "if True:",
    ),
    (
        "the posterior in place of the discriminator",
        "self.discriminator(torch.cat",
        "self.posterior(torch.cat",
    ),
]
ALL = [(dmpo, *mistake) for mistake in MISTAKES]
ALL += [(infodmpo, *mistake) for mistake in INFORMATION_MISTAKES]


@pytest.mark.parametrize("mistake", ALL, ids=lambda mistake: mistake[1])
def test_a_planted_mistake_is_noticed(mistake):
    algorithm, _, line, mistaken_line = mistake
    mistaken = with_mistake(oracle_dmpo, line, mistaken_line)
    with pytest.raises(AssertionError, match="not close"):
        assert_same_training(algorithm, configuration(algorithm), mistaken)
