"""M=auto from the command line to the run: counted in the data, once, and then a number as any."""

import logging
from collections.abc import Iterator
from pathlib import Path

import dataset_files
import numpy as np
import pytest
from hydra import initialize_config_dir
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.types import RunMode

from lom_exp import configuration, datasets, modes
from lom_exp.datasets import estimates
from lom_exp.errors import ConfigError, DataError
from lom_exp.experiment import prepare
from lom_exp.overrides import CONF, quote_numbers
from lom_exp.runspec import RunSpec

ALGORITHMS = ("lom", "lom_paper", "mdn", "dmpo", "infodmpo")  # those that have M
ROWS = 2100


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory) -> Iterator[Path]:
    """No data and no memory but those that these tests make."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        patch.setenv("HOME", str(folder))
        patch.delenv("LOM_DATA_DIR", raising=False)
        yield folder / "lom-exp"


@pytest.fixture(scope="module")
def two_modes(tmp_path_factory) -> str:
    """The override that gives a dataset of two actions, both at every state."""
    rng = np.random.default_rng(0)
    arrays = dataset_files.recorded([0] * ROWS, [0] * ROWS)
    arrays["observations"] = rng.normal(size=(ROWS, 1))
    centers = rng.choice([-0.5, 0.5], size=(ROWS, 1))
    arrays["actions"] = np.clip(centers + 0.1 * rng.normal(size=(ROWS, 1)), -1, 1)
    path = tmp_path_factory.mktemp("data") / "two_modes.hdf5"
    return f"env.path={dataset_files.write(path, arrays)}"


@pytest.fixture(scope="module")
def hydra() -> Iterator[ConfigLoader]:
    configuration.register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield GlobalHydra.instance().config_loader()


def sweep(hydra: ConfigLoader, *jobs: str, dry_run: bool = False) -> list[RunSpec]:
    typed = [f"hydra.sweeper.dry_run={dry_run}"]
    master = hydra.load_configuration("config", typed, RunMode.MULTIRUN)
    return configuration.run_specs([quote_numbers(job.split()) for job in jobs], master, hydra)


def test_the_data_are_counted_once_for_a_sweep_and_all_that_follow(hydra, two_modes, caplog):
    caplog.set_level(logging.INFO, "lom_exp")
    jobs = [f"M=auto {two_modes} beta={beta} seed={seed}" for beta in (1, 2) for seed in (0, 1)]
    first = sweep(hydra, *jobs)
    assert caplog.text.count("counting the modes of fetch-reach\n") == 1
    again = sweep(hydra, *jobs)
    assert caplog.text.count("counting the modes of fetch-reach\n") == 1
    assert again == first
    assert [spec.M for spec in first] == [2, 2, 2, 2]


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_auto_is_the_run_of_the_number_that_was_counted(hydra, two_modes, algo, tmp_path):
    by_hand, auto, other = sweep(
        hydra, *(f"algo={algo} {two_modes} M={M}" for M in ("2", "auto", "3"))
    )
    assert auto.config == by_hand.config != other.config
    assert auto.resolved == by_hand.resolved
    names = [run.folder.path.name for run in prepare([by_hand, auto, other], tmp_path)]
    assert len(names) == 2
    assert "_M2_" in names[0]
    assert prepare([auto], tmp_path)[0].folder.path.name == names[0]


def test_one_run_composes_as_in_a_sweep(hydra, two_modes):
    master = hydra.load_configuration("config", [], RunMode.MULTIRUN)
    job = ["algo=mdn", "M=auto", two_modes]
    alone = configuration.run_spec(hydra.load_sweep_config(master, job), hydra)
    assert [alone] == sweep(hydra, " ".join(job))


def test_sources_say_what_was_counted(hydra, two_modes):
    [auto] = sweep(hydra, f"M=auto {two_modes}")
    counted = "M=auto (command line), modes at 1024 states: 2 at 100.0 %"
    assert auto.sources["M"] == auto.sources["algo.num_components"] == counted


def test_a_config_that_is_shown_resolved_has_the_number(hydra, two_modes):
    config = hydra.load_configuration("config", ["M=auto", two_modes], RunMode.RUN)
    assert config.algo.num_components == 2


def test_a_dry_run_counts_what_is_there(hydra, two_modes):
    [spec] = sweep(hydra, f"M=auto {two_modes}", dry_run=True)
    assert spec.M == 2


@pytest.mark.parametrize("env", ["env=rings", "env=hopper-medium env.source=d4rl_package"])
def test_a_dry_run_brings_no_data_to_count(hydra, cache, env):
    name = env.split()[0]
    with pytest.raises(DataError, match=rf"M=auto: the data of {name} have yet .* as in M=5"):
        sweep(hydra, f"{env} M=auto", dry_run=True)
    assert not (cache / "datasets").exists()


@pytest.mark.parametrize(
    ("jobs", "words"),
    [
        (["algo=bc M=auto"], r"M=auto \(command line\): algo=bc has no M; leave it out"),
        (["algo=lom M=auto algo.num_components=3"], "would pass over M"),
        (["algo=lom M=auto", "algo=lom M=5 algo.tau=-1"], r"algo\.tau=-1"),
        (["algo=lom M=auto", "algo=lom M=auto env=fetch-raech"], "fetch-raech"),
        (["algo=lom M=auto", "algo=lom M=automatic"], "M/automatic"),
    ],
)
def test_every_other_mistake_is_found_before_data_are_fetched(hydra, cache, jobs, words):
    with pytest.raises((ConfigError, HydraException), match=words):
        sweep(hydra, *jobs)
    assert not (cache / "datasets").exists()


def test_a_dataset_too_small_to_say_is_refused_by_name(hydra, tmp_path):
    path = dataset_files.write(tmp_path / "small.hdf5", dataset_files.recorded([0] * 9, [0] * 9))
    with pytest.raises(DataError, match=r"fetch-reach: M=auto: 8 rows are too few .* as in M=5"):
        sweep(hydra, f"M=auto env.path={path}")


def test_data_that_are_not_there_are_generated_and_counted(hydra):
    """The line of one state crosses both rings, so that there are up to four actions."""
    [spec] = sweep(hydra, "env=rings env.num_trajectories=2100 M=auto")
    assert spec.M == 4
    assert datasets.identify_if_present(spec.env)


FOUND = modes.Estimate(np.array([1, 4, 2]), 512)


def counter(times: list[int]) -> modes.Estimate:
    times.append(1)
    return FOUND


def memory(cache: Path, fingerprint: str) -> Path:
    [path] = (cache / "modes").glob(f"{fingerprint}*.json")
    return path


def test_what_was_counted_is_remembered_whole():
    times: list[int] = []
    for _ in range(2):
        found = estimates.remembered("whole", lambda: counter(times))
        assert found.counts.tolist() == [1, 4, 2]
        assert (found.M, found.neighborhood) == (4, 512)
    assert len(times) == 1


@pytest.mark.parametrize(
    "damage",
    [
        *('{"counts": [1, 4', "[]", '{"counts": [], "neighborhood": 512}', "\0"),
        *('{"counts": [1, 0], "neighborhood": 512}', '{"counts": ["4"], "neighborhood": 512}'),
    ],
)
def test_a_damaged_memory_is_counted_anew_and_mended(cache, damage):
    times: list[int] = []
    estimates.remembered("damaged", lambda: counter(times))
    memory(cache, "damaged").write_text(damage)
    for _ in range(2):
        estimates.remembered("damaged", lambda: counter(times))
    memory(cache, "damaged").unlink()
    assert len(times) == 2


def test_another_version_of_the_count_remembers_for_itself(monkeypatch):
    times: list[int] = []
    for version in (1, 2, 1):
        monkeypatch.setattr(modes, "VERSION", version)
        estimates.remembered("versions", lambda: counter(times))
    assert len(times) == 2


def test_a_memory_that_cannot_be_written_is_done_without(monkeypatch, tmp_path, caplog):
    (tmp_path / "lom-exp").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    times: list[int] = []
    for _ in range(2):
        assert estimates.remembered("unwritten", lambda: counter(times)).M == 4
    assert len(times) == 2
    assert "cannot be written" in caplog.text
