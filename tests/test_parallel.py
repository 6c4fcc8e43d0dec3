"""Environments in processes of their own: the same bits, and what becomes of the processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lom_exp import cores
from lom_exp.envs import make
from lom_exp.envs.parallel import ParallelEnvironments, WorkerLost
from lom_exp.errors import SimulationError
from lom_exp.evaluation import evaluate

ROOT = Path(__file__).parent.parent
Start = Callable[[str, int], ParallelEnvironments]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts environments whose processes end with the test."""
    started = []

    def start_one(environment: str, workers: int) -> ParallelEnvironments:
        started.append(ParallelEnvironments(environment, workers))
        return started[-1]

    yield start_one
    for environments in started:
        environments.close()


def pids(environments: ParallelEnvironments) -> list[int]:
    return [worker._process.pid for worker in environments._workers]


def linear(environment: str) -> Callable[[NDArray[np.float64], int], NDArray[np.float32]]:
    one = make(environment, 1)
    weights = np.random.default_rng(0).normal(size=(one.observation_dim, one.action_dim))
    return lambda observations, step: np.tanh(observations @ weights + step).astype(np.float32)


def assert_equal_in_line(environments: ParallelEnvironments, environment: str, runs: int) -> None:
    """Whole episodes, three of each run; in few of them all end together."""
    seeds = np.arange(3 * runs).reshape(runs, 3)
    here = evaluate(linear(environment), make(environment, seeds.size), seeds)
    there = evaluate(linear(environment), environments, seeds)
    for values, expected in zip(there, here, strict=True):
        assert np.array_equal(values, expected)


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_episodes_are_those_of_one_process_to_the_bit(start: Start, workers: int) -> None:
    environments, one = start("Hopper-v4", workers), make("Hopper-v4", 1)
    for runs in (3, 1, 4):  # also fewer environments than processes
        assert_equal_in_line(environments, "Hopper-v4", runs)
    for name in ("observation_dim", "action_dim", "horizon"):
        assert getattr(environments, name) == getattr(one, name)


def test_episodes_of_the_robot_arm_are_those_of_one_process_to_the_bit(start: Start) -> None:
    assert_equal_in_line(start("FetchReachFourGoals", 2), "FetchReachFourGoals", 1)


def test_each_process_stays_on_its_own_cores_and_leaves_one_to_the_trainer(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = cores.available()
    if len(mine) < 2 or not hasattr(os, "sched_setaffinity"):
        pytest.skip("needs two cores, and a system that pins")
    one = start("Rings", 1)
    assert os.sched_getaffinity(pids(one)[0]) == set(mine[1:])
    all_of_them = start("Rings", len(mine))
    assert [os.sched_getaffinity(pid) for pid in pids(all_of_them)] == [{core} for core in mine]


def test_the_signals_that_stop_a_trainer_stop_no_process(start: Start) -> None:
    environments = start("Rings", 2)
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)
    for pid in pids(environments):  # before they have come so far as to set anything up
        for number in numbers:
            os.kill(pid, number)
    assert environments.reset([0, 1, 2]).shape == (3, 1)
    for pid in pids(environments):
        for number in numbers:
            os.kill(pid, number)
    assert environments.reset([0, 1, 2]).shape == (3, 1)


def test_the_trainer_hears_its_signals_while_and_after_processes_start(start: Start) -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    start("Rings", 1)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


def test_a_process_that_is_killed_is_noticed_at_once(start: Start) -> None:
    environments = start("Hopper-v4", 2)
    environments.reset(range(4))
    os.kill(pids(environments)[1], signal.SIGKILL)
    with pytest.raises(WorkerLost, match="exit code -9"):
        environments.step(np.arange(4), np.zeros((4, 3), np.float32))


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"  # who inherits it may be slow to take note of its end


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("stepped", [False, True])
def test_processes_end_when_their_parent_was_killed(stepped: bool) -> None:
    program = (
        "import time\n"
        "from lom_exp.envs.parallel import ParallelEnvironments\n"
        "environments = ParallelEnvironments('Rings', 2)\n"
        f"{'environments.reset(range(4))' if stepped else ''}\n"
        "print(*(worker._process.pid for worker in environments._workers), flush=True)\n"
        "time.sleep(600)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert parent.stdout is not None
    children = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(children) == 2
    assert all(map(is_alive, children))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 60
    while any(map(is_alive, children)):
        assert time.monotonic() < deadline, "a process lives on"
        time.sleep(0.02)


def test_an_unknown_environment_is_refused_as_it_is_in_line(start: Start) -> None:
    with pytest.raises(SimulationError, match=r"'Hoper-v4': did you mean Hopper-v4\?"):
        start("Hoper-v4", 2).reset([0])


def test_another_version_of_the_simulator_is_refused_as_it_is_in_line(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mujoco.py").write_text("__version__ = '3.5.0'")
    monkeypatch.syspath_prepend(tmp_path)  # where this process finds packages, the others do
    with pytest.raises(SimulationError, match=r"mujoco 3\.5\.0 is installed and 3\.4\.0 is needed"):
        start("Hopper-v4", 1).reset([0])


def test_what_else_goes_wrong_in_a_process_is_shown_with_its_traceback(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mujoco.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(RuntimeError, match=r"(?s)in a process.*mujoco\.py.*ZeroDivisionError"):
        start("Hopper-v4", 1).reset([0])


def test_a_process_imports_the_simulator_and_not_torch() -> None:
    program = (
        "import sys\n"
        "sys.modules['torch'] = None\n"  # importing it raises
        "from lom_exp.envs import make, parallel\n"
        "make('Hopper-v4', 1), make('FetchReachFourGoals', 1)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)
