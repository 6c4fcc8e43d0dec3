"""Two methods, two versions of the code, or ours and the paper's, in numbers and in a sentence."""

import json
from pathlib import Path

import pytest
from result_folders import ResultsFolder
from scipy import stats

from analysis import compare, runs
from analysis.folders import AnalysisError


@pytest.fixture
def results(tmp_path: Path) -> ResultsFolder:
    return ResultsFolder(tmp_path / "results")


def add(results: ResultsFolder, label: str, env: str, *scores: float, **options: object) -> None:
    for seed, score in enumerate(scores):
        results.add(None, seed, [[score]], label=label, env=env, beta=None, **options)


def found(results: ResultsFolder, first: str, second: str) -> compare.Comparison:
    return compare.compare(runs.load(results.path), first, second)


def test_the_difference_of_two_methods_is_welchs_over_the_datasets_both_have(
    results: ResultsFolder,
) -> None:
    add(results, "lom", "hopper-medium", 10.0, 14.0, 12.0)
    add(results, "bc", "hopper-medium", 1.0, 3.0)
    add(results, "bc", "walker2d-medium", 50.0)

    made = found(results, "lom", "bc")

    theirs = stats.ttest_ind([10, 14, 12], [1, 3], equal_var=False).confidence_interval()
    assert made.shared == ["hopper-medium"]
    assert made.difference == pytest.approx((10.0, theirs.low, theirs.high))
    assert made.probability.value == 1.0
    assert compare.sentence(made) == (
        "lom scores 10.0 points more than bc on hopper-medium (95% interval "
        f"{theirs.low:+.1f} to {theirs.high:+.1f}): lom is better, beyond what seeds explain."
    )
    assert compare.sentence(found(results, "bc", "lom")).startswith(
        "bc scores 10.0 points less than lom on hopper-medium"
    )


def test_an_interval_that_holds_zero_tells_nothing(results: ResultsFolder) -> None:
    for env in ("hopper-medium", "walker2d-medium"):
        add(results, "lom", env, 10.0, 30.0)
        add(results, "bc", env, 12.0, 26.0)
    assert compare.sentence(found(results, "lom", "bc")).endswith(
        "these runs do not tell which of the two is better."
    )


def test_one_seed_gives_no_interval_and_says_why(results: ResultsFolder) -> None:
    add(results, "lom", "hopper-medium", 90.0)
    add(results, "bc", "hopper-medium", 1.0, 2.0)
    text = compare.sentence(found(results, "lom", "bc"))
    assert "88.5 points more" in text
    assert "There is no interval" in text
    assert "one seed does not tell how the next would score" in text


def test_settings_of_one_algorithm_are_compared_by_name_and_a_wrong_one_gets_the_nearest(
    results: ResultsFolder,
) -> None:
    for M in (2, 5):
        for seed in (0, 1):
            results.add(M, seed, [[10.0 * M + seed]])
    assert found(results, "lom M=5", "lom M=2").difference.value == 30.0
    with pytest.raises(
        AnalysisError, match="no runs of 'lom M=3' in results: did you mean 'lom M="
    ):
        found(results, "lom M=3", "lom M=2")


def test_two_versions_of_the_code_are_compared_method_by_method(tmp_path: Path) -> None:
    sides = []
    for commit, gain in (("a" * 40, 0.0), ("b" * 40, 5.0)):
        made = ResultsFolder(tmp_path / commit[0])
        sides.append(f"@{made.path}")
        for label, mean in (("lom", 20.0), ("bc", 10.0)):
            add(made, label, "hopper-medium", mean + gain, mean + 1 + gain)
        for file in made.path.glob("runs/*/record.json"):
            file.write_text(json.dumps(json.loads(file.read_text()) | {"git_commit": commit}))

    made = compare.compare(runs.load(tmp_path / "a"), *sides)

    assert made.shared == ["bc on hopper-medium", "lom on hopper-medium"]
    assert made.difference.value == -5.0
    assert made.first.notes == [f"{sides[0]}: 4 runs of commit aaaaaaaa."]
    one = compare.compare(runs.load(tmp_path / "a"), "lom", f"lom{sides[1]}")
    assert one.shared == ["hopper-medium"]
    assert one.by_dataset[["first", "second"]].iloc[0].tolist() == [20.5, 25.5]


def test_different_data_are_refused(results: ResultsFolder) -> None:
    add(results, "lom", "hopper-medium", 1.0, 2.0)
    add(results, "bc", "hopper-medium", 1.0, 2.0, sha256="cd" * 32)
    with pytest.raises(AnalysisError, match="trained on different data for hopper-medium"):
        found(results, "lom", "bc")


def test_ours_are_compared_with_the_papers_numbers(results: ResultsFolder) -> None:
    add(results, "lom", "hopper-medium", 80.0, 90.0, 82.0)
    add(results, "awac", "hopper-medium", 50.0, 60.0, 55.0)

    made = found(results, "lom", "paper")

    # The paper: 87.2 ± 2.8 of 4 seeds.
    theirs = stats.ttest_ind_from_stats(84.0, 5.2915026, 3, 87.2, 2.8, 4, equal_var=False)
    low, _ = made.difference[1:]
    assert made.difference.value == pytest.approx(-3.2)
    assert (low + 3.2) / 2 < -3.2  # wider than the difference: few seeds
    assert theirs.pvalue > 0.05
    assert "do not tell" in compare.sentence(made)
    assert any("the difference is one of data, too" in note for note in made.first.notes)
    # It gives no deviation for AWAC.
    assert "There is no interval" in compare.sentence(found(results, "awac", "paper:AWAC"))
    with pytest.raises(AnalysisError, match="Table 1 has no 'bc'"):
        found(results, "lom", "paper:bc")


def test_nothing_in_common_is_an_error(results: ResultsFolder) -> None:
    add(results, "lom", "hopper-medium", 1.0)
    add(results, "bc", "walker2d-medium", 1.0)
    with pytest.raises(AnalysisError, match="nothing in common: lom has hopper-medium; bc has"):
        found(results, "lom", "bc")


def test_the_command_answers_and_writes(
    results: ResultsFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    add(results, "lom", "hopper-medium", 10.0, 14.0, 12.0)
    add(results, "bc", "hopper-medium", 1.0, 3.0)

    assert compare.main(["lom", "bc", "--sweep", str(results.path)]) == 0

    output = " ".join(capsys.readouterr().out.split())
    assert "lom scores 10.0 points more than bc on hopper-medium" in output
    assert "lom is better, beyond what seeds explain" in output
    assert (results.path / "compare.csv").is_file()
    assert "lom is better" in (results.path / "compare.md").read_text()
