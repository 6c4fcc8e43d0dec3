"""The d4rl package: as a source of data (a stand-in for a legacy installation), and as the oracle
of our addresses, reference returns and row sets where it is installed (`make d4rl`)."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from dataset_files import TWO_TIMED_OUT, env, own_home, recorded, write  # noqa: F401
from omegaconf import OmegaConf

from lom_exp.datasets import Preprocessing, fingerprint, load
from lom_exp.datasets.rows import read_rows
from lom_exp.datasets.transitions import build
from lom_exp.errors import DataError

pytestmark = pytest.mark.usefixtures("own_home")

# A legacy installation, reduced to what is asked of it: importing d4rl registers environments with
# gym, which read their dataset from a file.
GYM = """
    registry = {}

    def make(name):
        if name not in registry:
            raise LookupError(f"Environment {name} doesn't exist.")
        return registry[name]()
    """
D4RL = """
    import os
    import gym, h5py

    class Environment:
        dataset_filepath = os.environ["STAND_IN_FILE"]

        def get_dataset(self, h5path=None):
            with h5py.File(h5path or self.dataset_filepath) as file:
                return {name: array[...] for name, array in file.items()}

    gym.registry["hopper-medium-v2"] = Environment
    """


@pytest.fixture
def legacy(tmp_path, monkeypatch):
    """The stand-in on the path; gives the file that it reads."""
    for name, text in (("gym", GYM), ("d4rl", D4RL)):
        (tmp_path / "legacy" / name).mkdir(parents=True)
        (tmp_path / "legacy" / name / "__init__.py").write_text(textwrap.dedent(text))
        for loaded in [module for module in sys.modules if module.partition(".")[0] == name]:
            monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.syspath_prepend(tmp_path / "legacy")
    file = write(tmp_path / "downloaded.hdf5", TWO_TIMED_OUT)
    monkeypatch.setenv("STAND_IN_FILE", str(file))
    yield file
    for name in ("gym", "d4rl"):
        sys.modules.pop(name, None)


def test_what_the_package_hands_out_is_what_its_file_holds(legacy):
    ours = load(env(path=str(legacy)), Preprocessing(), "cpu")
    theirs = load(env(source="d4rl_package"), Preprocessing(), "cpu")
    for expected, actual in zip(ours.transitions, theirs.transitions, strict=True):
        assert expected.equal(actual)
    assert theirs.record == {**ours.record, "source": "d4rl_package"}


def test_the_package_s_word_does_not_make_data_d4rl_s(legacy):
    known = fingerprint(legacy)
    for sha256, provenance in ((None, "unknown"), ("0" * 64, "unknown"), (known, "d4rl")):
        dataset = load(env(source="d4rl_package", sha256=sha256), Preprocessing(), "cpu")
        assert dataset.record["provenance"] == provenance


def test_an_explicit_path_is_handed_to_the_package(legacy, tmp_path):
    mine = write(tmp_path / "mine.hdf5", recorded([0] * 4, [0] * 4))
    dataset = load(env(source="d4rl_package", path=str(mine)), Preprocessing(), "cpu")
    assert (dataset.record["path"], dataset.record["rows"]) == (str(mine), 4)


def test_the_package_s_arrays_are_checked_like_a_file_s(legacy):
    write(legacy, {**TWO_TIMED_OUT, "rewards": np.full(10, np.nan)})
    with pytest.raises(DataError, match="hopper-medium-v2 of the d4rl package: rewards is nan"):
        load(env(source="d4rl_package"), Preprocessing(), "cpu")


def test_a_dataset_that_the_package_does_not_know_is_an_error(legacy):
    with pytest.raises(DataError, match=r"cannot provide hopper-mild-v2 .*doesn't exist"):
        load(env(source="d4rl_package", name="hopper-mild"), Preprocessing(), "cpu")


def test_a_package_that_does_not_work_names_the_other_source(legacy, tmp_path):
    broken = 'raise Exception("\\nYou appear to be missing MuJoCo.\\n")'  # as mujoco-py does
    (tmp_path / "legacy" / "d4rl" / "__init__.py").write_text(broken)
    message = r"cannot be imported \(Exception: You appear to be missing MuJoCo.\).*env.source=file"
    with pytest.raises(DataError, match=message):
        load(env(source="d4rl_package"), Preprocessing(), "cpu")


@pytest.fixture(scope="module")
def d4rl():
    """The true package; importing it reports on standard error all that it lacks."""
    if importlib.util.find_spec("d4rl") is None:
        pytest.skip("the package d4rl is not installed (make d4rl)")
    os.environ.setdefault("D4RL_SUPPRESS_IMPORT_ERROR", "1")
    try:
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
            import d4rl
            import d4rl.infos
    except Exception as error:  # of gym or mujoco-py
        pytest.skip(f"the package d4rl cannot be imported ({error!r:.200})")
    return d4rl


CONF = Path(__file__).parents[1] / "conf" / "env"
CONFIGS = {path.stem: OmegaConf.load(path) for path in sorted(CONF.glob("*.yaml"))}
FROM_D4RL = [name for name, config in CONFIGS.items() if config.get("url")]


@pytest.mark.parametrize("name", FROM_D4RL)
def test_addresses_and_reference_returns_are_d4rl_s(d4rl, name):
    config = CONFIGS[name]
    assert config.url == d4rl.infos.DATASET_URLS[f"{name}-v2"]
    assert config.random_return == d4rl.infos.REF_MIN_SCORE[f"{name}-v2"]
    assert config.expert_return == d4rl.infos.REF_MAX_SCORE[f"{name}-v2"]


@pytest.mark.parametrize("seed", range(5))
def test_transitions_are_those_of_d4rl_s_own_loader(d4rl, seed):
    flags = np.random.default_rng(seed).uniform(size=(2, 80)) < 0.2
    arrays = recorded(*flags)
    expected = d4rl.qlearning_dataset(None, dataset=arrays)
    transitions, *_ = build(read_rows(arrays, "x"), Preprocessing("none"), "cpu", "x")
    assert np.array_equal(transitions.observations, expected["observations"])
    assert np.array_equal(transitions.actions, expected["actions"])
    assert np.array_equal(transitions.rewards, expected["rewards"])
    assert np.array_equal(transitions.next_observations, expected["next_observations"])
    assert np.array_equal(transitions.terminations, expected["terminals"])


def test_without_the_package_the_source_says_what_to_do():
    if importlib.util.find_spec("d4rl") is not None:
        pytest.skip("the package d4rl is installed")
    with pytest.raises(DataError, match=r"cannot be imported .*No module named 'd4rl'"):
        load(env(source="d4rl_package"), Preprocessing(), "cpu")
