"""Brings MLflow up to date with run folders, as far as it gets in one call.

mlflow.json is marked before each batch and cleared after it. Where the clearing is missing (a
kill, a timeout after the server had taken the batch), the server is asked what it holds before
anything is sent again. Each folder carries a random key, which is a tag of its MLflow run, so that
not even a run created just before a kill is created twice.
"""

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml
from filelock import FileLock, Timeout

from lom_exp.errors import LomExpError
from lom_exp.files import read_json
from lom_exp.tracking import description
from lom_exp.tracking.journal import JOURNALS, START, Cursor, Journal, Line, mlflow_name
from lom_exp.tracking.uris import hand_over_credentials, reason

if TYPE_CHECKING:
    from mlflow.entities import Run

METRICS_PER_CALL, PARAMS_PER_CALL = 1000, 100  # MLflow refuses more
PATIENCE = 5.0  # seconds to wait for a folder that another process is sending
RUN_FILES = ("config.yaml", "record.json", "evaluations.jsonl", "status.json")
SWEEP_FILES = (".png", ".pdf", ".csv", ".md")
STATES = {  # of a run that ended; any other is RUNNING
    "finished": "FINISHED",
    "failed": "FAILED",
    "diverged": "FAILED",
    "interrupted": "KILLED",
}
ENVIRONMENT = {  # what the user has set stays
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",  # seconds, instead of 120
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # instead of 7: the mirror has its own patience
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}


class TrackingError(LomExpError):
    """Something that could not be sent to MLflow just now; the result files still have it."""


class Sent(NamedTuple):
    """What one call brought to MLflow, and one line for each run or sweep that it failed on."""

    lines: int
    errors: tuple[str, ...]


class Sender:
    """Talks to one MLflow experiment; used by one thread. Making it imports MLflow."""

    def __init__(self, results: Path, uri: str, experiment: str) -> None:
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from mlflow.entities import Metric, Param, RunTag
        from mlflow.tracking import MlflowClient

        self._entities = Metric, Param, RunTag
        logging.getLogger("alembic").setLevel(logging.WARNING)
        self._results, self._uri, self._experiment = results, uri, experiment
        self._journals: dict[Path, Journal] = {}
        results.mkdir(parents=True, exist_ok=True)
        with _locked(results, patience=60.0):  # processes that start together make one database
            self._client = MlflowClient(hand_over_credentials(uri))
            self._experiment_id = self._find_experiment()

    def _find_experiment(self) -> str:
        found = self._client.get_experiment_by_name(self._experiment)
        if found is not None:
            return str(found.experiment_id)
        location = None  # the server's own
        if self._uri.startswith("sqlite:///"):  # MLflow would take a folder of the working one
            database = Path(self._uri.removeprefix("sqlite:///").partition("?")[0])
            location = (database.resolve().parent / "mlflow-artifacts").as_uri()
        return str(self._client.create_experiment(self._experiment, artifact_location=location))

    def send(self, sweeps: Sequence[tuple[str | None, Sequence[str]]]) -> Sent:
        """Send what MLflow lacks of sweeps and their runs, or of runs of no sweep; never raises.

        A run that fails does not hold up the others, unless the server answers nothing at all.
        """
        jobs: list[tuple[str, Callable[[], int]]] = []
        for sweep, runs in sweeps:
            if sweep is not None:
                jobs.append((sweep, partial(self._send_sweep, sweep, runs)))
            jobs += [(run, partial(self._send_run, sweep, run)) for run in runs]
        lines, errors = 0, []
        for name, job in jobs:
            try:
                lines += job()
            except Exception as error:  # whatever MLflow, a network or a disk can come up with
                errors.append(f"{name}: {reason(error)}")
                if not self._answers():
                    break
        return Sent(lines, tuple(errors))

    def _answers(self) -> bool:
        try:
            self._client.get_experiment(self._experiment_id)
        except Exception:
            return False
        return True

    def _send_sweep(self, sweep: str, runs: Sequence[str]) -> int:
        folder = self._results / "sweeps" / sweep
        folder.mkdir(parents=True, exist_ok=True)
        content = read_json(folder / "sweep.json") or {}
        with _locked(folder):
            cursor = Cursor(folder, self._uri, self._experiment)
            started = content.get("time", time.time())
            self._open(cursor, sweep, started, description.sweep_tags(content))
            folders = [self._results / "runs" / run for run in content.get("runs") or runs]
            states = [read_json(path / "status.json") or {} for path in folders]
            self._send_state(cursor, _overall(states))
            files = [path for path in folder.rglob("*") if path.suffix in SWEEP_FILES]
            self._send_files(cursor, folder, sorted(files))
        return 0

    def _send_run(self, sweep: str | None, run: str) -> int:
        folder = self._results / "runs" / run
        record = read_json(folder / "record.json")
        if record is None:  # not begun
            return 0
        with _locked(folder):
            state = read_json(folder / "status.json") or {}  # before the lines that led to it
            cursor = Cursor(folder, self._uri, self._experiment)
            if not cursor.run_id:
                tags = description.run_tags(record)
                if sweep is not None:
                    tags["mlflow.parentRunId"] = self._parent(sweep)
                first = Journal(folder / JOURNALS[0]).after(START)[:1]
                begun = (folder / "record.json").stat().st_mtime  # of a copy it may be later
                begun = min([begun, *(line.time / 1000 for line in first)])
                self._open(cursor, description.run_name(record), begun, tags)
            if not cursor.has_params:
                self._send_parameters(cursor, yaml.safe_load((folder / "config.yaml").read_text()))
            if sweep is not None and sweep not in cursor.sweeps:
                # A run keeps its first parent; later sweeps that hold it find it by this tag.
                self._client.set_tag(cursor.run_id, mlflow_name(f"sweep/{sweep}"), "true")
                cursor.sweeps.append(sweep)
                cursor.save()
            lines = sum(self._send_lines(cursor, folder, journal) for journal in JOURNALS)
            self._send_state(cursor, state)
            if state.get("status") in STATES:
                self._send_files(cursor, folder, [folder / name for name in RUN_FILES])
        return lines

    def _parent(self, sweep: str) -> str:
        cursor = Cursor(self._results / "sweeps" / sweep, self._uri, self._experiment)
        if not cursor.run_id:
            raise TrackingError(f"the run of the sweep {sweep} has not been made yet")
        return cursor.run_id

    def _open(self, cursor: Cursor, name: str, begun: float, tags: Mapping[str, str]) -> None:
        """Find the folder's MLflow run, or make it."""
        if cursor.run_id:
            return
        cursor.save()  # its key is on disk before the run exists
        query = f"tags.`lom_exp.key` = '{cursor.key}'"
        found = self._client.search_runs([self._experiment_id], query, max_results=1)
        if found:  # made just before a kill, or the same server under another name
            run = found[0]
            cursor.uncertain = dict.fromkeys(JOURNALS, (self._last_step(run), 1))
        else:
            run = self._client.create_run(
                self._experiment_id,
                start_time=int(1000 * begun),
                tags={**tags, "lom_exp.key": cursor.key},
                run_name=name,
            )
        cursor.experiment_id, cursor.run_id = self._experiment_id, run.info.run_id
        cursor.save()

    def _last_step(self, run: "Run") -> int:
        histories = [
            self._client.get_metric_history(run.info.run_id, key) for key in run.data.metrics
        ]
        return max((entry.step for history in histories for entry in history), default=-1)

    def _send_parameters(self, cursor: Cursor, config: Mapping[str, Any]) -> None:
        known = self._client.get_run(cursor.run_id).data.params  # MLflow refuses to change one
        _, param, _ = self._entities
        missing = [
            param(name, value)
            for name, value in description.parameters(config).items()
            if name not in known
        ]
        for i in range(0, len(missing), PARAMS_PER_CALL):
            self._client.log_batch(cursor.run_id, params=missing[i : i + PARAMS_PER_CALL])
        cursor.has_params = True
        cursor.save()

    def _send_lines(self, cursor: Cursor, folder: Path, name: str) -> int:
        journal = self._journals.setdefault(folder / name, Journal(folder / name))
        lines = journal.after(cursor.sent.get(name, START))
        metric, _, _ = self._entities
        held: dict[str, set[int]] = {}  # steps on the server, of the metrics asked for so far

        def is_held(key: str, step: int) -> bool:
            if key not in held:
                history = self._client.get_metric_history(cursor.run_id, key)
                held[key] = {entry.step for entry in history}
            return step in held[key]

        for batch in _batches(lines):
            doubtful = cursor.uncertain.get(name, START)
            metrics = [
                metric(key, value, line.time, line.position[0])
                for line in batch
                for key, value in line.metrics.items()
                if line.position > doubtful or not is_held(key, line.position[0])
            ]
            cursor.uncertain[name] = max(doubtful, batch[-1].position)
            cursor.save()
            for i in range(0, len(metrics), METRICS_PER_CALL):
                self._client.log_batch(cursor.run_id, metrics=metrics[i : i + METRICS_PER_CALL])
            cursor.sent[name] = batch[-1].position
            if cursor.sent[name] >= cursor.uncertain[name]:
                del cursor.uncertain[name]
            cursor.save()
        return len(lines)

    def _send_state(self, cursor: Cursor, state: Mapping[str, Any]) -> None:
        told = {name: state[name] for name in ("status", "phase", "error") if state.get(name)}
        if not told or told == cursor.state:
            return
        _, _, tag = self._entities
        tags = [tag(name, description.text(value)) for name, value in told.items()]
        self._client.log_batch(cursor.run_id, tags=tags)
        if told["status"] in STATES:
            ended = int(1000 * state.get("time", time.time()))
            self._client.set_terminated(cursor.run_id, STATES[told["status"]], ended)
        else:
            self._client.update_run(cursor.run_id, status="RUNNING")
        cursor.state = told
        cursor.save()

    def _send_files(self, cursor: Cursor, folder: Path, paths: Sequence[Path]) -> None:
        for path in paths:
            if not path.is_file():
                continue
            name, stat = path.relative_to(folder), path.stat()
            version = f"{stat.st_size} bytes, {stat.st_mtime_ns}"
            if cursor.files.get(str(name)) != version:
                parent = None if len(name.parts) == 1 else str(name.parent)
                self._client.log_artifact(cursor.run_id, str(path), artifact_path=parent)
                cursor.files[str(name)] = version
                cursor.save()


@contextmanager
def _locked(folder: Path, patience: float = PATIENCE) -> Iterator[None]:
    """Hold a folder against other processes that send it; a killed process loses its hold."""
    try:
        with FileLock(folder / ".mlflow.lock", timeout=patience):
            yield
    except Timeout:
        raise TrackingError(f"another process is sending {folder}") from None


def _batches(lines: Sequence[Line]) -> Iterator[list[Line]]:
    """Runs of lines with no more metrics than fit one call, but at least one line each."""
    batch: list[Line] = []
    size = 0
    for line in lines:
        if batch and size + len(line.metrics) > METRICS_PER_CALL:
            yield batch
            batch, size = [], 0
        batch.append(line)
        size += len(line.metrics)
    if batch:
        yield batch


def _overall(states: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The state of a sweep: running while a run may still go on, else the worst of its runs."""
    found = {state.get("status", "new") for state in states}
    if not found or found - STATES.keys():
        return {"status": "running"}
    ended = max(state.get("time", 0.0) for state in states)
    worst = next(
        name for name in ("failed", "diverged", "interrupted", "finished") if name in found
    )
    return {"status": worst, "time": ended}
