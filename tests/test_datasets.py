"""What rows become: transitions, their scale, and the record; known numbers by hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from dataset_files import NAME, RAW, TWO_TIMED_OUT, env, own_home, recorded, write  # noqa: F401
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from lom_exp.datasets import EnvConfig, Preprocessing, fingerprint, load
from lom_exp.datasets.rows import read_rows
from lom_exp.datasets.transitions import build
from lom_exp.errors import DataError

CONF = Path(__file__).parents[1] / "conf" / "env"
pytestmark = pytest.mark.usefixtures("own_home")


def prepared(arrays: dict[str, np.ndarray], preprocessing: Preprocessing = RAW):
    return build(read_rows(arrays, "rows"), preprocessing, "cpu", "rows")


def rows_of(values: torch.Tensor) -> list[int]:
    """The rows that observations came from."""
    return (values[:, 0] / 10).round().int().tolist()


def test_correct_next_actions_stay_in_their_episode():
    transitions, *_ = prepared(TWO_TIMED_OUT)
    assert rows_of(transitions.observations) == [0, 1, 2, 3, 5, 6, 7, 8]
    assert rows_of(transitions.next_observations) == [1, 2, 3, 4, 6, 7, 8, 9]
    assert (transitions.next_actions[:, 0] * 100).round().int().tolist() == [1, 2, 3, 4, 6, 7, 8, 9]
    assert transitions.terminations.sum() == 0


def test_legacy_next_actions_cross_into_the_next_episode_and_end_in_zeros():
    transitions, *_ = prepared(TWO_TIMED_OUT, Preprocessing("none", "legacy"))
    assert rows_of(transitions.next_observations) == [1, 2, 3, 4, 6, 7, 8, 9]
    assert (transitions.next_actions[:, 0] * 100).round().int().tolist() == [1, 2, 3, 5, 6, 7, 8, 0]


def test_a_true_end_is_kept_and_a_row_with_both_ends_is_not():
    arrays = recorded([0, 1, 0, 1, 0, 0], [0, 0, 0, 1, 0, 0])
    transitions, _, _, record = prepared(arrays)
    assert rows_of(transitions.observations) == [0, 1, 2, 4]
    assert transitions.terminations.tolist() == [0, 1, 0, 0]
    assert (record["episodes"], record["terminations"], record["timeouts"]) == (2, 2, 1)
    assert record["unfinished_rows"] == 2


def test_the_observation_after_a_true_end_is_the_stored_one_where_there_is_one():
    ends, timeouts = [0, 1, 0, 1, 0, 1], [0, 0, 0, 1, 0, 0]
    stored, *_ = prepared(recorded(ends, timeouts, with_next=True))
    assert stored.next_observations[:, 0].tolist() == [10, -1, 30, 50]
    derived, *_ = prepared(recorded(ends, timeouts))
    assert derived.next_observations[:, 0].tolist() == [10, 20, 30, 50]


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=40), st.booleans())
def test_transitions_are_those_of_a_plain_loop_over_the_rows(flags, legacy):
    arrays = recorded([t for t, _ in flags], [u for _, u in flags])
    kept = [i for i in range(len(flags) - 1) if not flags[i][1]]
    if not kept:
        with pytest.raises(DataError, match="usable transition"):
            prepared(arrays)
        return
    transitions, _, _, record = prepared(
        arrays, Preprocessing("none", "legacy" if legacy else "correct")
    )
    assert rows_of(transitions.observations) == kept
    assert rows_of(transitions.next_observations) == [i + 1 for i in kept]
    assert transitions.rewards.tolist() == kept
    assert transitions.terminations.tolist() == [float(flags[i][0]) for i in kept]
    following = [*kept[1:], 0] if legacy else [i + 1 for i in kept]
    assert (transitions.next_actions[:, 0] * 100).round().int().tolist() == following
    returns, total = [], 0
    for i, (terminal, timeout) in enumerate(flags):
        total += i
        if terminal or timeout:
            returns.append(total)
            total = 0
    assert record["episodes"] == len(returns)
    assert record["mean_episode_return"] == (pytest.approx(np.mean(returns)) if returns else None)
    assert record["transitions"] == len(kept)


def test_scalers_have_their_standard_deviations():
    arrays = recorded([0] * 5, [0] * 5)
    arrays["observations"][:, 0] = [1, 3, 1, 3, 1e6]  # the last row is not kept: no part in it
    arrays["observations"][:, 1] = 7
    for scaler, std, constant_std in (
        ("none", 1, 1),
        ("standard", 1 + 1e-3, 1),
        ("noisy_standard", np.sqrt(1 + 0.05**2), 0.05),
    ):
        _, normalizer, _, record = prepared(arrays, Preprocessing(observations=scaler))
        assert normalizer.std.tolist() == pytest.approx([std, constant_std])
        assert normalizer.mean.tolist() == ([0, 0] if scaler == "none" else [2, 7])
        assert (record["observation_mean"], record["observation_std"]) == ([2, 7], [1, 0])


def test_noisy_standard_is_what_fitting_on_noisy_observations_tends_to():
    rng = np.random.default_rng(0)
    arrays = recorded([0] * 200_001, [0] * 200_001)
    arrays["actions"][:] = 0
    arrays["observations"] = rng.normal(3, 0.08, arrays["observations"].shape).astype(np.float32)
    _, normalizer, *_ = prepared(arrays, Preprocessing(observations="noisy_standard"))
    noisy = arrays["observations"][:-1] + 0.05 * rng.normal(size=(200_000, 2))
    assert normalizer.std.tolist() == pytest.approx(noisy.std(axis=0).tolist(), rel=5e-3)


@pytest.mark.parametrize("scaler", ["none", "standard", "noisy_standard"])
def test_one_scale_serves_observations_next_observations_and_the_environment(scaler):
    arrays = recorded([0, 0, 1, 0, 0], [0, 0, 0, 0, 1], with_next=True)
    transitions, normalizer, *_ = prepared(arrays, Preprocessing(observations=scaler))
    raw, *_ = prepared(arrays)
    torch.testing.assert_close(transitions.observations, normalizer(raw.observations))
    torch.testing.assert_close(transitions.next_observations, normalizer(raw.next_observations))


def test_transitions_have_the_default_dtype():
    torch.set_default_dtype(torch.float64)
    try:
        transitions, normalizer, *_ = prepared(TWO_TIMED_OUT, Preprocessing())
    finally:
        torch.set_default_dtype(torch.float32)
    assert {field.dtype for field in (*transitions, *normalizer)} == {torch.float64}
    assert [field.dim() for field in transitions] == [2, 2, 1, 2, 2, 1]


def test_the_source_s_arrays_are_left_as_they_were():
    arrays = recorded([0] * 4, [0] * 4)
    arrays["actions"][0] = 1 + 1e-6
    prepared(arrays, Preprocessing())
    assert arrays["observations"][1].tolist() == [10, 11]
    assert arrays["actions"][0] > 1


def test_actions_beyond_their_bound_by_rounding_are_clipped():
    arrays = recorded([0] * 3, [0] * 3)
    arrays["actions"][:2, 0] = 1 + 1e-6, -1 - 1e-6
    transitions, *_ = prepared(arrays)
    assert transitions.actions[:, 0].tolist() == [1, -1]


def test_columns_and_flags_of_other_types_are_read_as_d4rl_reads_them():
    arrays = recorded([0, 1, 0, 0], [0, 0, 1, 0])
    arrays["rewards"] = arrays["rewards"][:, None].astype(np.float64)
    arrays["terminals"] = arrays["terminals"][:, None].astype(np.uint8)
    transitions, *_ = prepared(arrays)
    assert transitions.rewards.tolist() == [0, 1]
    assert transitions.terminations.tolist() == [0, 1]


def test_the_record_says_what_a_result_must_say_of_its_data(tmp_path):
    arrays = recorded([0, 1, 0, 0, 0], [0, 0, 0, 1, 0])
    path = write(tmp_path / "x.hdf5", arrays, provenance="collected", recipe="by hand")
    dataset = load(env(path=str(path)), Preprocessing(), "cpu")
    assert json.loads(json.dumps(dataset.record)) == {
        "name": "hopper-medium",
        "source": "file",
        "path": str(path),
        "sha256": fingerprint(path),
        "provenance": "collected",
        "recipe": "by hand",
        "rows": 5,
        "transitions": 3,
        "observation_dim": 2,
        "action_dim": 1,
        "episodes": 2,
        "unfinished_rows": 1,
        "terminations": 1,
        "timeouts": 1,
        "mean_episode_return": 3.0,
        "min_episode_return": 1.0,
        "max_episode_return": 5.0,
        "reward_mean": 2.0,
        "reward_min": 0.0,
        "reward_max": 4.0,
        "reward_scale": 1.0,
        "observation_mean": [10.0, 11.0],
        "observation_std": pytest.approx([np.sqrt(200 / 3)] * 2),
    }
    assert len(dataset.transitions.rewards) == 3


def test_reading_needs_no_simulator_configuration_or_tracking_library():
    script = "import sys, lom_exp.datasets; print(*sys.modules)"
    modules = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"hydra", "omegaconf", "mujoco", "gymnasium", "mlflow", "gym", "d4rl"} & set(modules)


def test_a_million_rows_are_read_within_twice_their_memory(tmp_path):
    rows = 1_000_000
    with h5py.File(tmp_path / "million.hdf5", "w") as file:
        block = np.random.default_rng(0).uniform(-1, 1, (rows, 17)).astype(np.float32)
        file.create_dataset("observations", data=block, chunks=(4096, 1))
        file.create_dataset("next_observations", data=block, chunks=(4096, 1))
        file["actions"] = block[:, :6]
        file["rewards"] = block[:, 0]
        file["terminals"] = np.arange(rows) % 700 == 699
        file["timeouts"] = np.arange(rows) % 1000 == 999
    script = textwrap.dedent(
        """
        import sys, torch
        from pathlib import Path
        from lom_exp.datasets.config import Preprocessing
        from lom_exp.datasets.rows import read_hdf5
        from lom_exp.datasets.transitions import build

        def memory(field):
            lines = open("/proc/self/status").read().splitlines()
            return next(1024 * int(l.split()[1]) for l in lines if l.startswith(field))

        torch.set_num_threads(1)
        before = memory("VmRSS")
        rows, _ = read_hdf5(Path(sys.argv[1]))
        transitions, *_ = build(rows, Preprocessing(), "cpu", "x")
        print((memory("VmHWM") - before) / sum(field.nbytes for field in transitions))
        """
    )
    if not Path("/proc/self/status").exists():
        pytest.skip("memory is read from /proc")
    process = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "million.hdf5")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert float(process.stdout) < 2


def returns(*totals: float) -> dict[str, np.ndarray]:
    """Episodes of two steps, the second of which earns the return and times out."""
    arrays = recorded([0] * 2 * len(totals), [0, 1] * len(totals))
    arrays["rewards"] = np.array([x for total in totals for x in (total, 0.0)], np.float32)
    return arrays


def test_rewards_are_scaled_by_the_range_of_returns():
    arrays = returns(-2.0, 3.0, 0.5)
    transitions, *_, record = prepared(arrays, Preprocessing("none", rewards="return_range"))
    assert transitions.rewards.tolist() == pytest.approx([-400, 600, 100])  # 1000 / (3 - -2) = 200
    assert record["reward_scale"] == pytest.approx(200)
    assert record["mean_episode_return"] == pytest.approx(0.5)  # the data's own, unscaled


def test_rewards_are_divided_by_the_greatest_among_the_transitions():
    arrays = returns(-2.0, 4.0, 1.0)
    arrays["rewards"][1] = 100.0  # of a timed-out row, which is no transition
    transitions, *_ = prepared(arrays, Preprocessing("none", rewards="max"))
    assert transitions.rewards.tolist() == [-0.5, 1, 0.25]


@pytest.mark.parametrize(
    ("rewards", "totals", "culprit"),
    [
        ("max", (-1.0, -2.0), "rewards range from -2 to -1"),
        ("max", (0.0, -2.0), "rewards range from -2 to 0"),
        ("max", (1.0, 1.0), "rewards range from 1 to 1"),
        ("return_range", (1.0, 1.0), "no two different returns (least 1.0, greatest 1.0)"),
    ],
)
def test_a_scale_of_rewards_that_does_not_exist_is_refused(rewards, totals, culprit):
    with pytest.raises(DataError, match=r"preprocessing\.rewards=raw") as error:
        prepared(returns(*totals), Preprocessing("none", rewards=rewards))
    assert culprit in str(error.value)


def test_without_a_finished_episode_there_is_no_range_of_returns():
    with pytest.raises(DataError, match="no two different returns"):
        prepared(recorded([0] * 4, [0] * 4), Preprocessing("none", rewards="return_range"))


def test_standardized_actions_come_back():
    arrays = recorded([0] * 6, [0] * 6)  # actions 0 to 0.04 of the five transitions
    transitions, _, scale, _ = prepared(arrays, Preprocessing("none", actions="standard"))
    std = 0.01 * 2**0.5 + 1e-3
    assert transitions.actions[:, 0].tolist() == pytest.approx(
        [(x - 0.02) / std for x in (0, 0.01, 0.02, 0.03, 0.04)], abs=1e-6
    )
    assert transitions.next_actions[:, 0].tolist() == pytest.approx(
        [(x - 0.02) / std for x in (0.01, 0.02, 0.03, 0.04, 0.05)], abs=1e-6
    )
    raw, *_ = prepared(arrays)
    assert torch.allclose(scale.invert(transitions.actions), raw.actions, atol=1e-7)


def test_raw_actions_and_rewards_are_untouched_to_the_bit():
    arrays = recorded([0, 1, 0, 0, 0], [0] * 5)
    transitions, _, scale, record = prepared(arrays)
    assert np.array_equal(transitions.actions, arrays["actions"][:4])
    assert np.array_equal(transitions.rewards, arrays["rewards"][:4])
    assert torch.equal(scale.invert(transitions.actions), transitions.actions)
    assert record["reward_scale"] == 1.0


@pytest.mark.parametrize("scaler", ["standard", "noisy_standard"])
def test_observations_that_are_all_the_same_have_no_scale(scaler):
    arrays = recorded([0] * 5, [0] * 5)
    arrays["observations"][:] = [3.0, -0.1]
    with pytest.raises(DataError, match=r"are all the same.*preprocessing\.observations=none"):
        prepared(arrays, Preprocessing(scaler))
    transitions, *_ = prepared(arrays)
    assert (transitions.observations[:, 0] == 3).all()


def test_a_number_that_never_changes_is_not_blown_up_where_it_does():
    arrays = recorded([0] * 5, [0] * 5)
    arrays["observations"][:, 1] = 0.1
    transitions, normalizer, *_ = prepared(arrays, Preprocessing("standard"))
    assert transitions.observations[:, 1].abs().max() < 1e-6
    assert normalizer(torch.tensor([0.0, 0.35]))[1].item() == pytest.approx(0.25)


def test_every_dataset_of_conf_is_sound_and_has_a_file_of_its_own():
    configs = {}
    for path in sorted(CONF.glob("*.yaml")):
        schema = OmegaConf.structured(EnvConfig)
        OmegaConf.set_readonly(schema, None)
        configs[path.stem] = OmegaConf.to_object(OmegaConf.merge(schema, OmegaConf.load(path)))
        assert configs[path.stem].name == path.stem
    from_d4rl = [config for config in configs.values() if config.source == "file"]
    kinds = ("medium", "medium-replay", "medium-expert", "expert", "full-replay", "random")
    tasks = ("halfcheetah", "hopper", "walker2d")
    assert {config.name for config in from_d4rl} >= {f"{t}-{k}" for t in tasks for k in kinds}
    assert len({config.file for config in from_d4rl}) == len(from_d4rl)
    for config in from_d4rl:
        assert config.file == config.name.replace("-", "_") + "-v2.hdf5"
        assert config.url.endswith(f"/gym_mujoco_v2/{config.file}")
        assert config.environment.lower().startswith(config.name.split("-")[0])
        assert (config.bytes is None) == (config.sha256 is None)
        assert config.sha256 is None or len(config.sha256) == 64


FOLDER = os.environ.get("LOM_DATA_DIR")
FILES = sorted(Path(FOLDER).glob("*.hdf5")) if FOLDER else []
NO_FILES = pytest.param(None, marks=pytest.mark.skip("LOM_DATA_DIR names no folder of HDF5 files"))


@pytest.mark.parametrize("path", FILES or [NO_FILES], ids=lambda path: getattr(path, "name", "-"))
def test_local_files_hold_what_they_say(path):
    transitions, normalizer, _, record = load(env(path=str(path)), Preprocessing(), "cpu")
    with h5py.File(path, "r") as file:
        timeouts, terminals = file["timeouts"][...].reshape(-1), file["terminals"][...].reshape(-1)
    ends = np.flatnonzero(timeouts | terminals)
    assert record["rows"] == len(timeouts)
    assert record["transitions"] == (~timeouts[:-1]).sum() == len(transitions.rewards)
    assert record["episodes"] == len(ends)
    assert record["unfinished_rows"] == len(timeouts) - 1 - ends[-1]
    assert np.diff(ends, prepend=-1).max() <= 1000
    assert transitions.terminations.sum() == (terminals & ~timeouts)[:-1].sum()
    assert transitions.observations.mean(0).abs().max() < 1e-3
    # Within an episode the next row's observation is the stored next observation.
    with h5py.File(path, "r") as file:
        if "next_observations" in file:
            stored = torch.from_numpy(file["next_observations"][...][:-1][~timeouts[:-1]])
            gap = (normalizer(stored) - transitions.next_observations).abs().amax(-1)
            assert gap.max() < 1e-4
