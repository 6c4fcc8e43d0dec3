"""The process that trains packs: python -m lom_exp.worker <pack.json>...

It is started by the launcher on this machine, or by a job on a cluster. Its exit code tells how it
went; what happened to each run is in the run's folder.
"""

import ctypes
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import torch

from lom_exp import experiment, handover, packfiles, tracking
from lom_exp.errors import LomExpError
from lom_exp.experiment import StopSignal
from lom_exp.handover import PARENT_VARIABLE, TRACKING_VARIABLE
from lom_exp.packfiles import Pack
from lom_exp.runs import FINAL, RunFolder
from lom_exp.training import Interrupted, Run

_PATIENCE = 60.0  # seconds to wait for the last writers of a pack, who may be leaving checkpoints
_PR_SET_PDEATHSIG = 1  # of Linux
log = logging.getLogger(__name__)


def main(paths: Sequence[str]) -> int:
    """Train the packs in files, one after the other; returns an exit code of `handover`."""
    logging.basicConfig(
        format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO, stream=sys.stderr
    )
    codes = []
    with StopSignal() as stop:
        _stop_with_the_parent()
        for path in map(Path, paths):
            try:
                codes.append(_train(path, stop))
            except Interrupted:
                return handover.INTERRUPTED
            except torch.AcceleratorError as error:
                log.error("the GPU failed; runs go on from their last checkpoints: %s", error)
                return handover.DEVICE_LOST
            except LomExpError as error:
                log.error("%s", error)
                codes.append(handover.FAILED)
    return max(codes, key=(handover.DONE, handover.ELSEWHERE, handover.FAILED).index)


def _stop_with_the_parent() -> None:
    """Have the system send SIGTERM when the launcher dies, however it does."""
    parent = os.environ.get(PARENT_VARIABLE)
    if parent is None or sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):  # it died before it could be asked for
        os.kill(os.getpid(), signal.SIGTERM)


def _train(path: Path, stop: StopSignal) -> int:
    pack = packfiles.read(path)
    results = Path(pack.execution.results)
    deadline = time.monotonic() + _PATIENCE
    runs = [
        Run(spec, RunFolder(results / "runs" / name, deadline), spec.id(pack.data), pack.data)
        for spec, name in zip(pack.specs, pack.names, strict=True)
    ]
    with ExitStack() as stack:
        if pack.execution.tracking.enabled:
            _mirror(pack, results, stack)
        ends = experiment.train(runs, pack.execution, stop)
    left = [run for run, end in zip(runs, ends, strict=True) if end.status not in FINAL]
    if not left:
        return handover.DONE
    return handover.ELSEWHERE if all(run.elsewhere for run in left) else handover.FAILED


def _mirror(pack: Pack, results: Path, stack: ExitStack) -> None:
    uri = os.environ.get(TRACKING_VARIABLE)
    if uri is None:
        log.warning(
            "%s is not set: MLflow gets nothing of these runs until "
            "`python -m lom_exp.tracking sync %s`",
            TRACKING_VARIABLE,
            results,
        )
        return
    experiment_name = pack.execution.tracking.experiment
    stack.enter_context(tracking.Mirror(results, pack.sweep, pack.names, uri, experiment_name))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
