"""The claims of LOM's paper: hand-worked tables for every check, and the page that is kept."""

import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from result_folders import ResultsFolder

from analysis import claim_checks, claim_curves, claim_gains, claim_list, claim_scores, claims, runs
from analysis.claim_checks import FAILS, HOLDS, OPEN, Reading, Scores

ROOT = Path(__file__).resolve().parents[1]
NAN = math.nan


def scores(
    means: dict[str, list[float]],
    deviations: dict[str, list[float]] | None = None,
    rounding: float = 0.0,
    columns: list[object] | None = None,
    subject: str = "LOM",
) -> Scores:
    """Rows by dataset; the columns are LOM, A and B unless others are given."""
    columns = columns or ["LOM", "A", "B"]
    table = pd.DataFrame(means, index=columns, dtype=float).T
    spread = pd.DataFrame(deviations, index=columns, dtype=float).T if deviations else table * NAN
    return Scores(table, spread, rounding, subject=subject)


def verdicts(readings: list[Reading]) -> list[str]:
    return [reading.verdict for reading in readings]


def numbers(readings: list[Reading]) -> list[str]:
    return [reading.numbers for reading in readings]


# Which method is best


WINS = {"one": [5, 3, 4], "two": [5, 5, 1], "three": [2, 1, 3], "four": [9, 1, 1]}


def test_best_counts_wins_ties_and_each_rival_alone() -> None:
    readings = claim_checks.best(scores(WINS), needed=3)

    # Without deviations, to be apart is to be higher, and not to be below is to be as high.
    assert numbers(readings) == ["2 of 4", "3 of 4", "2 of 4", "3 of 4", "at least 3 of 4"]
    assert verdicts(readings) == [FAILS, HOLDS, FAILS, HOLDS, HOLDS]
    assert readings[0].detail == "not two 5.0 (A 5.0), three 2.0 (B 3.0)"
    assert readings[-1].detail == "A 3, B 3"


def test_best_tells_methods_apart_by_both_deviations() -> None:
    # one: 5 - 0.4 < 4 + 0.7; two: 5 - 0.4 > 4 + 0.5; three: 3 + 0.4 < 4 - 0.5
    means = {"one": [5, 4, 0], "two": [5, 4, 0], "three": [3, 4, 0]}
    deviations = {"one": [0.4, 0.7, 0], "two": [0.4, 0.5, 0], "three": [0.4, 0.5, 0]}
    readings = claim_checks.best(scores(means, deviations), needed=2)
    assert numbers(readings)[:4] == ["2 of 3", "2 of 3", "1 of 3", "2 of 3"]
    assert verdicts(readings)[:4] == [HOLDS, HOLDS, FAILS, HOLDS]


def test_a_planted_loss_flips_best() -> None:
    assert verdicts(claim_checks.best(scores(WINS), needed=2))[0] == HOLDS
    planted = WINS | {"four": [9, 1, 9.1]}
    assert verdicts(claim_checks.best(scores(planted), needed=2))[0] == FAILS


def test_missing_scores_leave_best_open_until_nothing_can_change_it() -> None:
    means = {"one": [5, 3, 4], "two": [5, 3, NAN], "three": [NAN, 3, 4], "four": [3, 4, NAN]}

    def verdict(needed: int) -> str:
        return claim_checks.best(scores(means), needed)[0].verdict

    # One is won; two and three can still be; four is lost to A whatever B has.
    assert claim_checks.best(scores(means), 1)[0].numbers == "1 of 4, 2 not run"
    assert [verdict(1), verdict(3), verdict(4)] == [HOLDS, OPEN, FAILS]
    assert claim_checks.best(scores({"one": [NAN, 1, 2]}), 1) == []


def test_a_rival_alone_decides_once_it_has_too_many_ties_or_wins() -> None:
    # Over A one win and nothing else known; over B a tie and a loss, of which one win was needed.
    means = {"one": [5, 3, 5], "two": [5, NAN, 6]}
    reading = claim_checks.best(scores(means), needed=1)[-1]
    assert (reading.verdict, reading.numbers) == (FAILS, "at least 0 of 2")
    open_to_a = claim_checks.best(scores(means | {"one": [5, 3, 4]}), needed=2)[-1]
    assert open_to_a.verdict == FAILS  # for B, though A is open
    both_open = claim_checks.best(scores({"one": [5, 3, 4], "two": [5, NAN, 4]}), needed=2)[-1]
    assert both_open.verdict == OPEN
    tied = claim_checks.best(scores({"one": [5, 3, 4], "two": [5, NAN, 5]}), needed=2)[-1]
    assert tied.verdict == FAILS


def test_the_subject_need_not_be_lom() -> None:
    first, *_ = claim_checks.best(scores({"one": [5, 6, 4]}, subject="A"), 1)
    assert first == Reading("A's mean is the highest, alone", HOLDS, "1 of 1", "one 6.0 (LOM 5.0)")


def test_an_average_is_a_mean_a_rank_or_a_record_of_wins() -> None:
    # LOM's mean is the highest by the last dataset alone; A is ahead on two of three.
    means = {"one": [1, 2, 0], "two": [1, 2, 0], "three": [9, 0, 1]}
    readings = claim_checks.average(scores(means))
    assert verdicts(readings) == [HOLDS, FAILS, FAILS, FAILS]
    assert numbers(readings)[:3] == ["3.7, next A 1.3", "1.7, next A 1.7", "A 1:2, B 3:0"]

    planted = claim_checks.average(scores(means | {"three": [4.1, 0, 1]}))
    assert verdicts(planted)[0] == HOLDS
    assert verdicts(claim_checks.average(scores(means | {"three": [1.9, 0, 1]})))[0] == FAILS


def test_an_average_over_some_of_the_datasets_is_open() -> None:
    readings = claim_checks.average(scores({"one": [3, 2, 1], "two": [3, NAN, 1]}))
    assert verdicts(readings) == [OPEN, OPEN, OPEN, OPEN]
    assert numbers(readings)[0] == "3.0, next A 2.0, on 1 of 2 datasets"
    assert claim_checks.average(scores({"one": [3, NAN, 1]})) == []


def test_the_steadiest_has_the_lowest_deviations() -> None:
    means = {"one": [1, 1, 1], "two": [1, 1, 1], "three": [1, 1, 1]}
    deviations = {"one": [2, 3, 4], "two": [2, 3, 4], "three": [3, 2, 4]}
    readings = claim_checks.steadiest(scores(means, deviations))
    assert numbers(readings) == ["2.3, next A 2.7", "2 of 3"]
    assert verdicts(readings) == [HOLDS, HOLDS]

    planted = claim_checks.steadiest(scores(means, deviations | {"two": [3.5, 3, 4]}))
    assert verdicts(planted) == [FAILS, FAILS]
    unknown = claim_checks.steadiest(scores(means, deviations | {"two": [2, NAN, 4]}))
    assert verdicts(unknown) == [OPEN, OPEN]
    assert claim_checks.steadiest(scores(means)) == []


def test_bold_cells_are_all_of_the_highest_and_no_other() -> None:
    table = scores({"one": [5, 3, 4], "two": [5, 5, 4], "three": [1, 2, 3]})
    right = {"one": {"LOM"}, "two": {"LOM", "A"}, "three": {"B"}}
    assert verdicts(claim_checks.bold_is_highest(table, right)) == [HOLDS]
    for planted in ({"one": {"B"}}, {"two": {"LOM"}}):
        (reading,) = claim_checks.bold_is_highest(table, right | planted)
        assert (reading.verdict, reading.numbers) == (FAILS, "2 of 3 rows")
    assert reading.detail == "two: bold LOM 5.0, highest A 5.0 and LOM 5.0"


# By how much


def test_a_range_of_gains_is_over_the_best_of_the_group() -> None:
    table = scores({"one": [101, 100, 50], "two": [108, 99, 100]})
    both, only_b = claim_gains.gain_range(table, 1.0, 8.0, {"both": ["A", "B"], "B": ["B"]})
    assert (both.text, both.verdict, both.numbers) == ("over both", HOLDS, "+1.00 % to +8.00 %")
    assert (only_b.verdict, only_b.numbers) == (FAILS, "+8.00 % to +102.00 %")


@pytest.mark.parametrize("planted", [[101.1, 100, 50], [100.9, 100, 50], [108.2, 100, 50]])
def test_a_planted_gain_flips_a_range(planted: list[float]) -> None:
    table = scores({"one": planted, "two": [108, 99, 100]})
    (reading,) = claim_gains.gain_range(table, 1.0, 8.0, {"both": ["A", "B"]})
    assert reading.verdict == FAILS


def test_a_range_holds_where_rounding_allows_it() -> None:
    # 48.8 / 45.2 is 7.96 % more, which rounds to 8.0; 48.75 / 45.25 is 7.73 %.
    cells, groups = {"one": [48.8, 45.2, 0], "two": [99.2, 99.0, 0]}, {"A": ["A"]}
    (exact,) = claim_gains.gain_range(scores(cells), 0.2, 7.9, groups)
    (rounded,) = claim_gains.gain_range(scores(cells, rounding=0.05), 0.2, 7.9, groups)
    assert [exact.verdict, rounded.verdict] == [FAILS, HOLDS]
    assert rounded.detail == "one +7.96, two +0.20; by rounding 0.10 to 0.30, 7.73 to 8.19"
    # 45.5 is out of reach: 48.85 / 45.45 is 7.48 %.
    other = scores(cells | {"one": [48.8, 45.5, 0]}, rounding=0.05)
    assert claim_gains.gain_range(other, 0.2, 7.9, groups)[0].verdict == FAILS


def test_a_range_of_some_datasets_is_open_unless_one_is_outside() -> None:
    groups = {"both": ["A", "B"]}

    def reading(first: list[float]) -> Reading:
        table = scores({"one": first, "two": [108, NAN, 100]})
        return claim_gains.gain_range(table, 1.0, 8.0, groups)[0]

    assert (reading([105, 100, 9]).verdict, reading([105, 100, 9]).numbers) == (
        OPEN,
        "+5.00 %, 1 of 2 not run",
    )
    assert reading([110, 100, 9]).verdict == FAILS
    assert reading([99, 100, 9]).verdict == FAILS
    assert claim_gains.gain_range(scores({"one": [1, -1, NAN]}), 1.0, 8.0, groups) == []


def test_a_mean_gain_is_over_a_group_the_best_and_each_alone() -> None:
    # Gains over A: 100, 0; over B: 300, 50. Sums: 7 over 5, 3 and, for both, 4.
    table = scores({"one": [4, 2, 1], "two": [3, 3, 2]})
    readings = claim_gains.mean_gain(table, 75, {"both": ["A", "B"]})
    assert {reading.text: reading.numbers for reading in readings} == {
        "over both": "+112.50 %, by sums +75.00 %",
        "over the best other method of each task": "+50.00 %, by sums +40.00 %",
        "over A alone": "+50.00 %, by sums +40.00 %",
        "over B alone": "+175.00 %, by sums +133.33 %",
    }
    assert verdicts(readings) == [HOLDS, FAILS, FAILS, FAILS]
    assert verdicts(claim_gains.mean_gain(table, 50, {}))[:2] == [HOLDS, HOLDS]
    assert set(verdicts(claim_gains.mean_gain(table, 74, {"both": ["A", "B"]}))) == {FAILS}


@pytest.mark.parametrize(("gain", "verdict"), [(53.4, HOLDS), (52.6, HOLDS), (53.6, FAILS)])
def test_a_gain_without_rounding_holds_if_it_rounds_to_the_claim(gain: float, verdict: str) -> None:
    table = scores({"one": [100 + gain, 100, 1]})
    readings = {each.text: each for each in claim_gains.mean_gain(table, 53, {})}
    assert readings["over A alone"].verdict == verdict
    assert readings["over A alone"].detail == ""


def test_a_mean_gain_needs_all_scores_and_none_of_nothing() -> None:
    assert claim_gains.mean_gain(scores({"one": [4, 2, NAN]}), 53, {}) == []
    assert claim_gains.mean_gain(scores({"one": [4, 2, 0]}), 53, {}) == []


def test_gains_on_some_datasets_are_held_against_the_rest() -> None:
    # Over the best: 10 and 20 there, 5 elsewhere; over the mean of both: 46.67 and 20, 100.
    table = scores({"one": [11, 10, 5], "two": [12, 10, 10], "three": [10.5, 10, 0.5]})
    readings = claim_gains.more_on(table, ["one", "two"])
    assert verdicts(readings) == [HOLDS, FAILS]
    assert numbers(readings) == [
        "+15.0 % there, +5.0 % elsewhere",
        "+33.3 % there, +100.0 % elsewhere",
    ]
    assert verdicts(claim_gains.more_on(table, ["three"])) == [FAILS, HOLDS]
    missing = scores({"one": [11, 10, 5], "two": [12, NAN, 10], "three": [10.5, 10, 0.5]})
    assert verdicts(claim_gains.more_on(missing, ["one", "two"])) == [OPEN, OPEN]
    assert claim_gains.more_on(missing, ["two"]) == []


# Along M


def curves(rows: dict[str, list[float]], deviations: float = NAN) -> Scores:
    spread = {name: [deviations] * len(row) for name, row in rows.items()}
    return scores(rows, spread, columns=[1, 5, 10, 20])


def test_a_trend_is_in_every_step_in_rank_and_at_the_end() -> None:
    rising, bumpy = [1, 2, 3, 4], [1, 3, 2, 4]
    assert verdicts(claim_curves.trend(curves({"one": rising}))) == [HOLDS, HOLDS, HOLDS]
    readings = claim_curves.trend(curves({"one": rising, "two": bumpy}))
    assert verdicts(readings) == [FAILS, HOLDS, HOLDS]
    # Of the six pairs of bumpy five rise: tau is 4 / 6.
    assert readings[0].detail == "one 3 of 3 steps, two 2 of 3 steps"
    assert readings[1].detail == "one +1.00, two +0.67"
    flat_at_last = claim_curves.trend(curves({"one": [1, 2, 3, 3]}))
    assert verdicts(flat_at_last) == [FAILS, HOLDS, FAILS]
    assert verdicts(claim_curves.trend(curves({"one": [4, 3, 2, 1]}))) == [FAILS] * 3


def test_a_trend_may_fall() -> None:
    assert verdicts(claim_curves.trend(curves({"one": [4, 3, 2, 1]}), sign=-1)) == [HOLDS] * 3
    assert verdicts(claim_curves.trend(curves({"one": [4, 3, 2, 5]}), sign=-1)) == [FAILS] * 3


def test_a_trend_is_open_where_a_dataset_was_not_swept() -> None:
    single = [1, NAN, NAN, NAN]
    assert verdicts(claim_curves.trend(curves({"one": [1, 2, 3, 4], "two": single}))) == [OPEN] * 3
    assert verdicts(claim_curves.trend(curves({"one": [1, 2, 3, 1], "two": single})))[0] == FAILS
    assert claim_curves.trend(curves({"two": single})) == []


def test_scores_rise_to_a_peak() -> None:
    def verdict(*rows: list[float]) -> list[str]:
        named = {str(index): row for index, row in enumerate(rows)}
        return verdicts(claim_curves.rises_to(curves(named), 10))

    assert verdict([1, 2, 3, 2]) == [HOLDS, HOLDS]
    assert verdict([2, 1, 3, 2]) == [FAILS, HOLDS]
    assert verdict([1, 3, 3, 2]) == [FAILS, HOLDS]
    assert verdict([1, 2, 3, 4]) == [FAILS, FAILS]
    assert verdict([1, 2, 3, 2], [3, 2, 1, 0]) == [FAILS, FAILS]
    assert verdict([1, 2, 3, 2], [NAN] * 4) == [OPEN, OPEN]
    # Without M = 10, or without an M on either side of it, nothing can be said.
    assert verdict([1, 2, NAN, 4]) == verdict([1, 2, 3, NAN]) == verdict([NAN, NAN, 3, 2]) == []


def test_values_of_m_between_the_ends_matter_little_where_they_overlap() -> None:
    row = {"one": [0, 5, 6, 99]}
    assert verdicts(claim_curves.indifferent(curves(row, deviations=0.5))) == [HOLDS]
    assert verdicts(claim_curves.indifferent(curves(row, deviations=0.4))) == [FAILS]
    (reading,) = claim_curves.indifferent(curves(row | {"two": [NAN, 1, 2, 3]}, deviations=1))
    assert (reading.verdict, reading.detail) == (OPEN, "one 5.0 to 6.0 for M = 5, 10")


# The paper's numbers


def claim(quote: str, table: str = "") -> claim_list.Claim:
    (found,) = (each for each in claim_list.CLAIMS if quote in each.quote and table in each.table)
    return found


def on_paper(quote: str, changed: dict[tuple[str, str], float] | None = None) -> list[Reading]:
    """The readings of a claim on what the paper prints, of which some cells may be changed."""
    checked = claim(quote)
    printed = claim_scores.printed()[checked.table].scores
    for (dataset, method), value in (changed or {}).items():
        printed.means.loc[dataset, method] = value
    return checked.check(printed)


def test_lom_is_best_on_ten_of_the_papers_datasets_and_not_on_twelve() -> None:
    readings = on_paper("12 out of 15")
    assert verdicts(readings) == [FAILS, FAILS, FAILS, HOLDS, HOLDS]
    assert numbers(readings) == [
        "10 of 15", "11 of 15", "1 of 15", "13 of 15", "at least 12 of 15"
    ]  # fmt: skip
    # With the two rows whose bold type is wrong it would be 12.
    won = {("halfcheetah-medium-expert", "LOM"): 93.1, ("walker2d-medium-expert", "LOM"): 111.4}
    assert on_paper("12 out of 15", won)[0] == Reading(
        "LOM's mean is the highest, alone",
        HOLDS,
        "12 of 15",
        "not hopper-medium 87.2 (WCVAE 89.0), halfcheetah-expert 95.2 (DMPO 97.0), "
        "walker2d-expert 109.3 (LAPO 112.2)",
    )


def test_lom_surpasses_all_on_multi_modal_data_and_by_how_much() -> None:
    assert on_paper("surpasses all")[0].verdict == HOLDS
    lost = {("hopper-full-replay", "DMPO"): 102.0}
    assert on_paper("surpasses all", lost)[0].verdict == FAILS

    every, multi_modal, others = on_paper("0.2% to 7.9%")
    assert (every.verdict, every.numbers) == (FAILS, "+0.20 % to +7.25 %")
    assert (multi_modal.verdict, multi_modal.numbers) == (HOLDS, "+0.20 % to +7.96 %")
    assert (others.verdict, others.numbers) == (FAILS, "+0.71 % to +7.25 %")
    without_cql = {("halfcheetah-medium-replay", "CQL"): 45.2}
    assert on_paper("0.2% to 7.9%", without_cql)[0].verdict == HOLDS


def test_fifty_three_percent_is_over_awac_alone() -> None:
    readings = {reading.text: reading for reading in on_paper("average of 53%")}
    held = [text for text, reading in readings.items() if reading.verdict == HOLDS]
    assert held == ["over AWAC alone"]
    # (45.68 + 65.30 + 50.66) / 3, and 125.7 / 81.9
    assert readings["over AWAC alone"].numbers == "+53.88 %, by sums +53.48 %"
    assert next(iter(readings)) == "over all five baselines"
    worse = {("fetch-push", "LOM"): 40.0}
    assert HOLDS not in verdicts(on_paper("average of 53%", worse))


def test_two_bold_rows_of_the_papers_table_are_not_its_highest() -> None:
    (reading,) = on_paper("highlighted in bold")
    assert (reading.verdict, reading.numbers) == (FAILS, "11 of 13 rows")
    right = {("halfcheetah-medium-expert", "LAPO"): 92.0}
    right |= {("walker2d-medium-expert", "OneStep"): 111.0}
    assert on_paper("highlighted in bold", right)[0].verdict == HOLDS


def test_lom_is_ahead_in_the_papers_table_as_a_whole() -> None:
    readings = on_paper("on standard D4RL benchmarks")
    assert verdicts(readings) == [HOLDS, HOLDS, HOLDS, FAILS]
    assert numbers(readings)[0] == "90.8, next WCVAE 85.0"  # sums of 1362.2 and 1275.0
    # Ten first places, 2, 3, 5 and a shared 1.5 and 7.5: 29 / 15.
    assert numbers(readings)[1].startswith("1.9, next ")
    assert verdicts(on_paper("particularly in multi-modal datasets")) == [HOLDS, HOLDS]


def test_what_the_paper_shows_in_figures_only_has_no_verdict_on_its_numbers() -> None:
    checked = claims.check(claim_scores.printed(), {})
    without = {each.claim.table for each in checked if not each.printed}
    assert without == {"ablation", "figure2", "figure3", "figure4", "figure5"}
    assert all(not each.ours for each in checked)
    assert {each.summary[0] for each in checked if not each.printed} == {
        "cannot be checked: no numbers printed"
    }


# Ours


def test_what_docs_keep_is_read_as_it_stands() -> None:
    kept = claim_scores.kept()
    table1 = kept["table1"].scores.means
    assert table1.loc["hopper-medium-replay", ["LOM", "TD3BC"]].tolist() == [17.065483, 13.013864]
    assert table1.notna().to_numpy().sum() == 9  # trained runs of nine methods on one dataset
    assert kept["table2"].scores.means.loc["fetch-push", "WCVAE"] == 68.98
    assert kept["figure3"].scores.means.loc["hopper-medium-replay"].tolist() == pytest.approx(
        [22.909425, 21.744886, 24.389573, 26.760992, 21.559465]
    )
    assert kept["figure5"].scores.means.loc["rings, rewarded", "CVAE"] == pytest.approx(
        (98.16 + 98.19) / 2
    )
    # The mean of the deviations along both axes of the chosen component at M = 20.
    assert kept["figure4"].scores.means.loc["fetch-reach", 20] == pytest.approx(
        (0.079268 + 0.10414) / 2
    )


def test_every_table_a_claim_is_of_has_scores_and_says_what_data_they_are_of() -> None:
    kept = claim_scores.kept()
    assert {each.table for each in claim_list.CLAIMS} == set(kept)
    for source in kept.values():
        assert "data, not D4RL" in source.about
        assert "seed" in source.about


@pytest.fixture
def results(tmp_path: Path) -> ResultsFolder:
    return ResultsFolder(tmp_path / "results")


def add_table2(results: ResultsFolder, returns: dict[str, float]) -> None:
    """One run of each method on each task; the folders make a return R from (R + 20) / 2."""
    for task in ("fetch-reach", "fetch-push", "fetch-pick-and-place"):
        for method, value in returns.items():
            results.add(
                None, 0, [[(value + 20) / 2]], label=method, env=task, beta=None,
                provenance="generated",
            )  # fmt: skip


def test_runs_stand_for_all_they_can_show(results: ResultsFolder) -> None:
    others = {"bc": 10.0, "mdn": 20.0, "wcgan": 40.0, "wcvae": 45.0}
    add_table2(results, others | {"awac": 30.0, "lom": 45.9})
    for M, level in ((1, 20.0), (10, 30.0), (20, 25.0)):
        for seed, offset in enumerate((-1.0, 1.0)):
            results.add(M, seed, [[level + offset]], env="hopper-full-replay")

    ours, problems = claim_scores.of_runs(runs.load(results.path))

    assert set(ours) == {"table2", "figure3"}
    assert problems == []
    assert ours["table2"].scores.means.loc["fetch-push"].tolist() == pytest.approx(
        [10, 20, 30, 40, 45, 45.9]
    )
    assert ours["table2"].about == (
        "`results`: fetch-reach, fetch-push, fetch-pick-and-place, generated data, not D4RL, "
        "1 seed, last evaluation"
    )
    full_replay = ours["figure3"].scores
    assert full_replay.means.loc["hopper-full-replay"].tolist() == [20.0, 30.0, 25.0]
    assert full_replay.deviations.loc["hopper-full-replay"].tolist() == pytest.approx([2**0.5] * 3)

    # 45.9 / 30 is 53 % more: on these runs the claim of Section 6.2 is the same as in print.
    readings = claim("average of 53%").check(ours["table2"].scores)
    assert [reading.text for reading in readings if reading.verdict == HOLDS] == ["over AWAC alone"]
    peaks = claim("only up to M=10").check(full_replay)
    assert peaks[0].numbers == "1 of 3, 2 not run"
    assert verdicts(peaks) == [OPEN, OPEN]


def test_runs_that_show_nothing_are_named(results: ResultsFolder) -> None:
    for M in (5, 10):
        results.add(M, 0, [[20.0]])
    twice = [results.add(20, 0, [[20.0]], config={"tau": tau}) for tau in (0.1, 0.2)]
    elsewhere = results.add(5, 0, [[20.0]], env="fetch-reach")

    ours, problems = claim_scores.of_runs(runs.load(results.path))

    assert list(ours["figure3"].scores.means) == [5, 10]
    assert {problem.run for problem in problems} == {*twice, elsewhere}


def test_results_without_an_evaluation_change_nothing(results: ResultsFolder) -> None:
    name = results.add(5, 0, [])
    ours, problems = claim_scores.of_runs(runs.load(results.path))
    assert ours == {}
    assert name in {problem.run for problem in problems}


# The page


def test_the_page_in_docs_is_what_the_code_makes() -> None:
    ours = claim_scores.kept()
    made = claims.page(
        claims.check(claim_scores.printed(), ours), ours, "python -m analysis.claims"
    )
    assert (ROOT / "docs" / "claims.md").read_text(encoding="utf-8") == made, "run `make claims`"


def test_every_table_of_the_page_has_as_many_cells_in_each_row() -> None:
    page = (ROOT / "docs" / "claims.md").read_text(encoding="utf-8")
    tables = re.findall(r"(?:^\|.*\|\n)+", page, re.MULTILINE)
    assert len(tables) > len(claim_list.CLAIMS) / 2
    for table in tables:
        assert len({line.count("|") for line in table.splitlines()}) == 1
    linked = re.findall(r"\(#claim-(\d+)\)", page)
    headed = re.findall(r"^### Claim (\d+)$", page, re.MULTILINE)
    assert linked == headed == [str(number + 1) for number in range(len(claim_list.CLAIMS))]


def test_readings_that_disagree_are_all_shown_and_others_once() -> None:
    shared = claim("12 out of 15")
    split = [Reading("one", HOLDS, "3 of 3"), Reading("two", FAILS, "1 of 3", "not x")]
    page = claims.page([claims.Checked(shared, split, [])], {}, "c")
    assert "| one | **holds**: 3 of 3 |" in page
    assert "| two | **fails**: 1 of 3; not x |" in page
    assert "**holds**: 3 of 3; fails in 1 of 2 readings | not enough runs |" in page

    agreeing = [Reading("one", HOLDS, "3 of 3"), Reading("two", HOLDS, "2 of 3")]
    page = claims.page([claims.Checked(shared, agreeing, [])], {}, "c")
    assert "| two |" not in page
    assert "The same if read as: two." in page


def test_the_command_writes_beside_the_results_it_was_given(
    results: ResultsFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = (ROOT / "docs" / "claims.md").read_bytes()
    add_table2(results, {"bc": 1.0, "mdn": 2.0, "awac": 3.0, "wcgan": 4.0, "wcvae": 5.0, "lom": 9})
    assert claims.main([str(results.path)]) == 0
    page = (results.path / "claims.md").read_text(encoding="utf-8")
    assert "- Table 2: `results`: " in page
    assert "- Table 1: `methods_reduced.csv`: " in page  # the rest as docs/ has it
    out = " ".join(capsys.readouterr().out.split())
    assert "fails: 10 of 15" in out
    assert (ROOT / "docs" / "claims.md").read_bytes() == kept


def test_the_command_names_results_that_are_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert claims.main(["nowhere", "--out", str(tmp_path / "page.md")]) == 1
    assert "nowhere" in capsys.readouterr().err
    assert not (tmp_path / "page.md").exists()


def test_verdicts_do_not_depend_on_the_order_of_methods() -> None:
    printed = claim_scores.printed()["table1"].scores
    shuffled = printed.of(methods=np.random.default_rng(0).permutation(printed.means.columns))
    for check in (lambda table: claim_checks.best(table, 12), claim_checks.average):
        assert verdicts(check(printed)) == verdicts(check(shuffled))
