"""Looks after sweeps that `launch.py` has started: python -m lom_exp.launcher --help."""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from lom_exp.errors import LomExpError
from lom_exp.launcher import logs, table
from lom_exp.launcher.live import LiveTable
from lom_exp.launcher.status import ACTIVE, Surveyor
from lom_exp.sweeps import SweepFolder

INTERRUPTED = 130  # the exit code that shells give to Ctrl-C
_PAUSE = 5.0  # seconds between two looks of --watch, at least
_HELP = """\
Looks after sweeps that launch.py has started, from any machine that sees their folders.

examples:
  python -m lom_exp.launcher status                      the sweep that was asked for last
  python -m lom_exp.launcher status figure3 --watch      kept up to date until all runs have ended
  python -m lom_exp.launcher logs 1a2b3c4d               why a run failed, by the end of its name
  python -m lom_exp.launcher retry figure3               run what is missing
  python -m lom_exp.launcher cancel figure3              stop all jobs; checkpoints are kept
"""
_STATUS = """\
One line for each run: its state by its own status file and the scheduler's word, updates done, last
score, time left, node and job; below it what went wrong, and what to do. On a terminal, runs that
differ only in seed share a line where there are too many.

states:
  finished     done, all evaluations played
  running      at work on the node that is shown
  queued       it begins, or goes on, when the scheduler lets it
  waiting      not submitted yet
  interrupted  it left a checkpoint, and no job will go on with it
  cancelled    by `cancel`
  diverged     its losses or parameters became infinite; it is not tried again
  failed       it raised an error
  lost         its job ended without a word from it: killed, out of memory, a node that failed
"""
_LOGS = """\
Where a run stands, its error with the traceback, and the last lines of what its job has printed.

examples:
  python -m lom_exp.launcher logs 1a2b3c4d
  python -m lom_exp.launcher logs hopper-medium_M10_beta5_seed0 -n 200
  python -m lom_exp.launcher logs results/runs/lom_hopper-medium_M10_beta5_seed0_1a2b3c4d --follow
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line asks for; returns the exit code."""
    given = _parser().parse_args(arguments)
    try:
        _COMMANDS[given.command](given)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except LomExpError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    def add(name: str, summary: str, description: str) -> argparse.ArgumentParser:
        parser = commands.add_parser(
            name,
            help=summary,
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        parser.add_argument(
            "--results", type=Path, default=Path("results"), help="folder of results (results)"
        )
        return parser

    parser = argparse.ArgumentParser(
        prog="python -m lom_exp.launcher",
        description=_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    sweep_help = "its name in <results>/sweeps, or its folder"

    status = add("status", "how a sweep stands", _STATUS)
    status.add_argument("sweep", nargs="?", help=f"{sweep_help}; the newest one if left out")
    how = status.add_mutually_exclusive_group()
    how.add_argument("--watch", action="store_true", help="keep it up to date until all have ended")
    how.add_argument("--all", action="store_true", help="every run, every error: group nothing")
    how.add_argument("--json", action="store_true", help="one JSON object per run, one per line")

    run = add("logs", "a run's state, error and output", _LOGS)
    run.add_argument(
        "run", metavar="RUN", help="a part of its name that no other has, or its folder"
    )
    run.add_argument("-n", type=int, default=40, dest="lines", help="lines of output (40)")
    run.add_argument("-f", "--follow", action="store_true", help="go on as long as the run does")

    cancel = add(
        "cancel", "stop a sweep", "Cancels a sweep's jobs, those that run leave checkpoints."
    )
    cancel.add_argument("sweep", help=sweep_help)
    retry = add(
        "retry",
        "run what is missing of a sweep",
        "Runs what is neither finished nor diverged and in no job, from its last checkpoints, as "
        "the\nsweep's own command would if it were given again.",
    )
    retry.add_argument("sweep", help=sweep_help)
    return parser


def _status(given: argparse.Namespace) -> None:
    results = given.results
    sweep = SweepFolder.open(given.sweep, results) if given.sweep else SweepFolder.newest(results)
    surveyor = Surveyor(sweep)
    if given.watch:
        _watch(surveyor)
    elif given.json:
        for row in surveyor.look().rows:
            sys.stdout.write(json.dumps(row._asdict()) + "\n")
    else:
        table.show(surveyor.look(), Console(highlight=False), every_run=given.all)


def _watch(surveyor: Surveyor) -> None:
    with LiveTable() as shown:
        while True:
            began = time.monotonic()
            survey = surveyor.look()
            shown.update(survey)
            if not survey.count(*ACTIVE) and not (survey.launcher and survey.count("waiting")):
                return
            # A large sweep takes long to look at, and a scheduler must not be asked too often.
            time.sleep(max(_PAUSE, 5 * (time.monotonic() - began)))


def _logs(given: argparse.Namespace) -> None:
    logs.show(given.run, given.results, given.lines, given.follow)


def _cancel(given: argparse.Namespace) -> None:
    sweep = SweepFolder.open(given.sweep, given.results)
    from lom_exp.launcher import control  # needs torch, which takes seconds

    sys.stdout.write(f"{sweep.name}: {control.cancel(sweep)}\n")


def _retry(given: argparse.Namespace) -> None:
    sweep = SweepFolder.open(given.sweep, given.results)
    from lom_exp.launcher import control

    survey = control.go_on(sweep)
    if survey.count(*ACTIVE):  # on a cluster, where it goes on without this command
        table.show(survey, Console(highlight=False))
    else:
        control.require_finished(survey)


_COMMANDS = {"status": _status, "logs": _logs, "cancel": _cancel, "retry": _retry}

if __name__ == "__main__":
    sys.exit(main())
