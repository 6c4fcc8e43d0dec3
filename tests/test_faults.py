"""A sweep whose processes are killed again and again ends as the one that nobody disturbed."""

import os
import signal
import time
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest
from local_sweeps import PATIENCE, Lab, frozen, is_alive, steps
from test_experiment import assert_same, write_data

from lom_exp import tracking
from lom_exp.leases import holder
from lom_exp.tracking.journal import JOURNALS, START, Journal

ALGORITHMS, SEEDS = ("bc", "td3_bc"), range(4)
KILLS = 32  # of workers
LAUNCHERS = (9, 18, 27)  # after so many kills the launcher is killed as well
SWEEP = "faults"
SETTINGS = ("threads=1", "updates.policy=400", "evaluation.every=100")
SETTINGS += ("pack_size=2", "hydra.launcher.workers=4", "retries=1000", f"sweep_name={SWEEP}")


class Fate(NamedTuple):
    """When a worker is to die: after so many updates, and then perhaps within a checkpoint."""

    updates: int
    while_writing: bool


class Victim(NamedTuple):
    """A worker that has begun to write, and the runs it writes."""

    pid: int
    runs: list[Path]
    began_at: int  # the updates of its checkpoints then, all together
    fate: Fate


class Killer:
    """Kills the workers of a sweep at moments that chance decides."""

    def __init__(self, lab: Lab, seed: int) -> None:
        self.lab, self.random = lab, Random(seed)
        self.victims: dict[int, Victim] = {}
        self.kills = 0
        self.within_a_checkpoint = 0  # kills that left a part of a checkpoint behind

    def look_around(self) -> None:
        """Kill who is due, after the newcomers were told their fates."""
        for pid, runs in self._writers().items():
            if pid not in self.victims:
                fate = Fate(self.random.randrange(40), self.random.random() < 0.5)
                self.victims[pid] = Victim(pid, runs, _progress(runs), fate)
            victim = self.victims[pid]
            if _progress(victim.runs) - victim.began_at >= victim.fate.updates:
                time.sleep(self.random.uniform(0.0, 0.02))
                self._kill(victim)

    def _writers(self) -> dict[int, list[Path]]:
        """The workers that have the leases of runs, and which."""
        at_work = set(self.lab.workers())
        found: dict[int, list[Path]] = {}
        for run in sorted(self.lab.results.glob("runs/*")):
            held = holder(run)
            if held is not None and held.owner.pid in at_work:
                found.setdefault(held.owner.pid, []).append(run)
        return found

    def _kill(self, victim: Victim) -> None:
        """Kill a worker, unless it is to die within a checkpoint and writes none just now."""
        with frozen(victim.pid):
            if not is_alive(victim.pid) or (victim.fate.while_writing and not _parts(victim)):
                return
            os.kill(victim.pid, signal.SIGKILL)
        while is_alive(victim.pid):
            time.sleep(0.001)
        self.kills += 1
        self.within_a_checkpoint += bool(_parts(victim))


def _progress(runs: list[Path]) -> int:
    return sum(max(steps(run), default=0) for run in runs)


def _parts(victim: Victim) -> list[Path]:
    """Checkpoints that are not whole."""
    return [part for run in victim.runs for part in (run / "checkpoints").glob(".*.tmp")]


@pytest.mark.slow
def test_kills_at_random_moments_change_no_result_lose_none_and_double_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_data(tmp_path / "data.hdf5")
    overrides = [
        [*SETTINGS, f"algo={name}", f"seed={seed}"] for name in ALGORITHMS for seed in SEEDS
    ]
    undisturbed = [r.folder for r in Lab(data, tmp_path / "undisturbed").train_here(overrides)]
    assert len(undisturbed) == 8

    lab = Lab(data, tmp_path / "results")
    killer = Killer(lab, seed=4)
    try:
        output = _disturb(lab, killer)
    finally:
        lab.clear()
    print(  # noqa: T201
        f"{killer.kills} workers killed, {killer.within_a_checkpoint} of them within a checkpoint; "
        f"{len(LAUNCHERS)} launchers killed"
    )
    assert killer.kills >= 30, output
    assert killer.within_a_checkpoint >= 5, output

    runs = sorted((lab.results / "runs").iterdir())
    assert [run.name for run in runs] == sorted(run.name for run in undisturbed)
    for run in undisturbed:
        assert_same(lab.results / "runs" / run.name, run)
        assert not list((lab.results / "runs" / run.name / "checkpoints").glob(".*"))
    assert_tracked_once(lab.results, runs, monkeypatch)


def _disturb(lab: Lab, killer: Killer) -> str:
    """Have the sweep run through all the kills to its end; returns what its launchers said."""
    command = ("algo=" + ",".join(ALGORITHMS), "seed=0,1,2,3", "tracking.enabled=true", *SETTINGS)
    said = ""
    for kills in (*LAUNCHERS, KILLS):
        launcher = lab.start(*command)
        last, killed_at = killer.kills, time.monotonic()
        while killer.kills < kills and launcher.poll() is None:
            killer.look_around()
            if killer.kills > last:
                last, killed_at = killer.kills, time.monotonic()
            assert time.monotonic() < killed_at + PATIENCE, "no worker comes to write anything"
            time.sleep(0.005)
        if kills < KILLS:
            launcher.kill()
        said += "".join(launcher.communicate(timeout=2 * PATIENCE))
    assert launcher.returncode == 0, said
    return said


def assert_tracked_once(results: Path, runs: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow has one run for each folder, and in it every line of the journals once."""
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow.tracking import MlflowClient

    client: Any = MlflowClient(tracking.default_uri(results))
    experiment = client.get_experiment_by_name("lom-exp")
    tracked = client.search_runs([experiment.experiment_id], max_results=1000)
    by_id = {run.data.tags.get("id", "the sweep"): run for run in tracked}
    assert len(tracked) == len(by_id) == len(runs) + 1
    for folder in runs:
        run = by_id[folder.name[-8:]]
        assert run.info.status == "FINISHED"
        lines = [line for name in JOURNALS for line in Journal(folder / name).after(START)]
        written: dict[str, list[tuple[int, float]]] = {}
        for line in lines:
            for key, value in line.metrics.items():
                written.setdefault(key, []).append((line.position[0], value))
        assert run.data.metrics.keys() == written.keys()
        for key, values in written.items():
            history = client.get_metric_history(run.info.run_id, key)
            sent = sorted((entry.step, entry.value) for entry in history)
            assert [step for step, _ in sent] == [step for step, _ in values]
            if key != "trainer/updates_per_second":  # of lines that were written again
                assert sent == values
