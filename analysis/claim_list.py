"""What LOM's paper says of its results, sentence by sentence, and how each is checked.

All of the abstract, introduction, experiments and conclusion that numbers can tell, and what the
rest says of results. Source: Wang, Jin and Montana, "Learning on One Mode: Addressing
Multi-modality in Offline Reinforcement Learning", ICLR 2025 (arXiv:2412.03258).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from analysis.claim_checks import Reading, Scores, average, best, bold_is_highest, steadiest
from analysis.claim_curves import indifferent, rises_to, trend
from analysis.claim_gains import gain_range, mean_gain, more_on
from analysis.claim_scores import FULL_REPLAY, MEDIUM_REPLAY, NO_MODE

MULTI_MODAL_DATA = [*MEDIUM_REPLAY, *FULL_REPLAY]
MULTI_MODAL_METHODS = ["LAPO", "DMPO", "WCGAN", "WCVAE"]
UNIMODAL_METHODS = ["OneStep", "AWAC", "CQL", "TD3BC"]
# As far as a copy of the paper in plain text shows it; it has lost the type of halfcheetah-medium
# and walker2d-medium.
BOLD = {
    "hopper-medium": {"WCVAE"},
    **{dataset: {"LOM"} for dataset in MULTI_MODAL_DATA},
    "halfcheetah-medium-expert": {"LOM"},
    "hopper-medium-expert": {"LOM"},
    "walker2d-medium-expert": {"LOM"},
    "halfcheetah-expert": {"DMPO"},
    "hopper-expert": {"LOM"},
    "walker2d-expert": {"LAPO"},
}


class Claim(NamedTuple):
    """A sentence of the paper, and the check of it."""

    where: str
    quote: str
    needs: str  # what must be so for it to hold
    table: str  # key of the scores it is about
    check: Callable[[Scores], list[Reading]]
    of_print: bool = False  # about the paper's table itself, not about results


CLAIMS = [
    Claim(
        "Abstract, Section 7",
        "LOM outperforms existing methods on standard D4RL benchmarks",
        "LOM is ahead in Table 1 as a whole. Section 7: “LOM achieves SOTA performance”.",
        "table1",
        average,
    ),
    Claim(
        "Abstract",
        "demonstrates its effectiveness in complex, multi-modal scenarios",
        "LOM is the best method on the three tasks of Table 2.",
        "table2",
        lambda scores: best(scores, len(scores.means)),
    ),
    Claim(
        "Section 1",
        "outperforms state-of-the-art (SOTA) offline RL methods across various benchmarks, "
        "particularly in multi-modal datasets",
        "LOM's lead in Table 1 is larger on medium-replay and full-replay, which Section 6.1 calls "
        "highly multi-modal, than on the other datasets.",
        "table1",
        lambda scores: more_on(scores, MULTI_MODAL_DATA),
    ),
    Claim(
        "Section 1",
        "consistent performance improvements over both the behaviour policy and the optimal action "
        "mode",
        "On the tasks of Table 2 LOM is above MDN, the model of the behaviour policy. (Theorem 2, "
        "of which the sentence is, is about exact values; of the optimal mode's own policy "
        "neither the paper nor we have scores.)",
        "table2",
        lambda scores: best(scores.of(methods=["MDN", "LOM"]), len(scores.means)),
    ),
    Claim(
        "Section 1",
        "LOM achieves robust results",
        "The paper does not say what robust is. Read here as: LOM's scores deviate less over seeds "
        "than those of the four other methods with deviations in Table 1.",
        "table1",
        lambda scores: steadiest(scores.of(methods=[*MULTI_MODAL_METHODS, "LOM"])),
    ),
    Claim(
        "Section 4.5",
        "LOM achieves further policy improvement compared to one-step algorithms",
        "LOM is above OneStep on all datasets of Table 1.",
        "table1",
        lambda scores: best(scores.of(methods=["OneStep", "LOM"]), len(scores.means)),
    ),
    Claim(
        "Table 1",
        "The highest mean are highlighted in bold",
        "A row's bold cells are its highest. Of two rows, halfcheetah-medium and walker2d-medium, "
        "the copy of the paper used here does not show what is bold.",
        "table1",
        lambda scores: bold_is_highest(scores, BOLD),
        of_print=True,
    ),
    Claim(
        "Section 6.1",
        "LOM outperforms the baseline algorithms in 12 out of 15 tasks",
        "LOM is the best method on 12 datasets of Table 1 or more. (It is 12 if the two rows of "
        "claim 7 count as wins, as their bold type has it.)",
        "table1",
        lambda scores: best(scores, 12),
    ),
    Claim(
        "Section 6.1",
        "In tasks with multi-modal datasets, LOM surpasses all the baselines",
        "LOM is the best method on the six medium-replay and full-replay datasets of Table 1.",
        "table1",
        lambda scores: best(scores.of(MULTI_MODAL_DATA), len(MULTI_MODAL_DATA)),
    ),
    Claim(
        "Section 6.1",
        "a performance improvement ranging from 0.2% to 7.9% over the SOTA results",
        "On these six datasets LOM's smallest and largest gain over the best other method are "
        "0.2 % and 7.9 %. Which methods are the SOTA is left open.",
        "table1",
        lambda scores: gain_range(
            scores.of(MULTI_MODAL_DATA),
            0.2,
            7.9,
            {
                "the best of all eight baselines": [*UNIMODAL_METHODS, *MULTI_MODAL_METHODS],
                "the best of the four baselines for multi-modality": MULTI_MODAL_METHODS,
                "the best of the four other baselines": UNIMODAL_METHODS,
            },
        ),
    ),
    Claim(
        "Section 6.2",
        "LOM outperforms the baseline algorithms by an average of 53%",
        "LOM's average gain in Table 2 is 53 %. Over which methods is left open (the sentence ends "
        "a paragraph on BC, AWAC and MDN), and so is the average: the mean of the gains over "
        "methods and tasks, or the gain of LOM's sum over the tasks over the methods' mean sum.",
        "table2",
        lambda scores: mean_gain(
            scores,
            53,
            {
                "all five baselines": ["BC", "MDN", "AWAC", "WCGAN", "WCVAE"],
                "the three baselines of the paragraph": ["BC", "MDN", "AWAC"],
            },
        ),
    ),
    Claim(
        "Section 6.2",
        "learning on one mode effectively improves policy performance",
        "On the tasks of Table 2 LOM is above AWAC, which “applies weighted imitation learning” "
        "to all modes.",
        "table2",
        lambda scores: best(scores.of(methods=["AWAC", "LOM"]), len(scores.means)),
    ),
    Claim(
        "Section 6.2",
        "learning on one mode effectively improves policy performance",
        "LOM is above the same algorithm that imitates its whole mixture, weighted.",
        "ablation",
        lambda scores: best(scores.of(methods=[NO_MODE, "LOM"]), len(scores.means)),
    ),
    Claim(
        "Section 6.2",
        "LOM imitates actions from the best single mode, filtering out suboptimal actions",
        "In Figure 2, at one initial state, a larger share of LOM's actions than of any other "
        "method's is near those of the best goal's expert.",
        "figure2",
        lambda scores: best(scores, len(scores.means)),
    ),
    Claim(
        "Section 6.3",
        "When M is too large [...], the standard deviation of the imitated Gaussian mode becomes "
        "excessively small",
        "In Figure 4 the standard deviation of the imitated component falls with M, to the largest "
        "M if not at every step.",
        "figure4",
        lambda scores: trend(scores, sign=-1)[::-1],
    ),
    Claim(
        "Section 6.3",
        "The performance generally improves as the number of mixture components increases",
        "In Figure 3 the scores rise with M on all six datasets, though not at every step. "
        "(It has M = 1, 5, 10, 15, 20; Table 1's M are chosen from 2, 5, 10, 15, 20. Here: those "
        "that were run.)",
        "figure3",
        lambda scores: trend(scores)[1:],
    ),
    Claim(
        "Section 6.3",
        "particularly in the medium-replay dataset, where larger M values lead to continuous "
        "performance gains",
        "In Figure 3 the scores rise with M on the three medium-replay datasets.",
        "figure3",
        lambda scores: trend(scores.of(MEDIUM_REPLAY)),
    ),
    Claim(
        "Section 6.3",
        "in the full-replay datasets, performance increases only up to M=10",
        "In Figure 3 the scores rise to M = 10 and not beyond on the three full-replay datasets.",
        "figure3",
        lambda scores: rises_to(scores.of(FULL_REPLAY), 10),
    ),
    Claim(
        "Section 6.3",
        "improvements can be achieved with a moderate, though not highly specific, value of M",
        "In Figure 3 the values of M between the smallest and the largest score alike.",
        "figure3",
        indifferent,
    ),
    Claim(
        "Appendix A",
        "the MDN showing minimal mode overlap and the clearest boundaries between modes",
        "In Figure 5 more of the MDN's samples are on the rings than of any other model's.",
        "figure5",
        lambda scores: best(scores.of(["rings-unrewarded, on the rings"]), 1),
    ),
    Claim(
        "Appendix A",
        "the MDN with ranked components closely adheres to in-distribution actions",
        "The same of its ten components of highest hyper-Q, beside the models weighted by rewards.",
        "figure5",
        lambda scores: best(scores.of(["rings, on the rings"]), 1),
    ),
    Claim(
        "Appendix A",
        "achieves superior outcomes in terms of reward, compared to the other models",
        "In Figure 5 more samples of these components are rewarded than of any other model.",
        "figure5",
        lambda scores: best(scores.of(["rings, rewarded"]), 1),
    ),
]
