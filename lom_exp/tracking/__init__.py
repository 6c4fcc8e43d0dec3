"""Mirrors run folders to MLflow. The folders are the truth; nothing here can lose or delay a run.

A daemon thread reads what runs append to their files and sends it in batches: one MLflow run per
run folder, nested under one parent per sweep. How far it got is kept beside the files, so a server
that is down, slow or hanging costs nothing but a later `python -m lom_exp.tracking sync results`.
MLflow is imported by that thread: it costs seconds, and nothing at all where tracking is off.
"""

import logging
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from lom_exp.errors import ConfigError
from lom_exp.files import read_json
from lom_exp.tracking.journal import count_left
from lom_exp.tracking.sender import Sender
from lom_exp.tracking.uris import check_uri, reason, redact

__all__ = [
    "Mirror",
    "Summary",
    "check_uri",
    "default_uri",
    "log_sweep_artifacts",
    "redact",
    "sync",
]

MAX_DELAY = 60.0  # seconds between two attempts to reach a server that does not answer
CLOSING_ATTEMPTS = 3
log = logging.getLogger(__name__)


class Summary(NamedTuple):
    """What `sync` brought to MLflow, and what it could not."""

    runs: int
    sent: int  # lines of metrics and evaluations
    left: int
    errors: tuple[str, ...]  # one for each run or sweep it failed on, without credentials


def default_uri(results: Path) -> str:
    """The embedded default: an sqlite file in the results folder."""
    return f"sqlite:///{results.resolve() / 'mlflow.db'}"


class Mirror:
    """Sends the runs of a sweep to MLflow while they are trained; never raises once it is made.

    Args:
        results: the folder that holds runs/ and sweeps/.
        sweep: name of the sweep, whose folder need not exist.
        runs: names of run folders, which need not exist yet.
        uri: MLflow's tracking URI; credentials in it go to no file and no log.
        experiment: name of the MLflow experiment.
        interval: seconds between two looks at the files.

    Raises ConfigError for a URI that MLflow cannot use.
    """

    def __init__(
        self,
        results: Path,
        sweep: str,
        runs: Sequence[str],
        uri: str,
        experiment: str,
        interval: float = 10.0,
    ) -> None:
        check_uri(uri)
        self._results, self._sweep, self._runs = results, sweep, tuple(runs)
        self._uri, self._experiment, self._interval = uri, experiment, interval
        self._closing = threading.Event()
        self._complete = False  # a look begun after close was called left nothing behind
        self._last_error = ""
        self._thread = threading.Thread(target=self._follow, name="mlflow-mirror", daemon=True)

    def __enter__(self) -> "Mirror":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close(timeout=30.0)

    def close(self, timeout: float) -> None:
        """Send what is left for at most `timeout` seconds; log what remains then, and the remedy.

        Closing twice is closing once.
        """
        if self._closing.is_set():
            return
        self._closing.set()
        self._thread.join(timeout)
        if self._complete:
            return
        left = sum(
            count_left(self._results / "runs" / run, self._uri, self._experiment)
            for run in self._runs
        )
        log.warning(
            "tracking: MLflow at %s does not have everything of the sweep %s; %d lines of metrics "
            "and evaluations are left (%s). Nothing is lost; send the rest later: "
            "python -m lom_exp.tracking sync %s --uri '%s' --experiment '%s'",
            redact(self._uri),
            self._sweep,
            left,
            self._last_error or f"no answer in {timeout:g} s",
            self._results,
            redact(self._uri),
            self._experiment,
        )

    def _follow(self) -> None:
        sender: Sender | None = None
        failures = closing_attempts = 0
        while True:
            closing = self._closing.is_set()  # asked before looking: the last look sees everything
            try:
                sender = sender or Sender(self._results, self._uri, self._experiment)
                errors = sender.send([(self._sweep, self._runs)]).errors
            except Exception as error:  # whatever MLflow, a network or a disk can come up with
                errors = (reason(error),)
            self._last_error = errors[0] if errors else ""
            if errors and not failures:
                log.warning(
                    "tracking: MLflow at %s does not take everything; training goes on and the "
                    "result files keep it all (%s)",
                    redact(self._uri),
                    self._last_error,
                )
            elif failures and not errors:
                log.warning("tracking: MLflow at %s is back and up to date", redact(self._uri))
            failures = failures + 1 if errors else 0
            if closing:
                closing_attempts += 1
                self._complete = not errors
                if self._complete or closing_attempts == CLOSING_ATTEMPTS:
                    return
                time.sleep(1.0)
            else:
                self._closing.wait(min(MAX_DELAY, self._interval * 2.0 ** min(failures, 16)))


def sync(results: Path, uri: str, experiment: str) -> Summary:
    """Send everything in a results folder that MLflow does not have yet.

    Raises ConfigError for a URI or a folder that cannot be used. What cannot be sent is counted
    and explained in the summary.
    """
    check_uri(uri)
    if not (results / "runs").is_dir():
        raise ConfigError(f"{results} holds no runs/; give the folder that results= named")
    folders = [path.name for path in sorted((results / "runs").iterdir()) if path.is_dir()]
    sweeps = []
    for path in (results / "sweeps").glob("*/sweep.json"):
        content = read_json(path) or {}
        sweeps.append((content.get("time", 0.0), path.parent.name, content.get("runs", [])))
    grouped = {run for _, _, runs in sweeps for run in runs}
    alone = [run for run in folders if run not in grouped]
    try:
        sender = Sender(results, uri, experiment)
        sent, errors = sender.send(
            [*((name, runs) for _, name, runs in sorted(sweeps)), (None, alone)]
        )
    except Exception as error:  # whatever MLflow or a network can come up with
        sent, errors = 0, (reason(error),)
    left = sum(count_left(results / "runs" / run, uri, experiment) for run in folders)
    return Summary(len(folders), sent, left, errors)


def log_sweep_artifacts(
    results: Path, sweep: str, uri: str, experiment: str, timeout: float = 30.0
) -> None:
    """Send a sweep's tables and figures, for at most `timeout` seconds; never raises on MLflow."""
    runs = (read_json(results / "sweeps" / sweep / "sweep.json") or {}).get("runs", [])
    with Mirror(results, sweep, runs, uri, experiment) as mirror:
        mirror.close(timeout)
