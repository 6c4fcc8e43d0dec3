"""Figures 1, 2 and 4 of LOM: what is drawn is what the runs have learned and evaluation plays.

The runs are toys of a few updates on the data of eight initial states.
"""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from result_folders import ResultsFolder

from analysis import runs
from analysis.folders import AnalysisError
from analysis.policies import actions, figure1, figure2, figure4, planes, reach, selection
from analysis.policies.actions import Mixture
from lom_exp import configuration, datasets, experiment, trained
from lom_exp.algorithms import lom
from lom_exp.datasets import generation
from lom_exp.envs.fetch import QUADRANTS
from lom_exp.errors import ConfigError, DataError
from lom_exp.evaluation import episode_seeds
from lom_exp.mixtures import mixture
from lom_exp.random import Rng
from lom_exp.runspec import ExecutionConfig, Sweep, TrackingConfig
from lom_exp.trained import TrainedRun
from lom_exp.types import Transitions

STATES, EPISODES = 8, 3
SMALL = [
    *("env=fetch-reach", f"env.num_trajectories={4 * STATES}", "network=toy"),
    *(
        "updates.policy=12",
        "evaluation.every=100",
        "evaluation.episodes=1",
        f"evaluation.final_episodes={EPISODES}",
    ),
]
LOM = ["algo=lom", "updates.behavior=12", "algo.hyper_critic_batch_size=64"]
RUNS = {
    "bc": ["algo=bc"],
    "mdn": ["algo=mdn", "M=2"],
    "awac": ["algo=awac"],
    "lom": [*LOM, "M=3"],
    "lom1": [*LOM, "M=1"],
}
SWEEPS = {"policies": ["bc", "mdn", "awac", "lom"], "components": ["lom", "lom1"], "all": [*RUNS]}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A results folder with SWEEPS, of whose data no other test knows."""
    folder = tmp_path_factory.mktemp("results")
    specs = {name: configuration.compose([*SMALL, *overrides]) for name, overrides in RUNS.items()}
    execution = ExecutionConfig(
        device="cpu",
        compile="auto",
        cuda_graphs=True,
        tf32=False,
        share=True,
        threads=1,
        vectorize="auto",
        evaluation_workers=0,
        log_every=100,
        checkpoint_every=300,
        results=str(folder),
        tracking=TrackingConfig(enabled=False, uri=None, experiment="tests"),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOM_DATA_DIR", str(folder))
        env = specs["lom"].env
        generation.generate(env, folder / generation.file_name(env), processes=1)
        for name, members in SWEEPS.items():
            chosen = [specs[member] for member in members]
            for result in experiment.run(chosen, execution, Sweep(name, ["launch.py"], [])):
                assert result.status == "finished"
        yield folder


def sweep(results: Path, name: str) -> runs.Results:
    return runs.load(runs.find(name, results))


def load(results: Path, label: str, M: int | None = None) -> TrainedRun:
    rows = sweep(results, "all").runs
    chosen = rows[(rows["label"] == label) & (rows["M"].isna() if M is None else rows["M"] == M)]
    [folder] = chosen["folder"]
    return trained.load(Path(folder))


@pytest.fixture(scope="module")
def lom_run(results: Path) -> TrainedRun:
    return load(results, "lom", 3)


@pytest.fixture(scope="module")
def scene(lom_run: TrainedRun) -> reach.Scene:
    return reach.scene(lom_run, 0, EPISODES)


def state_of(run: TrainedRun):
    return run.trainer.snapshots()[0].state


def scaled(run: TrainedRun, observation: np.ndarray, results: Path) -> torch.Tensor:
    """The observation as a batch of one, scaled with what record.json says (noisy_standard)."""
    record = json.loads((results / "runs" / run.name / "record.json").read_text())["dataset"]
    mean, std = (np.array(record[f"observation_{name}"]) for name in ("mean", "std"))
    return torch.tensor((observation - mean) / np.sqrt(std**2 + 0.05**2), dtype=torch.float32)[None]


def with_config(run: TrainedRun, **changes: object) -> TrainedRun:
    config = dataclasses.replace(run.spec.config, **changes)
    return dataclasses.replace(run, spec=dataclasses.replace(run.spec, config=config))


def plant(run: TrainedRun, network: str, outputs: list[float]) -> None:
    """Make one network of a run give these outputs, whatever the state."""
    [snapshot] = run.trainer.snapshots()
    changed = getattr(snapshot.state, network)
    *layers, (weight, bias) = changed.params
    last = (torch.zeros_like(weight), torch.tensor(outputs, dtype=bias.dtype))
    state = snapshot.state._replace(**{network: changed._replace(params=[*layers, last])})
    run.trainer.restore([snapshot._replace(state=state)])


MEANS, STDS = [(0.5, -0.5), (-0.4, 0.6), (0.8, 0.1)], [(0.1, 0.2), (0.5, 0.4), (0.01, 0.02)]


@pytest.fixture
def planted(results: Path) -> TrainedRun:
    """A run of LOM with components of MEANS and STDS in dx and dy, of weights 0.3, 0.1 and 0.6."""
    run = load(results, "lom", 3)
    outputs = []
    for mean, std, weight in zip(MEANS, STDS, (0.3, 0.1, 0.6), strict=True):
        outputs += [math.atanh(value) for value in (*mean, 0.0, 0.0)]
        outputs += [math.log(value) for value in (*std, 1.0, 1.0, weight)]
    plant(run, "behavior", outputs)
    return run


# Distributions


def test_samples_have_the_mixtures_moments_and_its_components_their_shares() -> None:
    made = Mixture(np.array([0.3, 0.7]), np.array([[5.0, 0.0], [-5.0, 1.0]]),
                   np.array([[0.1, 1.0], [0.2, 2.0]]))  # fmt: skip
    sampled = made.sample(40_000, np.random.default_rng(0))
    first = sampled[:, 0] > 0
    assert first.mean() == pytest.approx(0.3, abs=0.01)
    for member, component in ((first, 0), (~first, 1)):
        assert sampled[member].mean(0) == pytest.approx(made.means[component], abs=0.05)
        assert sampled[member].std(0) == pytest.approx(made.stds[component], rel=0.03)


def test_one_component_alone_is_sampled_alone() -> None:
    made = Mixture(np.array([0.3, 0.7]), np.array([[5.0], [-5.0]]), np.array([[0.1], [0.2]]))
    sampled = made.only(0).sample(1000, np.random.default_rng(0))
    assert sampled.mean() == pytest.approx(5, abs=0.02)
    assert sampled.std() == pytest.approx(0.1, rel=0.1)


def test_a_gaussian_policy_is_its_mean_which_evaluation_plays_and_its_std(results, scene) -> None:
    for label in ("bc", "awac"):
        run = load(results, label)
        found = actions.distribution(run, scene.observation)
        log_std = state_of(run).policy.params[1]
        assert found.weights.tolist() == [1]
        assert found.means[0].clip(-1, 1) == pytest.approx(actions.played(run, scene.observation))
        assert found.stds[0] == pytest.approx(log_std.exp().numpy())


def test_mdns_distribution_is_its_networks_output(results, scene) -> None:
    run = load(results, "mdn", 2)
    observation = scaled(run, scene.observation, results)
    logits, means, stds = mixture(
        state_of(run).policy.params, observation, torch.ones(2), run.spec.config
    )
    weights = logits.softmax(-1)[0].numpy()
    found = actions.distribution(run, scene.observation)
    assert found.weights == pytest.approx(weights, abs=1e-6)
    sampled = found.sample(40_000, np.random.default_rng(1))
    mean = weights @ means[0].numpy()
    variance = weights @ (stds[0] ** 2 + means[0] ** 2).numpy() - mean**2
    assert sampled.mean(0) == pytest.approx(mean, abs=0.03)
    assert sampled.var(0) == pytest.approx(variance, rel=0.05)


def test_a_policy_that_is_no_mixture_is_refused(lom_run, scene) -> None:
    with pytest.raises(ConfigError, match=r"policy of lom is no Gaussian mixture.*bc, mdn or awac"):
        actions.distribution(lom_run, scene.observation)


@pytest.mark.parametrize(
    ("minimum", "chosen"),
    [(0.0, 1), (0.05, 1), (0.11, 0), (0.35, 2), (0.9, 2)],  # the heaviest is always eligible
)
def test_lom_imitates_the_highest_hyper_q_of_components_heavy_enough(
    planted, scene, minimum: float, chosen: int
) -> None:
    plant(planted, "hyper_critic", [2.0, 3.0, 1.0])
    found = actions.evaluated(with_config(planted, min_component_weight=minimum), scene.observation)
    assert found.mixture.weights == pytest.approx([0.3, 0.1, 0.6])
    assert found.mixture.means[:, :2] == pytest.approx(np.array(MEANS), abs=1e-6)
    assert found.mixture.stds[:, :2] == pytest.approx(np.array(STDS), rel=1e-6)
    assert found.hyper_qs.tolist() == [2, 3, 1]
    assert (found.highest, found.chosen) == (1, chosen)


def test_hyper_qs_are_those_of_the_scaled_state(lom_run, scene, results) -> None:
    observation = scaled(lom_run, scene.observation, results)
    expected = lom.hyper_q(
        state_of(lom_run).hyper_critic.params, observation, torch.ones(3), lom_run.spec.config
    )
    found = actions.evaluated(lom_run, scene.observation)
    assert found.hyper_qs == pytest.approx(expected[0].numpy(), abs=1e-5)
    assert len(set(found.hyper_qs)) == 3


@pytest.mark.parametrize("baseline", ["policy", "component_mean", "hyper_critic"])
def test_imitated_actions_are_weighted_as_in_loms_loss(planted, scene, results, baseline) -> None:
    plant(planted, "hyper_critic", [0.5, -0.5, -0.5])
    settings = {"baseline": baseline, "inverse_temperature": 4.0, "max_weight": 1.2}
    count = 20_000
    planted = with_config(planted, **settings, policy_batch_size=count)
    observation, zero = scaled(planted, scene.observation, results), torch.zeros(1)
    data = Transitions(observation, zero[None], zero, observation, zero[None], zero)
    rng = Rng.of(torch.tensor(0), "policy", torch.tensor(0))
    _, metrics = lom.update_policy(state_of(planted), data, planted.spec.config, rng)

    generator = np.random.default_rng(0)
    found = actions.imitated(planted, scene.observation, count, generator)

    assert found.actions[:, :2].mean(0) == pytest.approx(MEANS[0], abs=0.01)
    assert np.abs(found.actions).max() == 1
    assert found.weights.max() <= 1.2
    assert found.weights.std() > 0.01
    assert found.weights.mean() == pytest.approx(float(metrics["policy/weight"]), abs=0.01)
    saturated = (found.weights >= 1.2 - 1e-9).mean()
    assert saturated == pytest.approx(float(metrics["policy/saturated_share"]), abs=0.02)


@pytest.mark.parametrize(
    ("label", "changes", "culprit"),
    [("bc", {}, "a run of bc"), ("lom", {"component_choice": "heaviest"}, "choice=heaviest")],
)
def test_a_run_without_a_choice_by_hyper_q_is_refused(
    results, scene, label: str, changes: dict[str, str], culprit: str
) -> None:
    run = with_config(load(results, label, 3 if label == "lom" else None), **changes)
    with pytest.raises(ConfigError, match=rf"{run.name}: .*{culprit} .*component_choice=hyper"):
        actions.evaluated(run, scene.observation)


# Episodes and data


@pytest.mark.parametrize("label", ["bc", "mdn"])
def test_the_ways_are_those_of_the_episodes_that_evaluation_plays(results, scene, label) -> None:
    run = load(results, label, 2 if label == "mdn" else None)
    lines = (results / "runs" / run.name / "evaluations.jsonl").read_text().splitlines()
    recorded = json.loads(lines[-1])["returns"]
    same = scene._replace(seeds=episode_seeds(0, run.step, EPISODES))
    played = reach.play(run, same)
    assert played.returns.tolist() == recorded
    # 2 for every step that ends within 5 cm of the first quadrant's goal, 1 of another's.
    distances = np.linalg.norm(played.paths[:, 1:, None] - scene.goals, axis=-1)
    rewards = ((distances < 0.05) * np.array([2, 1, 1, 1])).max(-1)
    assert rewards.sum(-1).tolist() == recorded
    starts = scene.environments.reset(same.seeds)[:, :3]
    assert played.paths[:, 0] == pytest.approx(starts)


def test_an_episode_ends_at_the_goal_where_its_last_step_is_rewarded(lom_run, scene) -> None:
    def act(goal: int) -> Callable[..., np.ndarray]:
        return lambda observations, _: np.concatenate(
            [8 * (scene.goals[goal] - observations[..., :3]), 0 * observations[..., :1]], -1
        ).clip(-1, 1)

    class Expert:
        def __init__(self, goal: int) -> None:
            self.policy = lambda episodes, horizon: act(goal)

    for goal in range(4):
        played = reach.play(Expert(goal), scene)
        assert played.ends.tolist() == [goal] * EPISODES
        assert reach.shares(played.ends) == ((1, 0, 0) if goal == 0 else (0, 1, 0))
    still = Expert(0)
    still.policy = lambda episodes, horizon: lambda observations, _: np.zeros((1, episodes, 4))
    assert reach.play(still, scene).ends.tolist() == [-1] * EPISODES


def test_shares_of_the_best_another_and_no_goal() -> None:
    assert reach.shares(np.array([0, 0, 2, -1, 3, 1, -1, 0])) == (3 / 8, 3 / 8, 2 / 8)


def test_experts_head_for_their_quadrant_and_an_action_is_near_one_once_clipped(scene) -> None:
    assert (np.sign(scene.expert_actions[:, :2]) == QUADRANTS[:, :2]).all()
    assert scene.mode_radius == pytest.approx(0.3)  # three times the noise of the data
    expert = scene.expert_actions[0, :2]
    given = np.zeros((5, 4))
    given[:4, :2] = expert + np.array([(0, 0), (-0.29, 0), (0, -0.31), (1.0, 1.0)])
    given[4, :2] = scene.expert_actions[2, :2] + (0.2, 0.2)
    assert reach.nearest_experts(given, scene).tolist() == [0, 0, -1, 0, 2]


def test_the_scenes_initial_states_are_in_no_evaluation(results, scene) -> None:
    run = load(results, "lom", 3)
    for step in (12, 24):
        assert not set(scene.seeds) & set(episode_seeds(0, step, 1000))
    again = reach.scene(run, 0, EPISODES)
    assert (again.observation == scene.observation).all()
    assert (reach.scene(run, 1, 1).observation != scene.observation).any()


def test_the_datasets_actions_are_the_first_ones_at_the_nearest_initial_states(
    lom_run, scene, monkeypatch
) -> None:
    monkeypatch.setattr(reach, "NEAREST", 2)
    sha256 = datasets.identify(lom_run.spec.env)
    found = reach.demonstrations(lom_run, sha256, scene)
    with h5py.File(datasets.locate(lom_run.spec.env)) as file:
        starts = file["observations"][::200, :3]  # four trajectories of fifty steps a state
        distances = np.sqrt(((starts - scene.observation[:3]) ** 2).sum(-1))
        order = np.argsort(distances)
        expected = [file["actions"][200 * order[0] + 50 * goal] for goal in range(4)]
        ways = file["observations"][200 * order[1] : 200 * order[1] + 50, :3]
        returns = file["rewards"][:].reshape(-1, 50).sum(-1)[4 * order[0] : 4 * order[0] + 4]
    assert found.actions.shape == (8, 4)
    assert (found.actions[:4] == np.array(expected)).all()
    assert (found.episodes.paths[4] == ways).all()
    assert (found.episodes.returns[:4] == returns).all()
    assert found.episodes.ends.tolist() == [0, 1, 2, 3] * 2
    assert found.states == 2
    assert found.distance == pytest.approx(distances[order[1]])


def test_other_data_than_those_of_the_training_are_refused(lom_run, scene) -> None:
    with pytest.raises(DataError, match=rf"is not what {lom_run.name} was trained on .*ab"):
        reach.demonstrations(lom_run, "ab" * 32, scene)


@pytest.mark.parametrize(
    ("call", "env", "culprit"),
    [
        (reach.scene, {"environment": "Rings", "source": "rings"}, "Rings .* no four goals"),
        (reach.demonstrations, {"path": "my.hdf5"}, "env.path=my.hdf5, .* on generated data"),
    ],
)
def test_another_world_or_file_is_refused(lom_run, scene, call, env, culprit) -> None:
    spec = dataclasses.replace(lom_run.spec, env=dataclasses.replace(lom_run.spec.env, **env))
    arguments = (0, 1) if call is reach.scene else ("", scene)
    with pytest.raises(DataError, match=rf"{lom_run.name}.*{culprit}"):
        call(dataclasses.replace(lom_run, spec=spec), *arguments)


# Drawing


def test_contours_are_where_a_density_has_fallen_as_at_one_and_two_stds() -> None:
    made = Mixture(np.array([0.2, 0.8]), np.array([[0.5, -0.5, 9.0], [0.0, 0.3, 9.0]]),
                   np.array([[0.1, 0.4, 9.0], [0.3, 0.2, 9.0]]))  # fmt: skip
    axes = Figure().subplots()
    planes.contours(axes, made, planes.LEARNED)
    assert len(axes.patches) == 4
    for index, patch in enumerate(axes.patches):
        mean, std = made.means[index // 2, :2], made.stds[index // 2, :2]
        border = patch.get_patch_transform().transform(
            patch.get_path().interpolated(1).vertices[::3]
        )
        exponents = (((border - mean) / std) ** 2).sum(-1) / 2
        assert exponents == pytest.approx([0.5, 2.0][index % 2], rel=0.01)  # of splines
    for style in ("linewidth", "alpha"):  # bolder the heavier
        values = [getattr(patch, f"get_{style}")() for patch in axes.patches]
        assert values[0] == values[1] < values[2] == values[3]


FIGURES = {figure1: "policies", figure2: "policies", figure4: "components"}  # of which sweep


@pytest.fixture(scope="module")
def written(results: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of all figures, of fewer samples and episodes than usual."""
    out = tmp_path_factory.mktemp("figures")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figure2, "EPISODES", EPISODES)
        for figure, name in FIGURES.items():
            patch.setattr(figure, "SAMPLES", 100)
            figure.write(sweep(results, name), out)
        yield out


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.__name__.split(".")[-1])
def test_the_command_writes_the_same_files_beside_the_sweep(
    results, written, figure: ModuleType, capsys
) -> None:
    assert figure.main([FIGURES[figure], "--results", str(results)]) == 0
    said = capsys.readouterr().out
    for ending in ("png", "pdf", "csv"):
        name = f"{figure.__name__.split('.')[-1]}.{ending}"
        path = results / "sweeps" / FIGURES[figure] / name
        assert path.read_bytes() == (written / name).read_bytes()
        assert f"written: {path}" in said


def test_figure_2_writes_the_numbers_of_each_panel(lom_run, scene, written) -> None:
    numbers = pd.read_csv(written / "figure2.csv").set_index("method")
    assert numbers.index.tolist() == ["dataset", "bc", "mdn", "awac", "lom"]
    assert numbers["samples"].tolist() == [4 * STATES, 100, 100, 100, 100]
    assert numbers["episodes"].tolist() == [4 * STATES, *[EPISODES] * 4]
    assert numbers.loc["dataset", "end_at_best_goal"] == 0.25
    kinds = ("best", "other", "no")
    for columns in ([f"near_{kind}_expert" for kind in kinds],
                    [f"end_at_{kind}_goal" for kind in kinds]):  # fmt: skip
        assert numbers[columns].sum(axis=1).to_numpy() == pytest.approx(1, abs=2e-6)
    # LOM's samples are of the component it imitates, what it plays is its policy's own.
    found = actions.evaluated(lom_run, scene.observation)
    sampled = found.mixture.only(found.chosen).sample(100, np.random.default_rng(0))
    played = actions.played(lom_run, scene.observation)
    for axis, name in enumerate(("dx", "dy")):
        drawn = numbers.loc["lom", [f"mean_{name}", f"std_{name}", f"played_{name}"]].tolist()
        expected = [sampled[:, axis].mean(), sampled[:, axis].std(), played[axis]]
        assert drawn == pytest.approx(expected, abs=1e-5)
    assert math.isnan(numbers.loc["mdn", "played_dx"])  # drawn anew at each step


def test_figure_4_writes_every_component_of_every_M(lom_run, scene, written) -> None:
    numbers = pd.read_csv(written / "figure4.csv")
    assert numbers[["M", "component"]].to_numpy().tolist() == [[1, 1], [3, 1], [3, 2], [3, 3]]
    found = actions.evaluated(lom_run, scene.observation)
    of_three = numbers[numbers["M"] == 3]
    assert of_three["weight"].tolist() == pytest.approx(found.mixture.weights, abs=1e-5)
    assert of_three["mean_dy"].tolist() == pytest.approx(found.mixture.means[:, 1], abs=1e-5)
    assert of_three["hyper_q"].tolist() == pytest.approx(found.hyper_qs, abs=1e-5)
    assert np.flatnonzero(of_three["chosen"]).tolist() == [found.chosen]


def test_figure_1_writes_what_hyper_q_estimates_and_what_is_imitated(written) -> None:
    numbers = pd.read_csv(written / "figure1.csv")
    assert len(numbers) == 3
    assert numbers["chosen"].sum() == 1
    assert numbers["imitated_dx"].notna().tolist() == numbers["chosen"].tolist()
    assert (numbers["sampled_q_std"] > 0).all()


def test_pictures_are_small(written) -> None:
    for path in written.glob("*.png"):
        with Image.open(path) as picture:
            assert picture.mode == "P"
        assert path.stat().st_size < 300_000


def test_a_caption_says_which_data_and_which_runs(results, tmp_path) -> None:
    found = selection.select(sweep(results, "all"), ["lom"], 0, "")
    loaded = list(selection.load_each(found, "M").values())
    loaded = [with_config(run, tau=0.01) for run in loaded]
    [said] = selection.described(found, loaded)
    assert said.startswith("Data: fetch-reach, 32 trajectories (generated data, not D4RL). Runs of")
    assert "Runs of all, seed 0: lom (M=1, 3; " in said
    assert " tau=0.01, " in said
    assert "discount" not in said  # is the default's
    assert said.endswith(") 12 behavior + 12 policy updates.")
    young = [dataclasses.replace(loaded[0], step=15)]
    assert "12 policy, of which 15 are done, updates." in selection.described(found, young)[0]


# What cannot be drawn


def test_methods_a_sweep_lacks_are_named_with_the_command_that_trains_them(results, tmp_path):
    with pytest.raises(AnalysisError, match=r"no run of bc, mdn, awac on fetch-reach with seed 0 "):
        figure2.write(sweep(results, "components"), tmp_path)
    with pytest.raises(AnalysisError) as told:
        figure2.write(sweep(results, "policies"), tmp_path, seed=3)
    assert "(there: awac on fetch-reach with seed 0; bc on fetch-reach" in str(told.value)
    assert str(told.value).endswith("python launch.py -m experiment=figure2 seed=3")
    with pytest.raises(AnalysisError, match=r"no run of lom .* M=7 .*algo=lom seed=0 M=7"):
        figure1.write(sweep(results, "policies"), tmp_path, M=7)


def test_runs_on_another_task_are_not_drawn(tmp_path) -> None:
    made = ResultsFolder(tmp_path / "results")
    made.add(4, 0, [[1.0]], env="fetch-push")
    with pytest.raises(AnalysisError, match=r"no run of lom on fetch-reach .*lom on fetch-push"):
        figure4.write(runs.load(made.path), tmp_path)


def test_runs_on_different_data_are_not_compared(tmp_path) -> None:
    made = ResultsFolder(tmp_path / "results")
    for M, sha256 in ((1, "ab" * 32), (4, "cd" * 32)):
        made.add(M, 0, [[1.0]], env="fetch-reach", sha256=sha256)
    with pytest.raises(AnalysisError, match=r"(?s)different data.*M1.* abab.*M4.* cdcd"):
        figure4.write(runs.load(made.path), tmp_path)


def test_of_two_runs_that_fit_none_is_taken_until_one_is_chosen(results, tmp_path) -> None:
    with pytest.raises(AnalysisError, match=r"which of these .* --M, or .*\n  lom_.*M1.*\n  lom_"):
        figure1.write(sweep(results, "components"), tmp_path)
    selected = selection.select(sweep(results, "components"), ["lom"], 0, "", M=1)
    assert selection.load_each(selected, "label")["lom"].spec.M == 1


def test_an_unfinished_run_is_said_to_be_one(results, tmp_path) -> None:
    found = sweep(results, "components")
    problem = runs.Problem(found.runs["run"][0], "running at policy update 7 of 12")
    other = runs.Problem("some_other_run", "running")
    selected = selection.select(found._replace(problems=[problem, other]), ["lom"], 0, "")
    assert selected.problems == [problem]
    loaded = list(selection.load_each(selected, "M").values())
    assert selection.described(selected, loaded)[1].startswith("INCOMPLETE: 1 of 2 runs")


def test_a_run_without_a_checkpoint_ends_the_command_with_the_reason(
    results, tmp_path, capsys
) -> None:
    copied = shutil.copytree(results, tmp_path / "results")
    [folder] = (copied / "runs").glob("lom_fetch-reach_M3_*")
    shutil.rmtree(folder / "checkpoints")
    arguments = ["policies", "--results", str(copied), "--out", str(tmp_path / "out")]
    assert figure1.main(arguments) == 1
    assert "error:" in (said := capsys.readouterr().err)
    assert f"{folder} has no intact checkpoint; its status is finished" in said.replace("\n", " ")
    assert list((tmp_path / "out").iterdir()) == []
