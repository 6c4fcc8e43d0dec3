"""`python -m lom_exp.tracking sync results`: send to MLflow what it does not have yet."""

import argparse
import logging
import sys
from pathlib import Path

from lom_exp.errors import LomExpError
from lom_exp.tracking import default_uri, redact, sync

log = logging.getLogger(__name__)


def main(arguments: list[str] | None = None) -> int:
    """0 when MLflow has everything, 1 when something is left, 2 for a wrong use."""
    parser = argparse.ArgumentParser(
        prog="python -m lom_exp.tracking",
        description="Results live in files; MLflow is a mirror of them. This brings it up to date.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser(
        "sync",
        help="send every run and sweep of a results folder that MLflow does not have yet",
        description="Send every run and sweep of a results folder that MLflow does not have yet. "
        "Doing it twice, or after it was interrupted, sends nothing twice. Another --uri or "
        "--experiment gets everything.",
        epilog="Credentials of a server belong in MLFLOW_TRACKING_USERNAME and "
        "MLFLOW_TRACKING_PASSWORD. To look at the default file: "
        "mlflow server --backend-store-uri sqlite:///results/mlflow.db, then open "
        "http://127.0.0.1:5000 and choose Model training at the top left",
    )
    command.add_argument("results", type=Path, help="the folder that holds runs/ and sweeps/")
    command.add_argument(
        "--uri", help="http://host:port or a database; default: sqlite:///<results>/mlflow.db"
    )
    command.add_argument("--experiment", default="lom-exp", help="default: %(default)s")
    options = parser.parse_args(arguments)
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stdout)
    uri = options.uri or default_uri(options.results)
    try:
        summary = sync(options.results, uri, options.experiment)
    except LomExpError as error:
        parser.error(str(error))
    for failure in summary.errors:
        log.error("%s", failure)
    log.info(
        "%d lines of %d runs sent to %s; %d lines left",
        summary.sent,
        summary.runs,
        redact(uri),
        summary.left,
    )
    return 1 if summary.errors or summary.left else 0


if __name__ == "__main__":
    sys.exit(main())
