"""Figure 5: what is drawn is what was learned, and what a panel says of it was counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils._pytree import tree_leaves

from analysis import runs
from analysis.folders import AnalysisError
from analysis.policies import figure5, rings
from analysis.runs import Problem, Results
from lom_exp import configuration, experiment, trained
from lom_exp.algorithms import onestep, wcgan, wcvae
from lom_exp.datasets.generation import generate
from lom_exp.errors import ConfigError, DataError
from lom_exp.networks import Params
from lom_exp.random import Rng
from lom_exp.runspec import ExecutionConfig, RunSpec, Sweep, TrackingConfig
from lom_exp.trained import TrainedRun

SMALL = [
    *("network=toy", "evaluation.every=100", "evaluation.episodes=2"),
    "evaluation.final_episodes=2",
]
UPDATES = 4  # of each phase
ENDINGS = ("png", "pdf", "csv")
COUNT = 20_000  # draws: standard errors of 0.7 % of a deviation


def spec(folder: Path, algo: str, env: str) -> RunSpec:
    """A run of a few updates on data in the folder, which are generated once."""
    path = folder / f"{env}.hdf5"
    composed = configuration.compose([f"algo={algo}", f"env={env}", f"env.path={path}", *SMALL])
    if not path.exists():
        generate(replace(composed.env, path=None), path, processes=1)
    return with_values(composed, updates=dict.fromkeys(composed.updates, UPDATES))


def with_values(spec: RunSpec, **values: Any) -> RunSpec:
    """The spec with other values, as if composed with them, which takes longer."""
    return replace(spec, **values, resolved={**spec.resolved, **values})


def train(folder: Path, specs: list[RunSpec]) -> None:
    execution = ExecutionConfig(
        device="cpu",
        compile="auto",
        cuda_graphs=True,
        tf32=False,
        share=True,
        threads=1,
        vectorize="auto",
        evaluation_workers=0,
        log_every=UPDATES,
        checkpoint_every=1000,
        results=str(folder / "results"),
        tracking=TrackingConfig(enabled=False, uri=None, experiment="tests"),
    )
    finished = experiment.run(specs, execution, Sweep("rings", ["launch.py"], [], is_part=True))
    assert all(result.status == "finished" for result in finished)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every run of the figure, of two seeds, and their data."""
    made = tmp_path_factory.mktemp("rings")
    specs = [spec(made, algo, env) for env in figure5.ROWS for algo in figure5.METHODS]
    train(made, [with_values(each, seed=seed) for each in specs for seed in (0, 1)])
    return made / "results"


@pytest.fixture(scope="module")
def results(folder: Path) -> Results:
    return runs.load(folder)


def rows(results: Results, label: str, env: str = "rings", seed: int = 0) -> pd.DataFrame:
    found = results.runs
    return found[(found["label"] == label) & (found["env"] == env) & (found["seed"] == seed)]


def load(results: Results, label: str, env: str = "rings", seed: int = 0) -> TrainedRun:
    [path] = rows(results, label, env, seed)["folder"]
    return trained.load(Path(path))


def actions_at(run: TrainedRun, x: float, count: int = COUNT) -> np.ndarray:
    """What is drawn at one state."""
    drawn = rings.sample(run, np.full(count, x))
    assert (drawn[:, 0] == x).all()
    return drawn[:, 1] / 1.6


def scaled(run: TrainedRun, x: float, count: int = COUNT) -> torch.Tensor:
    return run.observations(torch.full((count, 1), x))


def changed(run: TrainedRun, **networks: Callable[[Params], Params]) -> TrainedRun:
    """The run with other parameters of these networks."""
    [snapshot] = run.trainer.snapshots()
    parts = {name: getattr(snapshot.state, name) for name in networks}
    others = {
        name: parts[name]._replace(params=networks[name](parts[name].params)) for name in parts
    }
    run.trainer.restore([snapshot._replace(state=snapshot.state._replace(**others))])
    return run


def test_of_a_gaussian_mean_and_deviation_at_the_state_are_drawn(results: Results) -> None:
    def widen(layers: Params) -> Params:
        weight, bias = layers[-1]
        return [*layers[:-1], (5 * weight, bias + torch.tensor([0.5, 1.0]))]

    run = changed(load(results, "onestep"), policy=widen)
    state, config = run.trainer.snapshots()[0].state, run.spec.config
    means = []
    for x in (-1.1, 0.4):
        mean, std = onestep.gaussian(state.policy.params, scaled(run, x, 1), config)
        drawn = actions_at(run, x)
        assert drawn.mean() == pytest.approx(mean.item(), abs=4 * std.item() / COUNT**0.5)
        assert drawn.std() == pytest.approx(std.item(), rel=0.03)
        assert (np.abs(drawn) > 1).any()  # not clipped: what was learned lies outside, too
        means.append(mean.item())
    assert abs(means[1] - means[0]) > 0.05


def test_of_the_autoencoder_the_whole_prior_is_decoded(results: Results) -> None:
    run = load(results, "wcvae")
    assert run.spec.config.evaluation_latent == "zero"
    state, generator = run.trainer.snapshots()[0].state, torch.Generator().manual_seed(0)
    latents = torch.randn(COUNT, 10, generator=generator)
    expected = wcvae.reconstruct(state.autoencoder.params, scaled(run, 0.4), latents)[:, 0]
    assert_same_distribution(actions_at(run, 0.4), expected.numpy())


def test_of_the_generator_all_noise_is_taken_and_no_statistics_are_moved(results: Results) -> None:
    run = load(results, "wcgan")
    assert run.spec.config.evaluation_noise == "zero"
    state, generator = run.trainer.snapshots()[0].state, torch.Generator().manual_seed(0)
    noise = torch.randn(COUNT, 1, generator=generator)
    expected, _ = wcgan.generate(
        state.generator.params,
        state.generator_statistics,
        scaled(run, 0.4),
        noise,
        training=False,
    )
    assert_same_distribution(actions_at(run, 0.4), expected[:, 0].numpy())


def assert_same_distribution(first: np.ndarray, second: np.ndarray) -> None:
    """By the distance of Kolmogorov and Smirnov, which one in a thousand such pairs exceeds."""
    assert first.std() > 1e-3
    at = np.concatenate((first, second))
    shares = (np.searchsorted(np.sort(each), at, side="right") / COUNT for each in (first, second))
    assert np.abs(np.subtract(*shares)).max() < 1.95 * (2 / COUNT) ** 0.5


def rng(seed: int = 0) -> Rng:
    return Rng.of(torch.tensor(seed), "test", torch.tensor(0))


def drawn_from(logits: torch.Tensor, stds: float = 0.01) -> np.ndarray:
    """Draws of one mixture whose components have the means 0, 1, 2, ..."""
    count = len(logits)
    means = torch.arange(count, dtype=torch.float32)[:, None].expand(COUNT, -1, -1)
    logits = logits.expand(COUNT, -1)
    drawn = rings.draw_mixture(logits, means, torch.full_like(means, stds), rng())
    return drawn[:, 0].numpy()


def test_components_of_a_mixture_are_drawn_by_their_weights() -> None:
    weights = np.array([0.1, 0.2, 0.3, 0.4])
    # Logits are known up to a constant.
    drawn = drawn_from(torch.tensor(weights).log().float() + 5)
    shares = np.bincount(drawn.round().astype(int), minlength=4) / COUNT
    assert np.abs(shares - weights).max() < 4 * 0.5 / COUNT**0.5
    assert (drawn - drawn.round()).std() == pytest.approx(0.01, rel=0.03)


def test_a_single_component_is_drawn_as_the_gaussian_it_is() -> None:
    drawn = drawn_from(torch.tensor([3.0]), stds=0.5)
    assert drawn.mean() == pytest.approx(0, abs=0.015)
    assert drawn.std() == pytest.approx(0.5, rel=0.03)


def test_only_the_best_components_are_drawn_with_their_weights_renormalized() -> None:
    weights = torch.tensor([0.1, 0.3, 0.2, 0.4])
    hyper_qs = torch.tensor([5.0, 1.0, 3.0, -2.0])  # the lightest is best, the heaviest worst
    logits = rings.only_best(weights.log()[None], hyper_qs[None], 2)[0]
    drawn = drawn_from(logits).round().astype(int)
    assert set(drawn) == {0, 2}
    assert (drawn == 0).mean() == pytest.approx(1 / 3, abs=4 * 0.5 / COUNT**0.5)


def test_every_state_ranks_components_for_itself() -> None:
    logits = torch.zeros(2, 3)
    hyper_qs = torch.tensor([[1.0, 2.0, 3.0], [3.0, 1.0, 2.0]])
    kept = rings.only_best(logits, hyper_qs, 2).isfinite()
    assert kept.tolist() == [[False, True, True], [True, False, True]]


def test_of_equal_components_no_more_are_kept() -> None:
    kept = rings.only_best(torch.zeros(1, 4), torch.ones(1, 4), 2).isfinite()
    assert kept.sum() == 2


def test_the_hyper_q_of_the_run_is_what_ranks_its_components(results: Results) -> None:
    def constant(layers: Params, outputs: torch.Tensor) -> Params:
        weight, _ = layers[-1]
        return [*layers[:-1], (torch.zeros_like(weight), outputs)]

    means = torch.atanh(torch.linspace(-0.9, 0.9, 20))
    log_stds, logits = torch.full((20,), -15.0), torch.zeros(20)
    mixture = torch.stack((means, log_stds, logits), -1).flatten()
    run = changed(
        load(results, "lom"),
        behavior=lambda layers: constant(layers, mixture),
        hyper_critic=lambda layers: constant(layers, torch.arange(20.0)),
    )
    states = np.linspace(-1.2, 1.2, 2000)
    every = rings.sample(run, states)[:, 1] / 1.6
    best = rings.sample(run, states, best=10)[:, 1] / 1.6
    # The ten of highest number are those whose mean is above 0.
    assert (every < 0).mean() == pytest.approx(0.5, abs=0.05)
    assert (best > 0).all()
    assert len(set(best.round(2))) == 10


def test_shares_of_known_points() -> None:
    points = np.array(
        [
            (0.3, 0.3),  # on the inner ring, rewarded
            (-0.8, -0.7),  # on the outer ring, rewarded
            (-1.0, 0.1),  # on the outer ring
            (0.0, 1.219),  # off it by less than the tolerance
            (0.0, 1.221),  # off it by more
            (0.5, 0.5),  # between the rings, rewarded
            (0.1, -0.1),  # amid them
            (1.5, 5.0),  # beyond the axes, rewarded
        ]
    )
    assert rings.shares(points) == rings.Shares(on_rings=4 / 8, rewarded=4 / 8)


def test_states_give_the_same_actions_at_every_call_and_other_seeds_others(
    results: Results,
) -> None:
    states = np.linspace(-1.2, 1.2, 50)
    run = load(results, "lom")
    assert np.array_equal(rings.sample(run, states), rings.sample(run, states))
    other = TrainedRun(
        run.name,
        replace(run.spec, seed=7),
        run.step,
        run.trainer,
        run.observations,
        run.actions,
    )
    assert not np.isin(rings.sample(run, states)[:, 1], rings.sample(other, states)[:, 1]).any()


def test_the_mixture_that_is_ranked_is_to_the_bit_that_of_the_data_without_rewards(
    results: Results,
) -> None:
    first, second = (load(results, "lom", env).trainer.snapshots()[0].state for env in figure5.ROWS)
    for one, other in zip(tree_leaves(first.behavior), tree_leaves(second.behavior), strict=True):
        assert torch.equal(one, other)
    leaves = [tree_leaves(each.critics) for each in (first, second)]
    assert not all(torch.equal(one, other) for one, other in zip(*leaves, strict=True))


@pytest.fixture(scope="module")
def drawn(folder: Path) -> Path:
    """Where the command wrote."""
    out = folder.parent / "drawn"
    assert figure5.main([str(folder), "--out", str(out)]) == 0
    return out


def test_the_numbers_are_of_every_panel_and_every_seed(results: Results, drawn: Path) -> None:
    numbers = pd.read_csv(drawn / "figure5.csv")
    assert "".join(dict.fromkeys(numbers["panel"])) == "abcdefghij"
    models = numbers[numbers["label"].notna()]
    assert models.groupby("panel")["seed"].apply(sorted).tolist() == [[0, 1]] * 8
    assert set(models["run"]) == set(results.runs["run"])
    assert (models["points"] == figure5.SAMPLES).all()
    data = numbers[numbers["panel"].isin(["a", "f"])]
    assert (data["on_rings"] == 1).all()
    assert data["rewarded"].between(0.48, 0.52).all()

    # The mixture's panels, counted once more: the same states, all components and the ten.
    run = load(results, "lom", "rings", seed=1)
    x = rings.data(run, rows(results, "lom", seed=1)["sha256"].item())[:, 0]
    states = np.random.default_rng(0).choice(x, figure5.SAMPLES)
    for panel, best in (("e", None), ("j", 10)):
        expected = rings.shares(rings.sample(run, states, best))
        row = models[(models["panel"] == panel) & (models["seed"] == 1)].iloc[0]
        assert row["on_rings"] == pytest.approx(expected.on_rings, abs=1e-6)
        assert row["rewarded"] == pytest.approx(expected.rewarded, abs=1e-6)


def test_the_same_results_give_the_same_bytes(
    results: Results, drawn: Path, tmp_path: Path
) -> None:
    written = figure5.write(results, tmp_path)
    assert {path.name for path in written.files} == {f"figure5.{end}" for end in ENDINGS}
    assert written.problems == []
    for path in written.files:
        assert path.read_bytes() == (drawn / path.name).read_bytes(), path.name


def test_the_data_are_all_points_of_the_file(results: Results, folder: Path) -> None:
    with h5py.File(folder.parent / "rings.hdf5") as file:
        expected = np.stack((file["observations"][:, 0], 1.6 * file["actions"][:, 0]), -1)
    record = rows(results, "wcvae").iloc[0]
    points = rings.data(load(results, "wcvae"), record["sha256"])
    assert points == pytest.approx(expected)
    assert len(points) == 5000


def test_other_data_than_the_runs_were_trained_on_are_refused(results: Results) -> None:
    with pytest.raises(DataError, match=r"rings.hdf5 is not what wcvae_rings_.* was trained on"):
        rings.data(load(results, "wcvae"), "0" * 64)


def test_a_mixture_of_too_few_components_is_refused(results: Results) -> None:
    with pytest.raises(ConfigError, match=r"lom_rings_.*: M=20 leaves none out of the 20 "):
        rings.sample(load(results, "lom"), np.zeros(3), best=20)


def test_an_algorithm_that_cannot_be_drawn_from_is_named(tmp_path: Path) -> None:
    train(tmp_path, [spec(tmp_path, "td3", "rings")])
    [path] = (tmp_path / "results" / "runs").iterdir()
    with pytest.raises(ConfigError, match=r"td3_rings_.*all that td3 has learned .* lom$"):
        rings.sample(trained.load(path), np.zeros(3))


def without(results: Results, unwanted: Callable[[pd.DataFrame], pd.Series]) -> Results:
    return results._replace(runs=results.runs[~unwanted(results.runs)])


def test_missing_runs_are_named_with_the_command_that_trains_them(results: Results) -> None:
    partial = without(results, lambda r: (r["label"] == "wcgan") & (r["env"] == "rings"))
    with pytest.raises(AnalysisError) as caught:
        figure5.select(partial, 0)
    assert "no finished run, with seed 0, of wcgan on rings (" in str(caught.value)
    assert str(caught.value).endswith("python launch.py -m experiment=figure5 seed=0")
    with pytest.raises(AnalysisError, match=r"seed 5, of onestep on .*\(seeds of .*: 0, 1\)"):
        figure5.select(results, 5)


def test_an_unfinished_run_is_missed_where_it_is_of_the_seed_to_draw(results: Results) -> None:
    changed = results.runs.copy()
    [position] = rows(results, "lom", seed=1).index
    changed.loc[position, "status"] = "running"
    running = results._replace(runs=changed)
    with pytest.raises(AnalysisError, match=r"with seed 1, of lom on rings \("):
        figure5.select(running, 1)
    kept = figure5.select(running, 0)
    assert rows(kept, "lom", seed=1).empty
    assert len(kept.runs) == len(results.runs) - 1


def test_two_runs_of_one_panel_and_seed_are_named(results: Results) -> None:
    second = rows(results, "wcvae").assign(run="another", settings="algo.kl_weight=0.1")
    doubled = results._replace(runs=pd.concat([results.runs, second]))
    with pytest.raises(AnalysisError, match=r"which of these .*\n  another \(algo.kl_weight=0.1"):
        figure5.select(doubled, 0)


def test_runs_of_one_row_on_different_data_are_refused(results: Results) -> None:
    changed = results.runs.copy()
    changed.loc[rows(results, "wcvae").index, "sha256"] = "12" * 32
    with pytest.raises(AnalysisError, match=r"the runs on rings were trained on different data"):
        figure5.select(results._replace(runs=changed), 0)


def test_only_problems_of_the_figures_own_runs_are_told(results: Results) -> None:
    own = Problem(rows(results, "lom")["run"].item(), "a line of metrics.jsonl is cut")
    told = results._replace(problems=[own, Problem("bc_hopper_0000", "unreadable")])
    assert figure5.select(told, 0).problems == [own]


def test_the_command_says_what_is_wrong_in_a_sentence(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert figure5.main([str(folder), "--out", str(tmp_path), "--seed", "3"]) == 1
    assert "error: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("algo", "updates"),
    [("onestep", 10_000), ("wcvae", 50_000), ("wcgan", 50_000), ("lom", 10_000)],
)
def test_the_papers_lengths_are_five_times_the_experiments_and_one_override_away(
    algo: str, updates: int
) -> None:
    experiment = ["experiment=figure5", f"algo={algo}", "env=rings"]
    short, full = (configuration.compose([*experiment, *more]) for more in ([], ["budget=toy"]))
    assert full.updates == dict.fromkeys(short.updates, updates)
    assert full.updates == {phase: 5 * count for phase, count in short.updates.items()}
    assert full.config == short.config
    assert full.config.hidden_sizes == (64, 64)
