"""The score of a policy chosen online, against the episodes spent on choosing it.

The evaluation protocol of Jackson et al. (2025, "A Clean Slate for Offline Reinforcement
Learning", arXiv 2504.11453): the trained policies of a sweep are the arms of a bandit. Each episode
is played with the policy of the highest upper confidence bound (UCB1), and after each the policy
with the highest mean so far is the choice. What it scores is that policy's mean over all of its
evaluation's episodes. Here an episode is drawn from those of a run's last evaluation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from analysis import drawing
from analysis.runs import Results

Floats = NDArray[np.float64]

POLICIES = 8  # at a time; of more a trial draws so many
EPISODES = 200
TRIALS = 1000
EXPLORATION = 2.0  # of the bound, mean + sqrt(2 log(t) / n), in units of 100 points of score


class Curve(NamedTuple):
    """After each number of episodes, 0 to EPISODES: the score of the policy chosen."""

    mean: Floats  # over trials
    low: Floats  # and their quartiles
    high: Floats


def trials(policies: Sequence[Floats], seed: int = 0) -> Floats:
    """(TRIALS, 1 + EPISODES) scores of the policy chosen after each number of episodes.

    Args:
        policies: the scores of each policy's episodes.
    """
    rng = np.random.default_rng(seed)
    truth = np.array([episodes.mean() for episodes in policies])
    count = min(POLICIES, len(policies))
    arms = rng.permuted(np.tile(np.arange(len(policies)), (TRIALS, 1)), axis=1)[:, :count]
    sizes = np.array([len(episodes) for episodes in policies])
    episodes = np.zeros((len(policies), sizes.max()))
    for row, scores in zip(episodes, policies, strict=True):
        row[: len(scores)] = scores
    each = np.arange(TRIALS)
    pulls, sums = np.zeros((TRIALS, count)), np.zeros((TRIALS, count))
    chosen = np.empty((TRIALS, 1 + EPISODES))
    chosen[:, 0] = truth[arms[:, 0]]  # without an episode any is as good as another
    for step in range(EPISODES):
        with np.errstate(divide="ignore", invalid="ignore"):
            bound = sums / pulls + 100 * np.sqrt(EXPLORATION * math.log(step + 1) / pulls)
        bound[pulls == 0] = math.inf  # each is played once, in its order
        arm = bound.argmax(1)
        policy = arms[each, arm]
        played = episodes[policy, rng.integers(sizes[policy])]
        pulls[each, arm] += 1
        sums[each, arm] += played
        means = np.where(pulls > 0, sums / np.maximum(pulls, 1), -math.inf)
        chosen[:, step + 1] = truth[arms[each, means.argmax(1)]]
    return chosen


def curve(datasets: Sequence[Sequence[Floats]]) -> Curve:
    """The mean over datasets of trials on each; per dataset the policies' scores."""
    over = np.mean([trials(policies, seed) for seed, policies in enumerate(datasets)], 0)
    low, high = np.percentile(over, [25, 75], axis=0)
    return Curve(over.mean(0), low, high)


def policies(results: Results, label: str) -> dict[str, list[Floats]]:
    """By dataset, the scores of the last evaluation's episodes of each run of an algorithm."""
    mine = results.episodes[results.episodes["label"] == label]
    last = mine.groupby("run", observed=True)["step"].transform("max")
    mine = mine[mine["step"] == last]
    final = mine.groupby("run", observed=True)["final"].transform("any")
    mine = mine[mine["final"] == final]
    found: dict[str, list[Floats]] = {}
    for (env, _), runs in mine.groupby(["env", "run"], observed=True, sort=True):
        if runs["score"].notna().all():
            found.setdefault(str(env), []).append(runs["score"].to_numpy())
    return found


def write(results: Results, labels: Sequence[str], data: str, out: Path) -> list[Path]:
    """Draw a curve for each algorithm into bandit.png and .pdf, and write bandit.csv."""
    found = {label: policies(results, label) for label in labels}
    curves = {label: curve(list(datasets.values())) for label, datasets in found.items()}
    colors = drawing.colors(labels)
    spent = np.arange(1 + EPISODES)
    tried = [runs for datasets in found.values() for runs in datasets.values()]
    counts = sorted({len(runs) for runs in tried})
    sizes = sorted({len(scores) for runs in tried for scores in runs})
    datasets = sorted({env for each in found.values() for env in each})
    caption = [
        "Line: score of the policy that UCB would choose after so many episodes, mean of "
        f"{TRIALS:,} trials and of the datasets; band: their middle half. A trial is on "
        f"{' or '.join(map(str, counts))} policies"
        + (f", of which it draws {POLICIES}" if max(counts) > POLICIES else "")
        + f" (every setting and seed of the sweep), whose episodes are drawn from the "
        f"{' or '.join(map(str, sizes))} of their last evaluation. Dotted: the best policy.",
        f"Datasets: {', '.join(datasets)}. {data}",
        *drawing.incomplete(results),
    ]
    legend = [Line2D([], [], color=colors[label], label=label, linewidth=1.6) for label in labels]
    with drawing.figure(5.5, 3.0, legend, caption) as figure:
        axes = figure.subplots()
        for label, (mean, low, high) in curves.items():
            axes.fill_between(spent, low, high, color=colors[label], alpha=0.15, linewidth=0)
            axes.plot(spent, mean, color=colors[label], linewidth=1.6)
            best = np.mean([max(map(np.mean, runs)) for runs in found[label].values()])
            axes.axhline(best, color=colors[label], linestyle=":", linewidth=1.2)
        axes.set_xlim(0, EPISODES)
        axes.set_xlabel("episodes spent on choosing")
        axes.set_ylabel("normalized score of the choice")
        files = drawing.save(figure, out / "bandit")
    frame = pd.concat(
        pd.DataFrame(
            {"label": label, "episodes": spent, "score": mean, "quartile1": low, "quartile3": high}
        )
        for label, (mean, low, high) in curves.items()
    )
    frame.round(6).to_csv(out / "bandit.csv", index=False, lineterminator="\n")
    return [*files, out / "bandit.csv"]
