"""How a setting is chosen: on hand-worked scores, and on a synthetic sweep whose truth is known."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from result_folders import ResultsFolder

from analysis import bandit, runs, scores, selection, statistics
from analysis.folders import AnalysisError
from analysis.runs import Results


@pytest.fixture
def results(tmp_path: Path) -> ResultsFolder:
    return ResultsFolder(tmp_path / "results")


def rows(results: ResultsFolder, *rules: str) -> pd.DataFrame:
    table, _ = selection.compute(runs.load(results.path), rules)
    return table.set_index(["rule", "dataset"])


def test_each_way_of_choosing_is_as_worked_out_by_hand(results: ResultsFolder) -> None:
    # Means: M=2 scores 20 and 50, M=5 scores 30 and 46: the oracle takes 30 and 50, one value for
    # both is M=5 with 38 (M=2: 35), the lower loss is M=2's, and M=auto said 2 and 5.
    for env, two, five, auto in (("hopper-medium", 20, 30, 2), ("walker2d-medium", 50, 46, 5)):
        for M, mean, loss in ((2, two, 1.0), (5, five, 2.0)):
            for seed, offset in ((0, -4.0), (1, 4.0)):
                results.add(
                    M, seed, [[mean + offset]], env=env, metrics={"behavior/loss": [9.0, loss]},
                    sources={"M": "M=auto, 2 modes" if auto == M else "command line"},
                )  # fmt: skip

    found = rows(results, "auto", "min:behavior/loss", "max:behavior/loss")

    def chosen(rule: str) -> list[tuple[str, float]]:
        return [
            (found.loc[(rule, env), "setting"], found.loc[(rule, env), "score"])
            for env in ("hopper-medium", "walker2d-medium", "mean")
        ]

    assert chosen("oracle") == [("lom M=5", 30.0), ("lom M=2", 50.0), ("", 40.0)]
    assert chosen("one for all") == [("lom M=5", 30.0), ("lom M=5", 46.0), ("", 38.0)]
    assert chosen("auto") == [("lom M=2", 20.0), ("lom M=5", 46.0), ("", 33.0)]
    assert chosen("min:behavior/loss") == [("lom M=2", 20.0), ("lom M=2", 50.0), ("", 35.0)]
    assert chosen("max:behavior/loss") == [("lom M=5", 30.0), ("lom M=5", 46.0), ("", 38.0)]
    # What is chosen by its own score gets no interval; the other one is Student's.
    assert found.loc["oracle", "low"].isna().all()
    assert found.loc["one for all", "low"].isna().all()
    assert found.loc[("auto", "hopper-medium"), "low"] == pytest.approx(20 - 12.7062 * 4, abs=1e-3)


def test_a_rule_of_which_nothing_is_recorded_chooses_nothing_and_says_why(
    results: ResultsFolder,
) -> None:
    for M in (2, 5):
        results.add(M, 0, [[10.0 * M]], metrics={"behavior/loss": [1.0]} if M == 2 else None)

    found = rows(results, "auto", "min:behavior/loss", "max:fqe/value")

    assert found["why"].to_dict() == {
        ("oracle", "hopper-medium-replay"): "",
        ("one for all", "hopper-medium-replay"): "",
        ("auto", "hopper-medium-replay"): "no run with M=auto",
        ("min:behavior/loss", "hopper-medium-replay"): "not every run recorded behavior/loss",
        ("max:fqe/value", "hopper-medium-replay"): "not every run recorded fqe/value",
    }
    written = selection.write(runs.load(results.path), results.path, ("auto",))
    page = (results.path / "selection.md").read_text()
    assert "oracle (optimistic)" in page
    assert "- (no run with M=auto)" in page
    assert {path.name for path in written.files} == {
        "selection.md", "selection.csv", "selection.tex", "bandit.png", "bandit.pdf", "bandit.csv",
    }  # fmt: skip


@pytest.mark.parametrize("rule", ["least:behavior/loss", "min:", "held-out"])
def test_an_unknown_rule_is_an_error(results: ResultsFolder, rule: str) -> None:
    for M in (2, 5):
        results.add(M, 0, [[1.0]])
    with pytest.raises(AnalysisError, match=r"no rule .*: give auto, min:METRIC or max:METRIC"):
        selection.compute(runs.load(results.path), [rule])


def test_without_several_settings_there_is_nothing_to_choose(results: ResultsFolder) -> None:
    results.add(2, 0, [[1.0]])
    results.add(None, 0, [[1.0]], label="bc", beta=None)
    with pytest.raises(AnalysisError, match="no algorithm was run with several settings"):
        selection.compute(runs.load(results.path))


SETTINGS, DATASETS, SEEDS, LABELS = (1, 2, 5, 10, 20), 10, 4, 5  # 1,000 runs


def synthetic(seed: int) -> tuple[Results, pd.Series]:
    """A sweep of 1,000 runs of normal scores, and the true means, by label, dataset and M.

    M=auto knows nothing of the scores.
    """
    rng = np.random.default_rng(seed)
    listed, episodes, truth = [], [], {}
    for label in (f"method{index}" for index in range(LABELS)):
        for env in (f"data{index}" for index in range(DATASETS)):
            auto = rng.choice(SETTINGS)
            level, spread = rng.uniform(20, 90), rng.uniform(2, 10)
            for M in SETTINGS:
                truth[label, env, M] = mean = level + rng.normal(0, 2)
                for number in range(SEEDS):
                    run = f"{label}_{env}_{M}_{number}"
                    listed.append(
                        {"run": run, "label": label, "env": env, "M": M, "beta": 1.0,
                         "settings": "", "seed": number, "sha256": env, "provenance": "collected",
                         "status": "finished", "dataset_score": 0.0,
                         "M_source": "M=auto" if auto == M else ""}
                    )  # fmt: skip
                    episodes.append((run, "policy", 1, 1, True, rng.normal(mean, spread)))
    frame = pd.DataFrame(listed).reindex(columns=runs.RUN_COLUMNS).astype({"M": "Int64"})
    columns = ["run", "phase", "update", "step", "final", "score"]
    results = Results("synthetic", Path(), "", frame, pd.DataFrame(episodes, columns=columns), [])
    return results, pd.Series(truth)


def test_of_a_sweep_of_1000_runs_the_oracle_is_optimistic_and_other_intervals_hold(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(statistics, "_DRAWS", 300)
    held, optimism, honest = [], [], []
    for seed in range(6):
        results, truth = synthetic(seed)
        assert len(results.runs) == 1000
        table, _ = selection.compute(results, ["auto"])
        single = table[table["dataset"] != "mean"]
        M = single["setting"].str.extract(r"M=(\d+)")[0].astype(int)
        true = truth.loc[list(zip(single["label"], single["dataset"], M, strict=True))].to_numpy()
        auto, oracle = single["rule"] == "auto", single["rule"] == "oracle"
        held += ((single["low"] <= true) & (true <= single["high"]))[auto].tolist()
        optimism.append((single["score"] - true)[oracle].mean())
        honest.append((single["score"] - true)[auto].mean())
        best = truth.groupby(level=[0, 1]).max().mean()
        assert single["score"][oracle].mean() > best  # above what any choice could truly reach
    assert 0.90 <= np.mean(held) <= 0.97
    assert min(optimism) > 1.0
    assert abs(np.mean(honest)) < 0.5


def test_a_bandit_of_constant_policies_knows_the_best_when_each_was_played_once() -> None:
    chosen = bandit.trials([np.full(5, 10.0), np.full(3, 90.0), np.full(4, 50.0)])
    assert (chosen[:, 3:] == 90.0).all()
    assert chosen[:, 0].mean() == pytest.approx(50.0, abs=3.0)  # any of the three
    # After two episodes the better one of two: 90 in two of three cases, else 50.
    assert chosen[:, 2].mean() == pytest.approx((90 + 90 + 50) / 3, abs=3.0)


def test_a_bandit_finds_the_better_of_two_noisy_policies_with_more_episodes() -> None:
    rng = np.random.default_rng(0)
    policies = [rng.normal(50, 20, 100), rng.normal(60, 20, 100)]
    means = bandit.trials(policies).mean(0)
    assert means[1] == pytest.approx(np.mean([p.mean() for p in policies]), abs=0.7)
    assert means[200] > means[20] > means[2]
    assert means[200] <= max(p.mean() for p in policies)


def test_a_bandit_draws_some_of_many_policies() -> None:
    policies = [np.full(2, float(score)) for score in range(40)]
    chosen = bandit.trials(policies)
    assert len(set(chosen[:, -1])) > 5  # the best of eight is not always the best of forty
    assert chosen[:, -1].mean() == pytest.approx(41 * 8 / 9 - 1, abs=1.0)  # of 8 of 40


def test_a_bandit_plays_the_episodes_of_the_last_evaluation(results: ResultsFolder) -> None:
    results.add(2, 0, [[1.0], [2.0]], final=[5.0, 7.0])
    results.add(5, 0, [[1.0], [3.0, 4.0]])
    results.add(5, 0, [[1.0]], label="awac")

    found = bandit.policies(runs.load(results.path), "lom")

    assert sorted(map(list, found["hopper-medium-replay"])) == [[3.0, 4.0], [5.0, 7.0]]


def test_a_mean_of_seeds_that_is_not_known_is_not_chosen(results: ResultsFolder) -> None:
    results.add(2, 0, [[10.0]], metrics={"behavior/loss": [math.nan]})
    results.add(5, 0, [[20.0]], metrics={"behavior/loss": [1.0]})

    found = rows(results, "min:behavior/loss")

    assert found.loc["min:behavior/loss", "why"].tolist() == [
        "not every run recorded behavior/loss"
    ]
    assert scores.DEFAULT == "last"
