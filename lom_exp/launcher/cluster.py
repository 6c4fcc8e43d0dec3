"""Jobs on a Slurm cluster, submitted in arrays through submitit."""

from __future__ import annotations

import io
import logging
import shlex
import time
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path

import submitit

from lom_exp import slurm, validation
from lom_exp.errors import ConfigError
from lom_exp.launcher import snapshot
from lom_exp.launcher.attempts import Attempts
from lom_exp.launcher.slurm_job import PackJob
from lom_exp.slurm import JobState
from lom_exp.sweeps import SweepFolder

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClusterConfig:
    """What is asked of Slurm for each job; None leaves it to the cluster's own defaults."""

    partition: str | None
    account: str | None
    qos: str | None
    constraint: str | None
    gres: str | None  # gpu:1, or shard:1 where packs may share a GPU
    time: str | None  # of one job, as sbatch has it: minutes, HH:MM:SS or D-HH:MM:SS
    memory: str | None  # of one job: 16G
    cpus: int  # of one job
    array_parallelism: int | None  # jobs of an array that run at the same time at most
    max_jobs: int | None  # jobs at most; each then trains several packs, one after the other
    signal_delay: int  # seconds before the time limit at which checkpoints are written
    sbatch: Mapping[str, str | int | bool]  # further options of sbatch: {mail-type: FAIL}
    setup: Sequence[str]  # shell commands before Python starts: module load ...

    def __post_init__(self) -> None:
        for name in ("array_parallelism", "max_jobs"):
            if getattr(self, name) is not None:
                validation.positive(self, name)
        validation.positive(self, "cpus", "signal_delay")


_Job = dict[str, Sequence[str]]  # the names of the runs of each of its packs


class SlurmQueue:
    """The jobs of one sweep on a cluster."""

    scheduler = "slurm"
    longest_pause = 10.0  # seconds between two questions to the scheduler

    def __init__(self, sweep: SweepFolder, code: Path, config: ClusterConfig, retries: int) -> None:
        self._sweep, self._code, self._config, self._retries = sweep, code, config, retries
        self._since = time.time()
        self._jobs = _active(sweep)  # by id; those of earlier commands are taken on
        self._ended: dict[str, JobState] = {}
        self._left: _Job = {}  # packs that are to be submitted when there is room
        self._most: int | None = None  # jobs that the cluster takes from this user at once

    def put(self, packs: Mapping[str, Sequence[str]]) -> None:
        """Submit packs, given as the names of the runs of each.

        What exceeds the number of jobs that the cluster takes at once is kept for `poll`. Raises
        ConfigError with the scheduler's words where it takes none; then nothing stays submitted.
        """
        jobs = _deal(list(packs), self._config.max_jobs)
        size = slurm.limits().max_array_size
        arrays = [jobs[i : i + size] for i in range(0, len(jobs), size)]
        submitted: dict[str, _Job] = {}
        while arrays:
            array = arrays.pop(0)
            token = self._sweep.note_intent(
                self.scheduler, array, {pack: packs[pack] for job in array for pack in job}
            )
            try:
                ids = self._submit(token, array)
            except (submitit.core.utils.FailedJobError, OSError) as error:
                words = _words(error)
                self._sweep.note_refusal(token, words)
                is_limit = slurm.is_limit(words)
                if is_limit and len(array) > 1:
                    half = len(array) // 2
                    arrays[:0] = [array[:half], array[half:]]
                elif is_limit and (submitted or self._jobs):
                    rest = [pack for jobs in (array, *arrays) for job in jobs for pack in job]
                    self._left = {pack: packs[pack] for pack in rest}
                    self._most = len(submitted) + len(self._jobs)
                    log.warning("the cluster takes no more jobs at once: %s", words)
                    break
                else:
                    self._sweep.note_cancelled(list(submitted))
                    slurm.cancel(submitted)
                    raise ConfigError(
                        f"Slurm refused the jobs; none is submitted: {words}"
                    ) from None
            else:
                self._sweep.note_jobs(token, ids)
                submitted |= {
                    id: {pack: packs[pack] for pack in job}
                    for id, job in zip(ids, array, strict=True)
                }
        self._jobs |= submitted

    @property
    def left_out(self) -> int:
        """How many packs wait for the cluster to take more jobs."""
        return len(self._left)

    def _submit(self, token: str, array: Sequence[Sequence[str]]) -> list[str]:
        """Submit jobs, one of a list of packs, as an array; returns their ids in this order."""
        config, sweep = self._config, str(self._sweep.path)
        executor = submitit.SlurmExecutor(self._sweep.path / "jobs")
        executor.update_parameters(
            job_name=token,
            setup=[*config.setup, *_environment(self._code, config.cpus)],
            partition=config.partition,
            account=config.account,
            qos=config.qos,
            constraint=config.constraint,
            gres=config.gres,
            mem=config.memory,
            cpus_per_task=config.cpus,
            srun_args=[f"--cpus-per-task={config.cpus}"],  # which srun does not take from sbatch
            array_parallelism=config.array_parallelism or len(array),
            signal_delay_s=config.signal_delay,
            stderr_to_stdout=True,
            wckey=None,  # for accounts that have none, submitit's own would be an error
            additional_parameters={
                "requeue": True,
                **({"time": config.time} if config.time is not None else {}),
                **config.sbatch,
            },
        )
        # submitit prints the scheduler's words as well as raising them.
        with redirect_stderr(io.StringIO()), executor.batch():
            jobs = [
                executor.submit(PackJob(sweep, list(packs), self._retries, self._since))
                for packs in array
            ]
        return [str(job.job_id) for job in jobs]

    @property
    def runs(self) -> set[str]:
        """The names of the runs that a job which is not over has been given."""
        return {run for packs in self._jobs.values() for runs in packs.values() for run in runs}

    @property
    def busy(self) -> bool:
        """Whether there is something left to train."""
        return bool(self._jobs or self._left)

    def poll(self) -> dict[str, JobState]:
        """Submit again what was lost, and what a limit has kept out; the states of all jobs."""
        states = slurm.states(self._jobs)
        for job, packs in list(self._jobs.items()):
            state = states.get(job, JobState("GONE", "", "Slurm no longer knows the job"))
            if not slurm.is_over(state.state) and job in states:
                continue
            del self._jobs[job]
            self._ended[job] = state
            if state.state != "COMPLETED" and not state.state.startswith("CANCELLED"):
                self._left |= self._lost(job, packs, state)
        if self._left and (self._most is None or len(self._jobs) < self._most):
            left, self._left = self._left, {}
            self.put(left)
        return self._ended | states

    def stop(self) -> dict[str, JobState]:
        """Leave the jobs to themselves."""
        return self.poll()

    def _lost(self, job: str, packs: _Job, state: JobState) -> _Job:
        """Of the packs of a job that is over, those that it left in the middle of their work."""
        again = {}
        for pack, runs in packs.items():
            attempts = Attempts(self._sweep, pack, self._retries, self._since)
            reason = f"{state.state} {state.reason}".strip()
            if attempts.abandoned() and attempts.lost(job, f"its job ended as {reason}"):
                again[pack] = runs
        return again


def cancel(sweep: SweepFolder) -> list[str]:
    """Cancel a sweep's jobs; returns those that were not over."""
    jobs = list(_active(sweep))
    sweep.note_cancelled(jobs)
    slurm.cancel(jobs)
    return jobs


def _active(sweep: SweepFolder) -> dict[str, _Job]:
    """A sweep's jobs that are not over, by id.

    A launcher that was killed may not have had the time to write their ids down.
    """
    known: dict[str, _Job] = {}
    for submission in sweep.ledger().submissions:
        ids = submission.jobs
        if submission.scheduler != SlurmQueue.scheduler or submission.refused is not None:
            continue
        if ids is None:
            found = next(iter(slurm.named(submission.token)), None)
            if found is None:
                continue
            array, tasks = found.partition("_")[0], len(submission.packs)
            ids = [f"{array}_{i}" for i in range(tasks)] if tasks > 1 else [array]
            sweep.note_jobs(submission.token, ids)
        for job, packs in zip(ids, submission.packs, strict=True):
            known[job] = {pack: submission.runs[pack] for pack in packs}
    states = slurm.states(known)
    return {
        job: packs
        for job, packs in known.items()
        if job in states and not slurm.is_over(states[job].state)
    }


def _deal(packs: Sequence[str], most: int | None) -> list[list[str]]:
    """The packs of each job, as even as can be."""
    count = min(len(packs), most or len(packs))
    return [list(packs[i::count]) for i in range(count)]


def _environment(code: Path, cpus: int) -> list[str]:
    """Shell lines after which Python imports the snapshot, whatever a set-up command has done."""
    variables = snapshot.environment(code, {})
    variables["OMP_NUM_THREADS"] = str(cpus)
    lines = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    return ['INHERITED="$PYTHONPATH"', *lines, 'PYTHONPATH="$PYTHONPATH${INHERITED:+:$INHERITED}"']


def _words(error: Exception) -> str:
    """What sbatch said, in one line."""
    lines = [
        line.removeprefix("sbatch: ").removeprefix("error: ") for line in str(error).splitlines()
    ]
    return " ".join(line.strip() for line in lines if line.strip())
