"""Cores are shared out evenly, and processes stay on the share they were started on."""

import os
import subprocess
import sys

import pytest

from lom_exp import cores


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (1, [[2, 3, 5, 7, 8, 9, 11]]),
        (3, [[2, 3], [5, 7], [8, 9, 11]]),
        (7, [[2], [3], [5], [7], [8], [9], [11]]),
        (9, [[2], [3], [5], [7], [8], [9], [11], [2], [3]]),
    ],
)
def test_shares_are_as_even_as_can_be_and_never_empty(
    count: int, expected: list[list[int]]
) -> None:
    assert cores.shares([2, 3, 5, 7, 8, 9, 11], count) == expected


@pytest.mark.parametrize(("asked", "granted"), [(None, 6), ("2", 2), ("64", 6), ("", 6)])
def test_a_job_keeps_to_the_cores_it_has_asked_for_where_nothing_else_makes_it(
    asked: str | None, granted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cores, "available", lambda: list(range(6)))
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    if asked is not None:
        monkeypatch.setenv("SLURM_CPUS_PER_TASK", asked)
    assert cores.granted() == granted


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_a_process_stays_on_the_cores_it_was_started_on_and_its_parent_on_its_own() -> None:
    before = os.sched_getaffinity(0)
    last = cores.available()[-1:]
    program = "from lom_exp import cores; print(cores.available())"
    with cores.pinned(last):
        found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert found.stdout.strip() == str(last)
    assert os.sched_getaffinity(0) == before
