"""Jobs on a Slurm cluster, submitted in arrays through submitit."""

from __future__ import annotations

import io
import logging
import os
import shlex
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, redirect_stderr, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import submitit
from submitit.core.utils import DelayedSubmission, FailedJobError, JobPaths

from lom_exp import slurm
from lom_exp.errors import ConfigError
from lom_exp.launcher import snapshot
from lom_exp.launcher.attempts import Attempts
from lom_exp.launcher.local import require_count
from lom_exp.launcher.slurm_job import PackJob
from lom_exp.slurm import JobState, SlurmError
from lom_exp.sweeps import SweepFolder

_FORGOTTEN = 60.0  # seconds for which a scheduler may leave a job out that it will list again
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
        for name in ("cpus", "signal_delay", "array_parallelism", "max_jobs"):
            value = getattr(self, name)
            optional = name in ("array_parallelism", "max_jobs")
            if not (optional and value is None):
                require_count(f"hydra.launcher.{name}", value)
        if isinstance(self.setup, str) or not all(isinstance(line, str) for line in self.setup):
            raise ConfigError(
                f"hydra.launcher.setup={self.setup!r} cannot be used: it must be a list of shell "
                'commands, such as ["module load cuda"]'
            )
        if not isinstance(self.sbatch, Mapping):
            raise ConfigError(
                f"hydra.launcher.sbatch={self.sbatch!r} cannot be used: it must be a mapping of "
                "sbatch's options, such as {mail-type: FAIL}"
            )


_Job = dict[str, Sequence[str]]  # the names of the runs of each of its packs


class SlurmQueue:
    """The jobs of one sweep on a cluster."""

    scheduler = "slurm"
    longest_pause = 10.0  # seconds between two questions to the scheduler

    def __init__(self, sweep: SweepFolder, code: Path, config: ClusterConfig, retries: int) -> None:
        self._sweep, self._code, self._config, self._retries = sweep, code, config, retries
        self._since = time.time()
        self._jobs = _active(sweep)  # by id; those of earlier commands are taken on
        self._instruct(self._jobs)
        self._states: dict[str, JobState] = {}
        self._unlisted: dict[str, float] = {}  # jobs that Slurm did not list, since when
        self._left: _Job = {}  # packs that are to be submitted when there is room
        self._most: int | None = None  # jobs of this sweep that the cluster takes at once

    def put(self, packs: Mapping[str, Sequence[str]]) -> None:
        """Submit packs, given as the names of the runs of each.

        What exceeds the number of jobs that the cluster takes at once is kept for `poll`. Raises
        ConfigError with the scheduler's words where it takes none; then nothing stays submitted.
        """
        most = self._config.max_jobs
        jobs = _deal(list(packs), most and max(1, most - len(self._jobs)))
        size = slurm.limits().max_array_size
        arrays = [jobs[i : i + size] for i in range(0, len(jobs), size)]
        submitted: dict[str, _Job] = {}
        while arrays:
            array = arrays.pop(0)
            token = self._sweep.note_intent(
                self.scheduler, array, {pack: packs[pack] for job in array for pack in job}
            )
            ids, words = self._submit(token, array)
            if ids:
                self._sweep.note_jobs(token, ids)
                submitted |= {
                    id: {pack: packs[pack] for pack in job}
                    for id, job in zip(ids, array, strict=True)
                }
                continue
            self._sweep.note_refusal(token, words)
            is_limit = slurm.is_limit(words)
            if is_limit and len(array) > 1:
                half = len(array) // 2
                arrays[:0] = [array[:half], array[half:]]
            elif is_limit and (submitted or self._jobs or self._states):
                if self._most is None:
                    log.warning("the cluster takes no more jobs for now: %s", words)
                rest = [pack for jobs in (array, *arrays) for job in jobs for pack in job]
                self._left |= {pack: packs[pack] for pack in rest}
                self._most = max(1, len(submitted) + len(self._jobs))
                break
            else:
                self._sweep.note_cancelled(list(submitted))
                slurm.cancel(submitted)
                raise ConfigError(f"Slurm refused the jobs; none is submitted: {words}")
        self._instruct(submitted)
        self._jobs |= submitted

    def _submit(self, token: str, array: Sequence[Sequence[str]]) -> tuple[list[str], str]:
        """Submit jobs, one of a list of packs, as an array.

        Returns their ids in this order, or none and what the scheduler said.
        """
        config = self._config
        executor = submitit.SlurmExecutor(self._files)
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
            time=None,  # or submitit makes it five minutes
            wckey=None,  # for accounts that have none, submitit's own would be an error
            additional_parameters={
                "requeue": True,
                **({"time": config.time} if config.time is not None else {}),
                **config.sbatch,
            },
        )
        try:
            # submitit prints the scheduler's words as well as raising them.
            with redirect_stderr(io.StringIO()), _out_of_any_job(), executor.batch():
                jobs = [executor.submit(self._work(packs)) for packs in array]
        except (FailedJobError, OSError) as error:
            # A scheduler that was too busy to answer may have taken them all the same.
            return _find(token, len(array)), _words(error)
        return [str(job.job_id) for job in jobs], ""

    @property
    def _files(self) -> Path:
        """Where submitit keeps what belongs to its jobs."""
        return self._sweep.path / "jobs"

    def _work(self, packs: Iterable[str]) -> PackJob:
        return PackJob(str(self._sweep.path), list(packs), self._retries, self._since)

    def _instruct(self, jobs: Mapping[str, _Job]) -> None:
        """Give jobs their packs that were submitted when submitit could not come to do so."""
        for job, packs in jobs.items():
            path = JobPaths(self._files, job).submitted_pickle
            if not path.exists():  # a job that has begun looks for it for a minute
                DelayedSubmission(self._work(packs)).dump(path)

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
        try:
            states = slurm.states(self._jobs)
        except SlurmError as error:
            log.warning("the jobs go on, though Slurm cannot be asked for now: %s", error)
            return self._states
        cancelled = []
        for job, packs in list(self._jobs.items()):
            if job in states:
                self._unlisted.pop(job, None)
            elif time.monotonic() - self._unlisted.setdefault(job, time.monotonic()) < _FORGOTTEN:
                continue
            state = states.get(job, JobState("GONE", "", "Slurm no longer knows the job"))
            self._states[job] = state
            if not slurm.is_over(state.state) and job in states:
                continue
            del self._jobs[job]
            if state.state == "CANCELLED":
                cancelled.append(job)
            elif state.state != "COMPLETED":
                self._left |= self._lost(job, packs, state)
        if cancelled and self._sweep.ledger().cancelled.intersection(cancelled):
            self._left = {}  # by `cancel`, which means the whole sweep
        self._refill()
        return self._states

    def _refill(self) -> None:
        """Submit what is left, or as much of it as the cluster is known to take."""
        room = len(self._left) if self._most is None else self._most - len(self._jobs)
        packs = dict(islice(self._left.items(), max(room, 0)))
        if not packs:
            return
        self._left = {pack: runs for pack, runs in self._left.items() if pack not in packs}
        self.put(packs)
        if self._most is not None and not packs.keys() & self._left.keys():
            self._most += 1  # the limit may be one of all this user's jobs, and others end too

    def stop(self) -> dict[str, JobState]:
        """Leave the jobs to themselves."""
        with suppress(SlurmError):
            self._states |= slurm.states(self._jobs)
        return self._states

    def _lost(self, job: str, packs: _Job, state: JobState) -> _Job:
        """Of the packs of a job that is over, those that it left in the middle of their work."""
        again = {}
        for pack, runs in packs.items():
            attempts = Attempts(self._sweep, pack, self._retries, self._since)
            reason = f"{state.state} {state.reason}".strip()
            if not attempts.abandoned():
                continue
            # One that was to be queued again, and was not, has stopped in good order.
            if attempts.is_interrupted() or attempts.lost(job, f"its job ended as {reason}"):
                again[pack] = runs
        return again


def cancel(sweep: SweepFolder) -> list[str]:
    """Cancel a sweep's jobs; returns those that were not over."""
    jobs = list(_active(sweep))
    sweep.note_cancelled(jobs)
    slurm.cancel(jobs)
    return jobs


@contextmanager
def _out_of_any_job() -> Iterator[None]:
    """Submitted jobs inherit nothing of the job that the launcher may itself run in."""
    where = {name: os.environ[name] for name in ("SLURM_CONF",) if name in os.environ}
    with submitit.helpers.clean_env() if slurm.this_job() else nullcontext():
        os.environ.update(where)
        yield


def _find(token: str, count: int) -> list[str]:
    """The ids of a submission's jobs, by the token in their name; empty where there are none."""
    found = next(iter(slurm.named(token)), None)
    if found is None:
        return []
    array = found.partition("_")[0]
    return [f"{array}_{i}" for i in range(count)] if count > 1 else [array]


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
            ids = _find(submission.token, len(submission.packs))
            if not ids:
                continue
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
