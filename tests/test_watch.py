"""Watching a trained run: what is played is what was evaluated, and what is drawn shows it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml
from PIL import Image

from lom_exp import configuration, envs, experiment, trained, watch
from lom_exp.errors import CheckpointError, ConfigError, DataError
from lom_exp.runspec import ExecutionConfig, Sweep, TrackingConfig

ROOT = Path(__file__).parent.parent
SMALL = [
    *("env=hopper-medium-replay", "network=toy", "seed=3"),
    *("evaluation.every=4", "evaluation.episodes=2", "evaluation.final_episodes=5"),
]


def run_program(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)


@pytest.fixture(scope="module")
def egl() -> None:
    """For tests that draw; asked in a process of its own, as mujoco chooses when it is imported."""
    program = "from lom_exp.envs import rendering; rendering.prepare()"
    found = run_program("-c", program, MUJOCO_GL="egl")
    if found.returncode:
        pytest.skip(found.stderr.strip().splitlines()[-1])


def write_data(path: Path) -> Path:
    """Sixty episodes of twenty random steps each, of Hopper's sizes; no mean is 0, no scale 1."""
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        file["observations"] = (0.5 + 2 * rng.normal(size=(1200, 11))).astype(np.float32)
        file["actions"] = (0.2 + 0.3 * rng.uniform(-1, 1, (1200, 3))).astype(np.float32)
        file["rewards"] = rng.uniform(size=1200).astype(np.float32)
        file["terminals"] = np.arange(1200) % 20 == 19
        file["timeouts"] = np.zeros(1200, bool)
    return path


def train(folder: Path, *overrides: str) -> Path:
    """A run's folder; its policy was evaluated, and kept, after 4 and 8 updates."""
    small = [*SMALL, f"env.path={write_data(folder / 'data.hdf5')}", *overrides]
    *earlier, last = configuration.compose(small).updates
    lengths = [*(f"updates.{phase}=3" for phase in earlier), f"updates.{last}=8"]
    spec = configuration.compose([*small, *lengths])
    execution = ExecutionConfig(
        device="cpu",
        compile="auto",
        cuda_graphs=True,
        tf32=False,
        share=True,
        threads=1,
        vectorize="auto",
        evaluation_workers=0,
        log_every=4,
        checkpoint_every=1e-9,  # at every chance
        results=str(folder / "results"),
        tracking=TrackingConfig(enabled=False, uri=None, experiment="tests"),
    )
    [result] = experiment.run([spec], execution, Sweep("sweep", ["launch.py"], []))
    assert result.status == "finished"
    return result.folder


@pytest.fixture(scope="module")
def lom_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("lom"), "algo=lom", "M=2")


@pytest.fixture
def copy_of_run(lom_run: Path, tmp_path: Path) -> Path:
    """A run's folder to be spoiled."""
    return shutil.copytree(lom_run, tmp_path / lom_run.name)


def evaluations(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "evaluations.jsonl").read_text().splitlines()]


def played(folder: Path, count: int) -> list[float]:
    run = trained.load(folder)
    environments = envs.make("Hopper-v4", count)
    seeds = watch.default_seeds(run, count)
    returns: list[float] = watch.play(run, environments, seeds).returns[0].tolist()
    return returns


# MDN draws its actions, LAPO wants standardized ones, WCGAN has running statistics.
@pytest.mark.parametrize(
    "overrides",
    [("algo=lom", "dtype=float64"), ("algo=mdn",), ("algo=lapo",), ("algo=wcgan",)],
    ids=" ".join,
)
def test_the_episodes_are_those_of_the_runs_own_evaluation_to_the_bit(
    overrides: tuple[str, ...], tmp_path: Path
) -> None:
    folder = train(tmp_path, *overrides)
    final = evaluations(folder)[-1]
    assert final["final"]
    assert played(folder, 3) == final["returns"][:3]
    assert played(folder, 5) == final["returns"]


def test_an_older_checkpoint_plays_what_was_evaluated_then(copy_of_run: Path) -> None:
    newest = max((copy_of_run / "checkpoints").glob("*.pt"))
    newest.unlink()
    [then] = [entry for entry in evaluations(copy_of_run) if entry["update"] == 4]
    assert trained.load(copy_of_run).step == then["step"] == 7
    assert played(copy_of_run, 2) == then["returns"]
    assert played(copy_of_run, 2) != evaluations(copy_of_run)[-1]["returns"][:2]


def test_a_damaged_checkpoint_is_passed_over(
    copy_of_run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    newest = max((copy_of_run / "checkpoints").glob("*.pt"))
    newest.write_bytes(newest.read_bytes()[:-1000])
    assert trained.load(copy_of_run).step == 7
    assert f"{newest} is damaged" in caplog.text


def test_no_data_are_needed_where_record_and_config_say_all(copy_of_run: Path) -> None:
    path = copy_of_run / "config.yaml"
    config = yaml.safe_load(path.read_text())
    config["env"]["path"] = "gone.hdf5"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    assert played(copy_of_run, 2) == evaluations(copy_of_run)[-1]["returns"][:2]


def test_the_scale_of_actions_is_not_taken_from_other_data(tmp_path: Path) -> None:
    folder = train(tmp_path, "algo=lapo")
    with h5py.File(tmp_path / "data.hdf5", "r+") as file:
        file["actions"][0] = 0.9
    with pytest.raises(
        DataError, match=r"hopper-medium-replay are not those .*bring the file back"
    ):
        trained.load(folder)


def test_a_folder_without_a_run_is_named_beside_the_nearest_that_has_one(lom_run: Path) -> None:
    wrong = lom_run.with_name(lom_run.name[:-1])
    with pytest.raises(ConfigError, match=rf"{wrong} is no run's folder.*{lom_run}\?"):
        trained.load(wrong)


def test_a_run_without_a_checkpoint_says_when_there_will_be_one(copy_of_run: Path) -> None:
    for path in (copy_of_run / "checkpoints").glob("*.pt"):
        path.unlink()
    with pytest.raises(CheckpointError, match=r"no intact checkpoint.*checkpoint_every seconds"):
        trained.load(copy_of_run)


@pytest.mark.parametrize(
    "change",
    [
        lambda config: config["algo"].update(num_heads=4),
        lambda config: config.update(algorithm="lomm"),
        lambda config: config.pop("evaluation"),
        lambda config: config["algo"].update(tau=-1.0),
    ],
)
def test_a_config_of_another_version_of_the_code_names_the_commit(
    copy_of_run: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    path = copy_of_run / "config.yaml"
    config = yaml.safe_load(path.read_text())
    change(config)
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    with pytest.raises(ConfigError, match=r"config\.yaml was written by another version.*commit"):
        trained.load(copy_of_run)


@pytest.mark.parametrize(
    ("arguments", "culprit"),
    [
        (["--episodes", "0"], "'0' is no number from 1 to 100"),
        (["--episodes", "two"], "'two' is no number"),
        (["--seed", "-1"], "'-1' is no number of at least 0"),
        (["--size", "100x100"], "'100x100' is no size from 240x240"),
        (["--size", "big"], "'big' is no size"),
        (["--speed", "0"], "'0' is no number from 0.01"),
        (["--speed", "nan"], "'nan' is no number from 0.01"),
        (["--output", "film.mp4"], "--output film.mp4 must end in .gif"),
        (["--output", "no/such/film.gif"], "there is no folder no/such"),
    ],
)
def test_a_wrong_use_names_the_culprit(
    lom_run: Path, arguments: list[str], culprit: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        watch.main([str(lom_run), *arguments])
    assert ended.value.code == 2
    assert culprit in capsys.readouterr().err


def test_film_and_contact_sheet_are_drawn_and_the_returns_said(egl: None, lom_run: Path) -> None:
    result = run_program("-m", "lom_exp.watch", str(lom_run), "--episodes=2", "--speed=0.5")
    assert result.returncode == 0, result.stderr
    final = evaluations(lom_run)[-1]
    said = [float(value) for value in re.findall(r"seed \d+ +return (\S+) +score", result.stdout)]
    assert said == pytest.approx(final["returns"][:2], abs=1e-6)

    longest = max(final["lengths"][:2])
    with Image.open(lom_run / "watch.gif") as film:
        durations = []
        for frame in range(film.n_frames):
            film.seek(frame)
            durations.append(film.info["duration"])  # ms
        assert film.size == (2 * (320 + 8) + 8, 240 + 20 + 8 + 20 + 8)
    # Hopper's step is 8 ms, shown at half its speed; the last frame stays for a second more.
    assert sum(durations) == pytest.approx(16 * longest + 1000, rel=0.15)
    with Image.open(lom_run / "watch.png") as sheet:
        pixels = np.asarray(sheet.convert("RGB"))
    first, last = pixels[84:324, 214:534], pixels[84:324, -344:-24]
    assert first.std() > 10
    assert (first != last).any()


DRAW = """
import json, sys
import numpy as np
from lom_exp.envs import ENVIRONMENTS, make, rendering
from lom_exp.errors import SimulationError

rendering.prepare()
drawn = {}
for name in ENVIRONMENTS:
    environments, undrawn = make(name, 2), make(name, 2)
    starts = environments.reset([1, 2]), undrawn.reset([1, 2])
    try:
        camera = rendering.Camera(environments, 320, 240)
    except SimulationError as error:
        drawn[name] = str(error)
        continue
    states, second = [camera.state(0)], camera.state(1)
    actions = np.full((2, environments.action_dim), 0.5, np.float32)
    same = True
    for _ in range(5):
        stepped = [each.step(np.arange(2), actions) for each in (environments, undrawn)]
        states.append(camera.state(0))
        camera.draw(states[0])
        same &= all(np.array_equal(*pair) for pair in zip(*stepped, strict=True))
    pictures = [camera.draw(state) for state in states]
    traced = camera.draw(states[-1], [np.array([1.2, 0.7, 0.55]), np.array([1.4, 0.8, 0.55])])
    camera.close()
    drawn[name] = {
        "shape": pictures[0].shape,
        "contrast": float(pictures[0].std()),
        "moves": int((pictures[0] != pictures[-1]).any(-1).sum()),
        "others": int((states[0] != second).sum()),
        "trace": int((traced != pictures[-1]).any(-1).sum()),
        "untouched": bool(same),
    }
print(json.dumps(drawn))
"""


def test_every_environment_of_a_simulator_has_a_picture_and_drawing_changes_nothing(
    egl: None,
) -> None:
    result = run_program("-c", DRAW)
    assert result.returncode == 0, result.stderr
    drawn = json.loads(result.stdout.splitlines()[-1])
    without = {name for name, found in drawn.items() if isinstance(found, str)}
    assert without <= {"Rings"}
    assert all("Rings has no renderer" in drawn[name] for name in without)
    assert {"Hopper-v4", "Walker2d-v4", "HalfCheetah-v4", "FetchReachFourGoals"} <= drawn.keys()
    for name in drawn.keys() - without:
        found = drawn[name]
        assert found["shape"] == [240, 320, 3]
        assert found["contrast"] > 10
        assert found["moves"] > 300, name
        assert found["others"] > 0
        assert found["untouched"]
        assert (found["trace"] > 50) == name.startswith("Fetch")


def test_without_egl_the_reason_and_the_packages_are_named(lom_run: Path) -> None:
    result = run_program("-m", "lom_exp.watch", str(lom_run), MUJOCO_EGL_DEVICE_ID="99")
    assert result.returncode == 2
    assert "libegl1 libegl-mesa0 libgl1-mesa-dri" in result.stderr
    assert "Training and evaluation do not need it" in result.stderr
    assert "Traceback" not in result.stderr
