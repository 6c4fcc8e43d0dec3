"""What a sentence of a paper claims of scores: functions from a table of scores to verdicts.

Each takes anybody's scores, the paper's or ours. Where a sentence leaves open what is meant it is
read in every way that makes sense, the plainest first. Where scores are missing, a claim about all
of them fails at the first exception and is open until the last is known; where nothing at all can
be compared, there is no reading.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis import ranking

HOLDS, FAILS, OPEN = "holds", "fails", "open"
_LISTED = 6  # datasets that are named one by one


class Scores(NamedTuple):
    """Scores of n datasets (rows) and m methods or, ascending, values of M (columns)."""

    means: pd.DataFrame  # (n, m), nan where nothing is known
    deviations: pd.DataFrame  # (n, m), nan where none is known: counts as 0
    rounding: float = 0.0  # by how much a mean may differ from its printed number
    digits: int = 1  # decimals of a score
    subject: str = "LOM"  # the method the claim is of, one of the columns

    def of(
        self, datasets: Sequence[str] | None = None, methods: Sequence[str] | None = None
    ) -> Scores:
        """Some of the datasets and methods."""
        rows = self.means.index if datasets is None else list(datasets)
        columns = self.means.columns if methods is None else list(methods)
        means, deviations = (frame.loc[rows, columns] for frame in (self.means, self.deviations))
        return self._replace(means=means, deviations=deviations)

    @property
    def others(self) -> pd.DataFrame:
        """The means of all methods but the subject."""
        return self.means.drop(columns=self.subject)


class Reading(NamedTuple):
    """One way to read a claim, and what becomes of it."""

    text: str
    verdict: str  # HOLDS, FAILS or OPEN
    numbers: str
    detail: str = ""  # more of them


def best(scores: Scores, needed: int) -> list[Reading]:
    """The subject is the best method on at least `needed` of the datasets."""
    own, rest = scores.means[[scores.subject]].to_numpy(), scores.others.to_numpy()
    known, order = ~np.isnan(own) & ~np.isnan(rest), _apart(scores)
    if not known.any():
        return []
    criteria = {
        f"{scores.subject}'s mean is the highest, alone": own > rest,
        f"{scores.subject}'s mean is the highest or equal to it": own >= rest,
        f"{scores.subject} is above every other method by more than both deviations": order == 1,
        f"no other method is above {scores.subject} by more than both deviations": order != -1,
    }
    readings = []
    for text, better in criteria.items():
        won, lost = (better & known).all(1), (~better & known).any(1)
        detail = "" if readings else _rivals(scores, known.any(1), lost)
        readings.append(count(text, won, lost, needed, detail))
    if rest.shape[1] > 1:
        won, lost = (own > rest) & known, (own <= rest) & known
        each = [count("", *pair, needed).verdict for pair in zip(won.T, lost.T, strict=True)]
        verdict = FAILS if FAILS in each else OPEN if OPEN in each else HOLDS
        counts = won.sum(0)
        named = zip(scores.others, counts, strict=True)
        readings.append(
            Reading(
                f"{scores.subject}'s mean is above that of each other method, one at a time",
                verdict,
                f"at least {counts.min()} of {len(won)}",
                ", ".join(f"{name} {count}" for name, count in named),
            )
        )
    return readings


def _apart(scores: Scores) -> NDArray[np.int64]:
    """(n, m - 1): 1 where the subject is above the other by more than both deviations, -1 below."""
    columns = scores.means.columns
    rows = zip(scores.means.to_numpy(), scores.deviations.to_numpy(), strict=True)
    order = np.stack([ranking.apart(*row)[columns.get_loc(scores.subject)] for row in rows])
    return order[:, columns != scores.subject]


def count(
    text: str, won: NDArray[np.bool_], lost: NDArray[np.bool_], needed: int, detail: str = ""
) -> Reading:
    """At least `needed` datasets are won; those neither won nor lost are not known."""
    unknown = int((~won & ~lost).sum())
    verdict = HOLDS if won.sum() >= needed else OPEN if won.sum() + unknown >= needed else FAILS
    not_run = f", {unknown} not run" if unknown else ""
    return Reading(text, verdict, f"{won.sum()} of {len(won)}{not_run}", detail)


def _rivals(scores: Scores, known: NDArray[np.bool_], lost: NDArray[np.bool_]) -> str:
    """`not hopper-medium 87.2 (WCVAE 89.0)`: the best other method where the subject is not best.

    Where it always is, that of all datasets known.
    """
    listed = []
    for dataset, row in scores.means[lost if lost.any() else known].iterrows():
        rival = row.drop(scores.subject).idxmax()
        own, other = (f"{row[method]:.{scores.digits}f}" for method in (scores.subject, rival))
        listed.append(f"{dataset} {own} ({rival} {other})")
    return "not " * bool(lost.any()) + ", ".join(listed) if len(listed) <= _LISTED else ""


def average(scores: Scores) -> list[Reading]:
    """The subject is better than the others over the datasets as a whole."""
    whole = scores.means.dropna()
    if whole.empty:
        return []
    subject, others = scores.subject, scores.others.columns
    means, places = whole.mean(), whole.rank(axis=1, ascending=False).mean()
    wins = whole[others].lt(whole[subject], axis=0).sum()
    losses = whole[others].gt(whole[subject], axis=0).sum()
    everywhere = best(scores, len(scores.means))[0]
    return [
        over_all(
            f"{subject} has the highest mean over the datasets",
            means[subject] > means[others].max(),
            f"{means[subject]:.1f}, next {means[others].idxmax()} {means[others].max():.1f}",
            scores.means,
        ),
        over_all(
            f"{subject} has the best average rank (1 is the highest mean; ties share)",
            places[subject] < places[others].min(),
            f"{places[subject]:.1f}, next {places[others].idxmin()} {places[others].min():.1f}",
            scores.means,
        ),
        over_all(
            f"{subject} wins on more datasets than it loses, against each other method",
            (wins > losses).all(),
            ", ".join(f"{name} {wins[name]}:{losses[name]}" for name in others),
            scores.means,
        ),
        everywhere._replace(text=f"{subject}'s mean is the highest on every dataset"),
    ]


def over_all(text: str, true: bool, numbers: str, table: pd.DataFrame) -> Reading:
    """A statement about all datasets together: open while one of them lacks a method."""
    known, total = len(table.dropna()), len(table)
    if known < total:
        return Reading(text, OPEN, f"{numbers}, on {known} of {total} datasets")
    return Reading(text, HOLDS if true else FAILS, numbers)


def steadiest(scores: Scores) -> list[Reading]:
    """The subject's scores deviate the least over seeds."""
    deviations = scores.deviations.dropna()
    if deviations.empty:
        return []
    own, others = deviations[scores.subject], deviations.drop(columns=scores.subject)
    means, least = others.mean(), own < others.min(axis=1)
    return [
        over_all(
            f"{scores.subject} has the lowest mean standard deviation",
            own.mean() < means.min(),
            f"{own.mean():.1f}, next {means.idxmin()} {means.min():.1f}",
            scores.deviations,
        ),
        over_all(
            f"{scores.subject} has the lowest standard deviation on most datasets",
            least.mean() > 0.5,
            f"{least.sum()} of {len(least)}",
            scores.deviations,
        ),
    ]


def bold_is_highest(scores: Scores, bold: dict[str, set[str]]) -> list[Reading]:
    """The bold cells of a row are the highest of it, all of them and no other."""
    wrong = []
    for dataset, methods in bold.items():
        row = scores.means.loc[dataset]
        highest = set(row.index[row == row.max()])
        if methods != highest:
            named = (
                " and ".join(f"{name} {row[name]:.{scores.digits}f}" for name in sorted(names))
                for names in (methods, highest)
            )
            wrong.append("{}: bold {}, highest {}".format(dataset, *named))
    return [
        Reading(
            "the bold cells of a row are its highest ones",
            FAILS if wrong else HOLDS,
            f"{len(bold) - len(wrong)} of {len(bold)} rows",
            "; ".join(wrong),
        )
    ]
