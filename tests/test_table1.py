"""Table 1 of LOM from hand-made result folders, beside the paper's numbers."""

import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
import yaml
from result_folders import ResultsFolder

from analysis import runs, sweep, table1
from analysis.folders import AnalysisError

ROOT = Path(__file__).resolve().parents[1]
HOPPER = "hopper-medium-replay"


@pytest.fixture
def results(tmp_path: Path) -> ResultsFolder:
    return ResultsFolder(tmp_path / "results")


def pages(results: ResultsFolder, statistic: str = "last_ten") -> tuple[pd.DataFrame, str, str]:
    """The CSV's numbers, the Markdown and the LaTeX of all runs."""
    table1.write(runs.load(results.path), results.path, statistic)
    frame = pd.read_csv(results.path / "table1.csv", keep_default_na=False)
    frame = frame.set_index(["dataset", "method"])
    return frame, *((results.path / f"table1.{kind}").read_text() for kind in ("md", "tex"))


def row(page: str, kind: str, dataset: str = HOPPER) -> list[str]:
    """The cells of one line of a Markdown page."""
    lines = page.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {dataset} |"))
    line = next(line for line in lines[start : start + 3] if f"| {kind} |" in line)
    return [cell.strip() for cell in line.strip("|").split("|")][2:]


def test_the_papers_numbers_are_those_it_prints() -> None:
    printed = table1.PAPER.numbers().set_index(["dataset", "method"])
    assert len(printed) == 15 * 9
    assert printed.loc[("hopper-medium-expert", "dmpo")].tolist() == [78.4, 19.0]
    assert printed.loc[("walker2d-full-replay", "wcgan")].tolist() == [53.0, 5.4]
    assert printed.loc[("halfcheetah-medium", "onestep"), "paper_mean"] == 50.4
    # Only the methods made for multi-modality have deviations.
    with_std = printed["paper_std"].notna().groupby("method").agg(["all", "any"])
    assert set(with_std[with_std["all"]].index) == {"lapo", "dmpo", "wcgan", "wcvae", "lom"}
    assert set(with_std[with_std["any"]].index) == set(with_std[with_std["all"]].index)
    # A checksum: the sums of three printed columns.
    sums = printed["paper_mean"].groupby("method").sum().round(1)
    assert sums["lom"] == 1362.2
    assert sums["onestep"] == 1228.0
    assert sums["td3_bc"] == 1230.8


def test_the_file_of_the_papers_numbers_says_where_they_are_from() -> None:
    head = table1.PAPER.file.read_text().partition("dataset,")[0]
    assert "Learning on One Mode" in " ".join(head.replace("#", "").split())
    assert "Table 1" in head
    assert all(line.startswith("#") for line in head.splitlines())


def test_the_grid_is_what_the_experiment_runs() -> None:
    config = yaml.safe_load((ROOT / "conf" / "experiment" / "table1.yaml").read_text())
    params = config["hydra"]["sweeper"]["params"]
    assert params["algo"].split(",") == list(table1.PAPER.methods)
    assert params["env"].split(",") == list(table1.PAPER.numbers()["dataset"].unique())
    for method in table1.PAPER.methods:
        algo = yaml.safe_load((ROOT / "conf" / "algo" / f"{method}.yaml").read_text())
        assert algo["label"] == method


def test_a_cell_is_mean_and_deviation_beside_the_papers_and_the_difference(
    results: ResultsFolder,
) -> None:
    for seed, score in enumerate([60.0, 70.0]):
        results.add(None, seed, [[score - 1, score + 1]] * 2, label="awac", beta=None)
    for seed, score in enumerate([100.0, 102.0, 104.0]):
        results.add(5, seed, [[score]] * 2)

    frame, page, latex = pages(results)

    awac, lom = frame.loc[(HOPPER, "awac")], frame.loc[(HOPPER, "lom")]
    assert [float(awac[key]) for key in ("mean", "std", "paper_mean", "difference")] == [
        65.0, 7.071068, 69.8, -4.8,
    ]  # fmt: skip
    assert lom[["mean", "std", "seeds", "seed_list"]].tolist() == ["102.0", "2.0", "3", "0 1 2"]
    assert row(page, "ours") == ["", "65.0±7.1", *6 * [""], "**102.0±2.0**"]
    paper = "98.5|69.8|88.7|60.9|58.6±3.8|89.2±8.1|90.3±3.1|99.0±2.1|**99.2±1.1**"
    assert row(page, "paper") == paper.split("|")
    assert row(page, "diff") == ["", "-4.8", *6 * [""], "+2.8"]
    assert r" & $65.0_{\pm 7.1}$ & " in latex
    assert r" & $\mathbf{102.0}_{\pm 2.0}$ \\" in latex


def test_what_was_not_run_is_empty(results: ResultsFolder) -> None:
    results.add(5, 0, [[10.0]])

    frame, page, latex = pages(results)

    assert len(frame) == 135
    assert (frame["mean"] != "").sum() == (frame["difference"] != "").sum() == 1
    assert row(page, "ours", "walker2d-expert") == 9 * [""]
    assert row(page, "paper", "walker2d-expert")[0] == "110.7"
    assert "134 of the 135 cells are empty" in page
    assert latex.count("diff &") == 1


def test_the_last_evaluation_alone_can_be_averaged(results: ResultsFolder) -> None:
    results.add(5, 0, [[10.0], [20.0]])
    assert pages(results)[0].loc[(HOPPER, "lom"), "mean"] == "15.0"
    frame, page, _ = pages(results, "last")
    assert frame.loc[(HOPPER, "lom"), ["mean", "statistic"]].tolist() == ["20.0", "last"]
    assert "of the last evaluation of each run" in page


def test_runs_outside_the_table_are_left_out_by_name(results: ResultsFolder) -> None:
    results.add(5, 0, [[10.0]])
    others = [
        results.add(5, 0, [[10.0]], label="lom_paper"),
        results.add(None, 0, [[10.0]], label="bc", beta=None),
        results.add(5, 0, [[10.0]], env="hopper-random"),
    ]

    _, page, latex = pages(results)

    for name in others:
        assert re.search(rf"- `{name}`: left out: .* is no cell of Table 1", page)
    assert "Left out: 3 runs" in page
    assert "Left out: 3 runs" in latex


def test_runs_of_other_settings_are_never_averaged_with_confs_own(results: ResultsFolder) -> None:
    by_hand = {"algo.tau": "command line", "updates.policy": "experiment=reduced"}
    own = {"algo.tau": "default", "updates.policy": "conf/algo/lom.yaml"}
    results.add(5, 0, [[80.0]], sources=own)
    reduced = results.add(5, 0, [[20.0]], every=10, config={"tau": 0.1}, sources=by_hand)

    frame, page, _ = pages(results)

    assert frame.loc[(HOPPER, "lom"), ["mean", "by_hand"]].tolist() == ["80.0", ""]
    assert f"- `{reduced}`: left out: lom on {HOPPER} has 2 settings" in page
    assert "algo.tau=0.1, updates.policy=100; the table shows those of conf/'s own" in page


def test_of_several_settings_by_hand_none_is_picked(results: ResultsFolder) -> None:
    names = [
        results.add(M, 0, [[M * 10.0]], sources={"M": f"M={M} (command line)"}) for M in (2, 5)
    ]
    results.add(None, 0, [[50.0]], label="awac", beta=None)

    frame, page, _ = pages(results)

    assert frame.loc[(HOPPER, "lom"), "mean"] == ""
    assert frame.loc[(HOPPER, "awac"), "mean"] == "50.0"
    for name, M in zip(names, (2, 5), strict=True):
        assert (
            f"- `{name}`: left out: lom on {HOPPER} has 2 settings, of which this is M={M}" in page
        )


def test_the_caption_says_what_was_given_by_hand_and_for_which_runs(results: ResultsFolder) -> None:
    sources = {
        "M": "M=5 (command line)",
        "algo.num_components": "M=5 (command line)",  # follows from M
        "updates.policy": "experiment=reduced",
        "algo.tau": "default",
    }
    results.add(5, 0, [[10.0]], sources=sources, every=100)
    results.add(
        None, 0, [[50.0]], label="awac", beta=None, every=200,
        sources={"updates.policy": "command line"},
    )  # fmt: skip
    results.add(None, 0, [[50.0]], label="cql", beta=None, every=200)

    _, page, _ = pages(results)

    assert (
        "Settings given by hand, other than conf/'s: updates.policy=2000 (awac); M=5 (lom); "
        "updates.policy=1000 (lom)."
    ) in page
    assert (
        "Updates: 500 behavior + 2,000 policy (awac, cql); 500 behavior + 1,000 policy (lom)."
    ) in page


def test_seeds_and_evaluations_are_in_the_caption(results: ResultsFolder) -> None:
    for seed in (0, 1):
        results.add(5, seed, [[10.0, 12.0]] * 3, final=[10.0] * 4)
    results.add(None, 3, [[10.0, 12.0]] * 3, label="cql", beta=None, final=[10.0] * 4)

    _, page, _ = pages(results)

    assert "Seeds: 3 (cql); 0, 1 (lom)." in page
    assert "(here 3 evaluations of 2 episodes, the last of 4)" in page


def test_runs_that_are_not_finished_are_marked_and_counted(results: ResultsFolder) -> None:
    results.add(5, 0, [[10.0]], status="running")
    results.add(5, 1, [[12.0]])
    young = results.add(None, 0, [], status="running", label="cql", beta=None)

    _, page, latex = pages(results)

    assert row(page, "ours")[-1] == "11.0±1.4†"
    assert "INCOMPLETE (†): 1 of the 2 runs shown are not finished" in page
    assert "INCOMPLETE: 1 more runs are not started, unreadable or not evaluated yet" in page
    assert f"- `{young}`: no evaluation yet" in page
    assert r"$11.0^{\dagger}_{\pm 1.4}$" in latex
    assert "INCOMPLETE" in latex


@pytest.mark.parametrize("provenance", ["collected", "generated", "unknown", ""])
def test_data_of_another_provenance_is_never_called_d4rls(
    results: ResultsFolder, provenance: str
) -> None:
    results.add(5, 0, [[10.0]], provenance=provenance)

    frame, page, latex = pages(results)

    assert "D4RL" not in str(frame.loc[(HOPPER, "lom"), "data"]).replace("not D4RL", "")
    for text in (page, latex):
        [data] = re.findall(r"Data: (.*?)\.", text)
        assert "D4RL" not in data.replace("not D4RL", "")
        assert "speaks neither for nor against the paper's numbers" in text


def test_data_are_listed_by_dataset_where_they_differ(results: ResultsFolder) -> None:
    results.add(5, 0, [[10.0]], provenance="d4rl")
    results.add(5, 0, [[10.0]], env="hopper-expert", provenance="collected")

    _, page, _ = pages(results)

    assert f"Data: D4RL ({HOPPER}); collected data, not D4RL (hopper-expert)." in page


def test_d4rl_data_alone_need_no_warning(results: ResultsFolder) -> None:
    results.add(5, 0, [[10.0]], provenance="d4rl")
    _, page, _ = pages(results)
    assert "Data: D4RL (all)." in page
    assert "speaks neither" not in page


def test_methods_run_on_different_files_of_one_dataset_are_not_passed_off_as_comparable(
    results: ResultsFolder,
) -> None:
    results.add(5, 0, [[10.0]], provenance="d4rl", sha256="ab" * 32)
    results.add(None, 0, [[10.0]], label="awac", beta=None, sha256="cd" * 32)

    _, page, _ = pages(results)

    assert (
        f"NOT COMPARABLE: the methods' data for {HOPPER} differ (awac: collected data, not D4RL, "
        "sha256 cdcdcdcdcdcd; lom: D4RL, sha256 abababababab)."
    ) in page


def test_a_cell_of_mixed_data_is_an_error(results: ResultsFolder) -> None:
    results.add(5, 0, [[10.0]])
    results.add(5, 1, [[10.0]], sha256="cd" * 32)
    with pytest.raises(AnalysisError, match="different data"):
        pages(results)


def test_nothing_to_show_is_an_error_that_says_why(
    results: ResultsFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    name = results.add(None, 0, [[10.0]], label="bc", beta=None)
    assert table1.main([str(results.path)]) == 1
    error = capsys.readouterr().err
    assert "no run has anything to show in Table 1" in error
    assert f"{name}: left out: bc on {HOPPER} is no cell of Table 1" in error


def test_the_terminal_table_fits_120_columns(
    results: ResultsFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    for method in table1.PAPER.methods:
        for seed, score in enumerate((90.0, 120.0)):
            results.add(None, seed, [[score]], label=method, env="hopper-medium-expert", beta=None)
    folder = results.sweep([path.name for path in (results.path / "runs").iterdir()])

    assert table1.main([str(folder)]) == 0

    out = capsys.readouterr().out
    shown = out[: out.index("written:")].splitlines()
    assert max(map(len, shown)) <= 120
    start = shown.index(next(line for line in shown if line.startswith("medium-expert")))
    ours, paper, difference = shown[start + 3 : start + 6]
    assert ours.split() == ["hopper", "ours", *9 * ["105.0±21.2"]]
    assert paper.split()[:3] == ["paper", "108.6", "100.1"]
    differences = [-3.6, 4.9, -0.6, 7.0, -0.2, 26.6, -5.0, -4.0, -5.1]
    assert difference.split() == ["diff", *(f"{value:+.1f}" for value in differences)]
    assert {f"table1.{kind}" for kind in ("md", "csv", "tex")} <= {
        path.name for path in folder.iterdir()
    }


def test_no_difference_is_minus_zero() -> None:
    grid = table1.PAPER.numbers().assign(
        mean=50.36, std=float("nan"), difference=-0.04, status="finished", overlap=""
    )
    grid["paper_name"] = grid["method"]
    lines = [line for line in table1.lines(grid) if line.kind == "diff"]
    assert {cell for line in lines for cell in line.cells} == {"+0.0"}


def test_the_same_results_give_the_same_files(results: ResultsFolder) -> None:
    results.add(5, 0, [[10.0]])
    first = pages(results)
    second = pages(results)
    assert first[1:] == second[1:]


def test_the_latex_is_one_balanced_table(results: ResultsFolder) -> None:
    results.add(
        5, 0, [[10.0]], config={"a_b": "50%&#^~\\{x}"}, sources={"algo.a_b": "command line"}
    )

    _, _, latex = pages(results)

    body = latex[latex.index(r"\midrule") : latex.index(r"\bottomrule")]
    rows = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 15 * 2 + 1
    assert {line.count("&") for line in rows} == {10}
    unescaped = re.sub(r"\\[&%$#_{}]", "", latex)
    assert unescaped.count("{") == unescaped.count("}")
    assert unescaped.count("$") % 2 == 0
    assert (
        "algo.a\\_b=50\\%\\&\\#\\textasciicircum{}\\textasciitilde{}\\textbackslash{}\\{x\\}"
        in latex
    )


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_the_latex_compiles(results: ResultsFolder, tmp_path: Path) -> None:
    results.add(
        5, 0, [[10.0]], config={"a_b": "50%&#^~\\{x}"}, sources={"algo.a_b": "command line"}
    )
    results.add(None, 0, [[10.0]], label="awac", beta=None, status="running")
    pages(results)
    document = tmp_path / "document.tex"
    document.write_text(
        "\\documentclass{article}\\usepackage{booktabs,graphicx}\\begin{document}"
        f"\\input{{{results.path / 'table1.tex'}}}\\end{{document}}"
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", document.name]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "Overfull" not in done.stdout


def test_a_sweep_that_compares_methods_ends_with_the_table(results: ResultsFolder) -> None:
    lom = results.add(5, 0, [[10.0]])
    awac = results.add(None, 0, [[10.0]], label="awac", beta=None)
    alone = results.sweep([lom], "alone")
    both = results.sweep([lom, awac], "both")
    assert sweep.report(alone)
    assert sweep.report(both)
    assert not (alone / "table1.md").exists()
    assert (both / "table1.md").exists()
