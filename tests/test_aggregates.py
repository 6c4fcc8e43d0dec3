"""Statistics over datasets as a command: what it writes, and what it leaves out."""

import itertools
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from result_folders import ResultsFolder

from analysis import aggregates, drawing, latex, methods, runs, scores, sweep
from analysis.folders import AnalysisError


@pytest.fixture
def results(tmp_path: Path) -> ResultsFolder:
    return ResultsFolder(tmp_path / "results")


def fill(results: ResultsFolder) -> None:
    """Two methods on two datasets, three seeds each; a third dataset has one of them."""
    for env, lom, bc in (("hopper-medium", 60.0, 20.0), ("walker2d-medium", 40.0, 40.0)):
        for seed, offset in enumerate((-3.0, 0.0, 3.0)):
            results.add(5, seed, [[lom + offset]], env=env)
            results.add(None, seed, [[bc + 2 * offset]], label="bc", env=env, beta=None)
    results.add(5, 0, [[99.0]], env="ant-medium")


def test_methods_are_ranked_over_the_datasets_that_all_have(results: ResultsFolder) -> None:
    fill(results)

    found = aggregates.compute(runs.load(results.path))

    assert found.datasets == ["hopper-medium", "walker2d-medium"]
    overall = found.overall.set_index("method")
    assert overall.index.tolist() == ["lom", "bc"]
    assert overall["mean"].tolist() == [50.0, 30.0]
    assert overall["median"].tolist() == [50.0, 30.0]
    # Of 6 runs the middle 4: 40 43 57 60, and 20 26 34 40.
    assert overall["IQM"].tolist() == pytest.approx([50.0, 30.0])
    assert found.ranks.loc["hopper-medium"].to_dict() == {"lom": 1.0, "bc": 2.0}
    assert found.ranks.loc["walker2d-medium"].to_dict() == {"lom": 1.5, "bc": 1.5}
    assert overall["mean rank"].tolist() == [1.25, 1.75]
    pair = found.improvement.set_index(["method", "other"]).loc[("lom", "bc")]
    assert pair["probability"] == pytest.approx((1 + 0.5) / 2)
    assert [problem.problem for problem in found.left_out] == [
        "left out: not every method was run on ant-medium"
    ]


def test_several_settings_of_one_label_are_methods_of_their_own(results: ResultsFolder) -> None:
    for M in (2, 5):
        results.add(M, 0, [[1.0 * M]])
    results.add(None, 0, [[1.0]], label="bc", beta=None)
    points = scores.per_run(runs.load(results.path))
    assert sorted(methods.name(points)) == ["bc", "lom M=2", "lom M=5"]


def test_of_many_settings_only_those_are_named_that_tell_methods_apart(
    results: ResultsFolder,
) -> None:
    results.add(2, 0, [[1.0]], config={"tau": 0.1, "discount": 0.9, "same": 1})
    results.add(2, 0, [[1.0]], config={"tau": 0.2, "discount": 0.8, "same": 1})
    results.add(5, 0, [[1.0]], config={"tau": 0.1, "discount": 0.9, "same": 1})

    named = sorted(methods.name(scores.per_run(runs.load(results.path))))

    assert named == [
        "lom M=2 algo.discount=0.8", "lom M=2 algo.discount=0.9", "lom M=5",
    ]  # fmt: skip


def test_one_setting_a_dataset_is_one_method(results: ResultsFolder) -> None:
    results.add(2, 0, [[1.0]], env="hopper-medium")
    results.add(5, 0, [[1.0]], env="walker2d-medium", beta=0.1)
    assert set(methods.name(scores.per_run(runs.load(results.path)))) == {"lom"}


def test_no_dataset_in_common_is_an_error_that_lists_what_there_is(results: ResultsFolder) -> None:
    results.add(2, 0, [[1.0]], env="hopper-medium")
    results.add(None, 0, [[1.0]], label="bc", env="walker2d-medium", beta=None)
    with pytest.raises(AnalysisError, match="no dataset has scored runs of every method") as error:
        aggregates.compute(runs.load(results.path))
    assert "bc: walker2d-medium" in str(error.value)


def test_the_command_writes_tables_and_the_figure_with_what_they_are_of(
    results: ResultsFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(results)

    assert aggregates.main([str(results.path)]) == 0

    page = (results.path / "aggregates.md").read_text()
    assert "hopper-medium, walker2d-medium (collected data, not D4RL). Seeds: 3" in page
    assert "last evaluation" in page
    frame = pd.read_csv(results.path / "profiles.csv")
    assert set(frame["method"]) == {"lom", "bc"}
    assert (results.path / "profiles.pdf").read_bytes().startswith(b"%PDF")
    assert "left out: not every method was run on ant-medium" in capsys.readouterr().out


def test_a_single_seed_gets_no_interval_and_is_told_why(results: ResultsFolder) -> None:
    results.add(2, 0, [[10.0]])
    results.add(None, 0, [[20.0]], label="bc", beta=None)

    aggregates.write(runs.load(results.path), results.path)

    page = (results.path / "aggregates.md").read_text()
    assert "| bc | 20.0 | 20.0 | 20.0 |" in page
    assert "a single run tells nothing of how runs vary: there is no interval then" in page


def test_methods_trained_on_different_data_are_marked_as_not_comparable(
    results: ResultsFolder,
) -> None:
    results.add(2, 0, [[10.0]])
    results.add(None, 0, [[20.0]], label="bc", beta=None, sha256="cd" * 32)
    aggregates.write(runs.load(results.path), results.path)
    page = (results.path / "aggregates.md").read_text()
    assert "NOT COMPARABLE: the runs' data for hopper-medium-replay differ." in page
    assert "trained on other data" in page[page.index("Not of the same code or data") :]


def test_a_sweep_of_methods_on_datasets_ends_with_their_statistics(results: ResultsFolder) -> None:
    names = [
        results.add(M, 0, [[10.0]], label=label, env=env)
        for label, M in (("lom", 2), ("bc", None))
        for env in ("hopper-medium", "walker2d-medium")
    ]
    folder = results.sweep(names)
    assert sweep.report(folder)
    assert (folder / "aggregates.md").is_file()
    assert not (folder / "selection.md").exists()  # no algorithm has several settings


def test_an_algorithm_has_one_color_everywhere() -> None:
    few = drawing.colors(["lom", "bc"])
    many = drawing.colors(["awac", "bc", "mine", "lom M=2", "lom M=5"])
    assert few["lom"] == many["lom M=2"] == drawing.ALGORITHMS["lom"]
    assert few["bc"] == many["bc"]
    assert len(set(many.values())) == 5


# What is seen without cones for red, or for green: Machado, Oliveira and Fernandes (2009).
VISION = {
    "all": np.eye(3),
    "no red": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
         [-0.003882, -0.048116, 1.051998]]
    ),
    "no green": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
         [-0.011820, 0.042940, 0.968881]]
    ),
}  # fmt: skip
TO_XYZ = np.array(
    [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
)  # fmt: skip


def lab(color: str, vision: str) -> np.ndarray:
    """A color's place in CIELAB, as some readers see it."""
    srgb = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    x, y, z = TO_XYZ @ np.clip(VISION[vision] @ linear, 0, 1) / [0.9505, 1.0, 1.089]
    x, y, z = (np.cbrt(v) if v > 0.008856 else 7.787 * v + 16 / 116 for v in (x, y, z))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("vision", VISION)
def test_the_colors_of_algorithms_and_of_the_data_are_told_apart(vision: str) -> None:
    places = {
        name: lab(color, vision)
        for name, color in (drawing.ALGORITHMS | {"data": drawing.DATASET}).items()
    }
    apart = {
        pair: np.linalg.norm(places[pair[0]] - places[pair[1]])
        for pair in itertools.combinations(places, 2)
    }
    assert min(apart.values()) > 15, min(apart, key=lambda pair: apart[pair])


EVIL = r'50%_of $x$ & #1 {a} \input{x} ~^ <y> "z" ± |'


def test_every_character_of_a_name_is_set_as_it_is() -> None:
    text = latex.escape(EVIL)
    assert text.startswith(r"50\%\_of \$x\$ \& \#1 \{a\} \textbackslash{}input\{x\} ")
    assert r"\input" not in text


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_a_table_of_evil_names_compiles(tmp_path: Path) -> None:
    frame = pd.DataFrame({EVIL: [EVIL, "b"], "c_d": ["1", EVIL]})
    table = latex.table(frame, EVIL, "tab:evil")
    document = (
        "\\documentclass{article}\n\\usepackage{booktabs,graphicx}\n"
        f"\\begin{{document}}\n{table}\n\\end{{document}}\n"
    )
    (tmp_path / "document.tex").write_text(document)
    made = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "document.tex"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert made.returncode == 0, made.stdout[-2000:]
