"""Runs that an MLflow server or database has, as a results folder like any other.

What a run wrote to its folder is among its artifacts once it has ended, so nothing is known of it
by another way: those files are fetched, once, and read. Runs that have not ended are named.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from analysis import folders
from analysis.folders import AnalysisError
from analysis.soundness import Problem

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

EXPERIMENT = "lom-exp"
_PATIENCE = 5.0  # seconds for the first answer of a server
_PAGE, _CONNECTIONS = 1000, 8
_NAME = re.compile(r"\w[\w.+=-]*")  # of a folder, and of no other place than its parent
_ENVIRONMENT = {  # what the user has set stays
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",  # seconds, instead of 120
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # instead of 7
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


def is_uri(name: str) -> bool:
    """Whether a name is that of an MLflow server or database, not of a folder."""
    return "://" in name


def fetch(name: str, into: Path) -> tuple[Path, list[Problem]]:
    """Bring the files of all ended runs of an experiment into a results folder below `into`.

    Args:
        name: `http://host:port` or `sqlite:///file`, with `#name` of an experiment other than
            EXPERIMENT.

    Returns:
        The folder, and what it does not have.

    Raises:
        AnalysisError: the server does not answer, or has no such experiment or no run in it.
    """
    uri, _, experiment = name.partition("#")
    experiment = experiment or EXPERIMENT
    _check(uri)
    for variable, value in _ENVIRONMENT.items():
        os.environ.setdefault(variable, value)
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        client = MlflowClient(uri)
        found = client.get_experiment_by_name(experiment)
        if found is None:
            known = ", ".join(each.name for each in client.search_experiments())
            raise AnalysisError(
                f"MLflow at {shown(uri)} has no experiment {experiment!r} (it has: {known})"
            )
        runs = [run for run in _runs(client, found.experiment_id) if "seed" in run.data.params]
    except MlflowException as error:
        raise AnalysisError(f"MLflow at {shown(uri)}: {error}") from error
    if not runs:
        raise AnalysisError(f"MLflow at {shown(uri)} holds no run in experiment {experiment!r}")

    key = hashlib.sha256(f"{uri} {found.experiment_id}".encode()).hexdigest()[:12]
    results = into / f"mlflow-{key}"
    (results / "runs").mkdir(parents=True, exist_ok=True)
    _forget(results, {run.info.run_id for run in runs})
    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        fetched = list(pool.map(lambda run: _fetch_run(client, run, results), runs))
    return results, [problem for problem in fetched if problem]


def _check(uri: str) -> None:
    """Raise AnalysisError if nobody answers: MLflow itself would try for minutes."""
    if uri.startswith("sqlite:///"):
        file = Path(uri.removeprefix("sqlite:///").partition("?")[0])
        if not file.is_file():  # which MLflow would make
            raise AnalysisError(f"{file}: no such file; name an MLflow database that exists")
    elif uri.startswith(("http://", "https://")):
        try:
            urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=_PATIENCE).close()
        except urllib.error.HTTPError:
            pass  # it does answer; whether it lets us in, MLflow says
        except (OSError, ValueError) as error:
            raise AnalysisError(
                f"no MLflow server answers at {shown(uri)} within {_PATIENCE:g} s ({error}); "
                "start it, or analyze the results folder, which holds the same runs"
            ) from error


def shown(uri: str) -> str:
    """Without a password."""
    return re.sub(r"//[^/@]*@", "//***@", uri)


def _runs(client: MlflowClient, experiment_id: str) -> Iterator[Run]:
    token = None
    while True:
        page = client.search_runs([experiment_id], max_results=_PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _forget(results: Path, run_ids: set[str]) -> None:
    """Remove what was fetched of runs that MLflow does not have any more."""
    for kept in (results / "fetched").glob("*"):
        if kept.is_file() and kept.name not in run_ids:
            shutil.rmtree(results / "runs" / kept.read_text().splitlines()[1], ignore_errors=True)
            kept.unlink()


def _fetch_run(client: MlflowClient, run: Run, results: Path) -> Problem | None:
    """Bring a run's files to runs/<its name>; what is wrong with it, if something is."""
    from mlflow.exceptions import MlflowException

    run_id = run.info.run_id
    version = f"{run_id} {run.info.status} {run.info.end_time}"
    kept = results / "fetched" / run_id
    if kept.is_file() and kept.read_text().startswith(f"{version}\n"):
        return None
    temporary = results / "fetched" / f"{run_id}.files"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    title = f"{run.info.run_name} ({run_id})"
    try:
        there = {file.path for file in client.list_artifacts(run_id)}
        if not {"record.json", "config.yaml"} <= there:
            return Problem(
                title,
                f"left out: MLflow has it as {run.info.status.lower()}, and a run's files only "
                "when it has ended",
            )
        for name in folders.FILES:
            if name in there:
                client.download_artifacts(run_id, name, str(temporary))
        name = folders.read_json(temporary / "record.json").get("name")
    except (AnalysisError, MlflowException, OSError) as error:
        return Problem(title, f"left out: its files could not be fetched: {error}")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        name = run_id
    if kept.is_file():
        shutil.rmtree(results / "runs" / kept.read_text().splitlines()[1], ignore_errors=True)
    target = results / "runs" / name
    if target.exists():  # another run of MLflow's that claims the name
        target = results / "runs" / f"{name}.{run_id}"
        shutil.rmtree(target, ignore_errors=True)
    temporary.rename(target)
    kept.write_text(f"{version}\n{target.name}\n")
    return None
