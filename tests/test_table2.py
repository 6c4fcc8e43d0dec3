"""Table 2 of LOM from hand-made result folders, beside the paper's numbers."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from result_folders import ResultsFolder

from analysis import ranking, runs, sweep, table2
from analysis.folders import AnalysisError

ROOT = Path(__file__).resolve().parents[1]
REACH, TASKS = "fetch-reach", ("fetch-reach", "fetch-push", "fetch-pick-and-place")
METHODS = ("bc", "mdn", "awac", "wcgan", "wcvae", "lom")


@pytest.fixture
def results(tmp_path: Path) -> ResultsFolder:
    return ResultsFolder(tmp_path / "results")


def add(
    results: ResultsFolder,
    method: str,
    returns: list[float],
    task: str = REACH,
    rewards: list[float] | None = None,
    **more: object,
) -> list[str]:
    """A run of each seed, one episode each; the folders make a return R from (R + 20) / 2."""
    keywords = {"label": method, "env": task, "provenance": "generated", "beta": None} | more
    return [
        results.add(
            None, seed, [[(value + 20) / 2]], final_rewards=rewards and [rewards[seed]], **keywords
        )
        for seed, value in enumerate(returns)
    ]


def pages(results: ResultsFolder, statistic: str = "last") -> tuple[pd.DataFrame, str, str]:
    """The CSV's numbers, the Markdown and the LaTeX of all runs."""
    table2.write(runs.load(results.path), results.path, statistic)
    frame = pd.read_csv(results.path / "table2.csv").set_index(["dataset", "method"])
    return frame, *((results.path / f"table2.{kind}").read_text() for kind in ("md", "tex"))


def row(page: str, kind: str, task: str = REACH) -> list[str] | None:
    """The cells of one line of a Markdown page; None if the task has no such line."""
    lines = page.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {task} |"))
    for line in lines[start:]:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line or cells[0] not in ("", task):
            return None
        if cells[1] == kind:
            return cells[2:]
    return None


# The paper's numbers


def test_the_papers_numbers_are_those_it_prints() -> None:
    printed = table2.PAPER.numbers().set_index(["dataset", "method"])
    assert len(printed) == 3 * 6
    assert printed.loc[("fetch-reach", "awac")].tolist() == [32.4, 0.2]
    assert printed.loc[("fetch-pick-and-place", "bc")].tolist() == [3.6, 0.8]
    # A checksum: the sums of the printed columns.
    sums = printed.groupby("method", sort=False).sum().round(1)
    assert sums["paper_mean"].tolist() == [29.7, 44.1, 81.9, 112.7, 113.1, 125.7]
    assert sums["paper_std"].tolist() == [5.1, 8.3, 3.9, 9.6, 6.6, 9.4]


def test_the_file_of_the_papers_numbers_says_where_they_are_from() -> None:
    head = table2.PAPER.file.read_text().partition("dataset,")[0]
    assert "Learning on One Mode" in " ".join(head.replace("#", "").split())
    assert "Table 2" in head
    assert all(line.startswith("#") for line in head.splitlines())


def test_the_grid_is_what_the_experiment_runs() -> None:
    config = yaml.safe_load((ROOT / "conf" / "experiment" / "table2.yaml").read_text())
    params = config["hydra"]["sweeper"]["params"]
    assert params["algo"].split(",") == list(table2.PAPER.methods)
    assert params["env"].split(",") == list(table2.PAPER.numbers()["dataset"].unique())
    for method in table2.PAPER.methods:
        algo = yaml.safe_load((ROOT / "conf" / "algo" / f"{method}.yaml").read_text())
        assert algo["label"] == method


# A cell


def test_a_cell_is_the_mean_return_over_seeds_and_its_ratio_to_loms(results: ResultsFolder) -> None:
    add(results, "awac", [40.0, 50.0])
    add(results, "lom", [88.0, 92.0])

    frame, page, latex = pages(results)

    assert frame.loc[(REACH, "awac"), ["mean", "std", "relative"]].tolist() == pytest.approx(
        [45.0, 50**0.5, 0.5], abs=1e-6
    )
    assert row(page, "ours") == ["", "", "45.0±7.1", "", "", "**90.0±2.8**"]
    assert row(page, "ours / LOM") == ["", "", "0.50", "", "", "1.00"]
    # 14.3 / 47.2 and so on, by hand
    assert row(page, "paper / LOM") == ["0.30", "0.36", "0.69", "0.90", "0.86", "1.00"]
    assert row(page, "normalized") == ["", "", "32.5±3.5", "", "", "55.0±1.4"]
    assert r"$45.0_{\pm 7.1}$" in latex
    assert row(page, "ours / LOM", "fetch-push") is None  # nothing was run


def test_the_share_of_episodes_that_end_at_a_goal_is_of_the_last_steps(
    results: ResultsFolder,
) -> None:
    # Three episodes of each of two seeds: 2 is the best goal, 1 another, 0 none.
    for seed, rewards in enumerate([[2.0, 1.0, 0.0], [2.0, 2.0, 1.0]]):
        results.add(
            None, seed, [[50.0] * 3], label="lom", env=REACH, beta=None, final_rewards=rewards
        )

    frame, page, _ = pages(results)

    shares = frame.loc[(REACH, "lom"), ["at_best", "at_best_std", "at_goal", "at_goal_std"]]
    third = 100 / 3
    assert shares.tolist() == pytest.approx(
        [1.5 * third, third / 2**0.5, 2.5 * third, third / 2**0.5], abs=1e-5
    )
    assert row(page, "best goal, %")[-1] == "50.0±23.6"
    assert row(page, "any goal, %")[-1] == "83.3±23.6"


def test_where_older_runs_ended_is_not_known(results: ResultsFolder) -> None:
    add(results, "lom", [90.0, 92.0], rewards=[2.0, 2.0])
    results.add(None, 0, [[60.0]], label="awac", env=REACH, beta=None, final_rewards=[2.0])
    results.add(None, 1, [[60.0]], label="awac", env=REACH, beta=None)

    _, page, _ = pages(results)

    assert row(page, "best goal, %") == ["", "", "", "", "", "100.0±0.0"]
    assert "Where episodes end is not known of 1 cells" in page


def test_a_table_without_any_ends_of_episodes_has_no_line_of_them(results: ResultsFolder) -> None:
    add(results, "lom", [90.0])
    _, page, _ = pages(results)
    assert row(page, "best goal, %") is None
    assert row(page, "any goal, %") is None


def test_the_last_evaluation_is_the_default_and_the_last_ten_can_be_averaged(
    results: ResultsFolder,
) -> None:
    results.add(5, 0, [[10.0], [20.0]], env=REACH)
    assert pages(results)[0].loc[(REACH, "lom"), ["mean", "statistic"]].tolist() == [20.0, "last"]
    frame, page, _ = pages(results, "last_ten")
    assert frame.loc[(REACH, "lom"), "mean"] == 10.0  # of the returns 0 and 20
    assert "of the mean of the last ten evaluations of each run" in page


def test_a_lom_that_earns_nothing_has_no_ratios(results: ResultsFolder) -> None:
    add(results, "lom", [0.0])
    add(results, "awac", [0.0])
    _, page, _ = pages(results)
    assert row(page, "ours") == ["", "", "**0.0**", "", "", "**0.0**"]
    assert row(page, "ours / LOM") is None
    assert "ours undefined (0)" in page


# The order


def test_kendalls_tau_of_known_orders() -> None:
    assert ranking.kendall_tau([1, 2, 3, 4], [10, 20, 30, 40]) == 1.0
    assert ranking.kendall_tau([1, 2, 3], [3, 2, 1]) == -1.0
    # Six pairs: one reversed, five as they were.
    assert ranking.kendall_tau([1, 2, 3, 4], [1, 3, 2, 4]) == pytest.approx(4 / 6)
    # tau-b: one of the three pairs is tied in the first, 2 / sqrt(2 * 3).
    assert ranking.kendall_tau([1, 1, 2], [1, 2, 3]) == pytest.approx(2 / 6**0.5)
    assert ranking.kendall_tau([1, np.nan, 2], [1, 2, 3]) == 1.0
    assert np.isnan(ranking.kendall_tau([1, 1], [1, 2]))


def test_ranks_are_ranges_where_deviations_overlap() -> None:
    assert ranking.ranks([10, 30, 20], [0, 0, 0]) == ["3", "1", "2"]
    # 18 to 22 and 19 to 25 overlap, 19 to 25 and 24 to 36 do, 18 to 22 and 24 to 36 do not.
    assert ranking.ranks([20, 22, 30, 5], [2, 3, 6, 1]) == ["2-3", "1-3", "1-2", "4"]
    assert ranking.ranks([7, 7], [np.nan, np.nan]) == ["1-2", "1-2"]
    assert ranking.ranks([7, np.nan, 8], [np.nan, np.nan, np.nan]) == ["2", "", "1"]


def test_the_papers_ranks_are_of_the_methods_that_were_run(results: ResultsFolder) -> None:
    add(results, "mdn", [60.0, 62.0])
    add(results, "awac", [50.0, 52.0])
    add(results, "lom", [90.0, 91.0])

    _, page, latex = pages(results)

    assert row(page, "rank, ours") == ["", "2", "3", "", "", "1"]
    assert row(page, "rank, paper") == ["", "3", "2", "", "", "1"]
    assert (
        "fetch-reach: Kendall's tau 0.33 over 3 methods; pairs of methods that overlap neither "
        "here nor in the paper: 3 of 3, of which 2 stand as in the paper (not so: MDN above AWAC)."
    ) in page
    assert r"& $2$ & $3$ &" in latex


def test_methods_that_overlap_are_not_said_to_be_in_order(results: ResultsFolder) -> None:
    add(results, "awac", [80.0, 96.0])
    add(results, "lom", [90.0, 91.0])

    _, page, latex = pages(results)

    assert row(page, "rank, ours") == ["", "", "1-2", "", "", "1-2"]
    assert "neither here nor in the paper: 0 of 1, of which 0 stand as in the paper." in page
    assert "& 1--2 &" in latex  # a range, not a difference


@pytest.mark.parametrize(
    ("seeds", "said"),
    [
        (1, "A single seed tells nothing of the order of two methods."),
        # Of the 6 ways to share 4 ranks between 2 methods, 2 have one method on top.
        (2, "of two equal methods one has all of its seeds above the other's in 33% of cases"),
        (3, "in 10% of cases"),
        (4, None),  # 3 %
    ],
)
def test_it_is_said_how_little_a_few_seeds_say(
    results: ResultsFolder, seeds: int, said: str | None
) -> None:
    for method, mean in (("awac", 50.0), ("lom", 80.0)):
        add(results, method, [mean + seed for seed in range(seeds)])
    _, page, _ = pages(results)
    assert said in page if said else "seeds are few" not in page and "single seed" not in page


# The sums, and the paper's claim


def test_the_papers_53_percent_are_against_awac_alone_and_ours_stand_beside(
    results: ResultsFolder,
) -> None:
    for task, awac, lom in zip(TASKS, (50.0, 30.0, 20.0), (80.0, 40.0, 30.0), strict=True):
        add(results, "awac", [awac], task, status="finished" if task != REACH else "running")
        add(results, "lom", [lom], task)

    _, page, _ = pages(results)

    assert "of AWAC alone, by the sums over the tasks: 125.7 / 81.9, +53%; it is" in page
    assert "+323% over BC, +185% over MDN, +12% over WCGAN, +11% over WCVAE." in page
    assert (
        "Over AWAC on fetch-reach + fetch-push + fetch-pick-and-place: ours +50%, the paper's +53%."
    ) in page
    summed = {kind: row(page, kind, "sum of the tasks") for kind in ("ours", "ours / LOM", "paper")}
    assert summed["ours"] == ["", "", "100.0†", "", "", "**150.0**"]
    assert summed["ours / LOM"] == ["", "", "0.67", "", "", "1.00"]
    assert summed["paper"] == ["29.7", "44.1", "81.9", "112.7", "113.1", "**125.7**"]


def test_a_part_of_the_tasks_is_compared_on_that_part_and_not_summed(
    results: ResultsFolder,
) -> None:
    for task in TASKS[:2]:
        add(results, "lom", [80.0], task)
    add(results, "awac", [40.0])
    add(results, "awac", [40.0], TASKS[2])

    _, page, _ = pages(results)

    assert "Over AWAC on fetch-reach: ours +100%, the paper's +46%." in page
    assert "| sum of the tasks |" not in page


# What the table must not hide


def test_other_columns_and_settings_are_left_out_by_name_and_never_chosen_by_score(
    results: ResultsFolder,
) -> None:
    add(results, "awac", [40.0])
    [paper] = add(results, "lom_paper", [99.0])
    names = [
        results.add(M, 0, [[score]], env=REACH, sources={"M": f"M={M} (command line)"})
        for M, score in ((4, 90.0), (8, 50.0))
    ]

    frame, page, _ = pages(results)

    assert frame["mean"].notna().sum() == 1
    assert f"- `{paper}`: left out: lom_paper on {REACH} is no cell of Table 2" in page
    for name in names:
        assert f"- `{name}`: left out: lom on {REACH} has 2 settings" in page
    assert "Left out: 3 runs" in page


def test_the_caption_says_which_data_seeds_updates_and_settings(results: ResultsFolder) -> None:
    budget = {
        "updates.policy": "budget/lom=minutes",
        "evaluation.every": "budget=minutes (experiment=table2)",
        "algo.tau": "conf/algo/lom.yaml",
    }
    results.add(4, 0, [[50.0]], env=REACH, provenance="generated", sources=budget, every=500)
    add(results, "bc", [3.0, 4.0])

    _, page, latex = pages(results)

    for text in (page, latex):
        assert "Data: generated data, not D4RL (all)." in text
        assert "fetch-reach 40,000 rows, sha256 abababababab." in text
        assert "Seeds: 0, 1 (bc); 0 (lom)." in text
        assert "(here 1 episodes)" in text
        assert "16 of the 18 cells are empty." in text
        assert "M: 4 (lom). beta: 5 (lom)." in text
        assert "10,000 policy (bc); 500 behavior + 5,000 policy (lom)." in text
    assert "Settings given by hand, other than conf/'s: updates.policy=5000 (lom); " in page


def test_runs_that_are_not_finished_are_marked(results: ResultsFolder) -> None:
    add(results, "lom", [80.0], status="running")
    add(results, "awac", [70.0], TASKS[1], status="failed")
    _, page, _ = pages(results)
    assert row(page, "ours")[-1] == "80.0†"
    assert "INCOMPLETE (†): 2 of the 2 runs shown are not finished" in page


def test_nothing_to_show_is_an_error_that_says_why(
    results: ResultsFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    [other] = add(results, "lom", [9.0], "hopper-expert")
    assert table2.main([str(results.path)]) == 1
    error = capsys.readouterr().err
    assert "no run has anything to show in Table 2" in error
    assert f"{other}: left out: lom on hopper-expert is no cell of Table 2" in error


def test_a_cell_of_mixed_data_is_an_error(results: ResultsFolder) -> None:
    results.add(4, 0, [[10.0]], env=REACH)
    results.add(4, 1, [[10.0]], env=REACH, sha256="cd" * 32)
    with pytest.raises(AnalysisError, match="different data"):
        pages(results)


# The files


def test_the_terminal_table_fits_120_columns_and_the_files_lie_beside_the_sweep(
    results: ResultsFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    for task in TASKS:
        for method in METHODS:
            add(results, method, [80.0, 120.0], task, rewards=[2.0, 1.0])
    folder = results.sweep([path.name for path in (results.path / "runs").iterdir()])

    assert table2.main([str(folder)]) == 0

    out = capsys.readouterr().out
    shown = out[: out.index("written:")].splitlines()
    assert max(map(len, shown)) <= 120
    [push] = [line.split() for line in shown if line.startswith("fetch-push")]
    assert push == ["fetch-push", "ours", *6 * ["100.0±28.3"]]
    assert {f"table2.{kind}" for kind in ("md", "csv", "tex")} <= {
        path.name for path in folder.iterdir()
    }


def test_the_same_results_give_the_same_files(results: ResultsFolder) -> None:
    add(results, "lom", [80.0, 90.0], rewards=[2.0, 1.0])
    assert pages(results)[1:] == pages(results)[1:]


def test_the_latex_is_one_balanced_table(results: ResultsFolder) -> None:
    add(results, "lom", [80.0, 90.0], rewards=[2.0, 1.0])
    add(results, "awac", [85.0, 86.0])

    _, _, latex = pages(results)

    body = latex[latex.index(r"\midrule") : latex.index(r"\bottomrule")]
    lines = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert {line.count(" &") for line in lines} == {7}
    unescaped = re.sub(r"\\[&%$#_{}]", "", latex)
    assert unescaped.count("{") == unescaped.count("}")
    assert unescaped.count("$") % 2 == 0
    assert r"best goal, \% &" in latex


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_the_latex_compiles(results: ResultsFolder, tmp_path: Path) -> None:
    add(results, "lom", [80.0, 90.0], rewards=[2.0, 1.0])
    add(results, "awac", [85.0, 86.0], status="running")
    pages(results)
    document = tmp_path / "document.tex"
    document.write_text(
        "\\documentclass{article}\\usepackage{booktabs,graphicx}\\begin{document}"
        f"\\input{{{results.path / 'table2.tex'}}}\\end{{document}}"
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", document.name]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "Overfull" not in done.stdout


def test_a_sweep_of_several_methods_on_a_task_ends_with_the_table(results: ResultsFolder) -> None:
    lom, awac = (add(results, method, [80.0])[0] for method in ("lom", "awac"))
    alone, both = results.sweep([lom], "alone"), results.sweep([lom, awac], "both")
    assert sweep.report(alone)
    assert sweep.report(both)
    assert not (alone / "table2.md").exists()
    assert (both / "table2.md").exists()
    assert not (both / "table1.md").exists()
    assert json.loads((both / "sweep.json").read_text())["runs"] == [lom, awac]
