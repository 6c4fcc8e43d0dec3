"""Checkpoints of one run: written whole or not at all, checked before they are loaded.

A checkpoint is a torch file of tensors and numbers under plain names, never a pickled class. It is
named by the updates done. The newest two are kept, so that the runs of a pack that was killed while
writing them can still meet at the same update.
"""

import io
import logging
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils._pytree import keystr, tree_flatten_with_path, tree_leaves, tree_unflatten

from lom_exp.errors import CheckpointError
from lom_exp.files import write_atomically
from lom_exp.types import Metrics, State

KEPT = 2
log = logging.getLogger(__name__)


class Snapshot(NamedTuple):
    """What one run needs to go on after some update, besides the number of that update."""

    state: State
    sums: Metrics  # of each metric since metrics were last logged, 0-d
    num_summed: int  # updates in those sums

    @property
    def finite(self) -> bool:
        """Whether all of the state is."""
        return all(bool(leaf.isfinite().all()) for leaf in tree_leaves(self.state))


def save(
    folder: Path,
    run_id: str,
    step: int,
    snapshot: Snapshot,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Write a run's checkpoint after `step` updates; what `check` raises leaves all as it was.

    Raises CheckpointError, earlier checkpoints untouched, where it cannot be written.
    """
    state = {keystr(path): leaf for path, leaf in tree_flatten_with_path(snapshot.state)[0]}
    content = {"run": run_id, "step": step, "state": state}
    buffer = io.BytesIO()
    torch.save(content | {"sums": snapshot.sums, "num_summed": snapshot.num_summed}, buffer)
    path = folder / f"{step:010d}.pt"
    try:
        write_atomically(path, buffer.getvalue(), check)
        for old in sorted(folder.glob("*.pt"))[:-KEPT]:
            old.unlink()
    except OSError as error:
        raise CheckpointError(
            f"cannot write the checkpoint {path}: {error.strerror}. Earlier checkpoints are "
            "intact; make room or give write access, and run the same command again"
        ) from error


def _read(path: Path) -> dict[str, Any] | None:
    """A checkpoint's content; None, with a warning, where the file is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch.load does not look at the checksums
        if damaged is None:
            content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            return content
    except Exception as error:  # whatever a damaged file makes of the readers
        damaged = str(error)
    log.warning("%s is damaged (%s); it is passed over", path, damaged)
    return None


def steps(folder: Path, run_id: str) -> list[int]:
    """The steps of the undamaged checkpoints, oldest first.

    Raises CheckpointError for a checkpoint of another run.
    """
    found = []
    for path in sorted(folder.glob("*.pt")):
        content = _read(path)
        if content is None:
            continue
        if content.get("run") != run_id:
            raise CheckpointError(
                f"{path} belongs to run {content.get('run')}, not to {run_id}: its config is "
                "another one. Move the folder away, or set results= to another one"
            )
        found.append(int(content["step"]))
    return found


def load(folder: Path, step: int, template: State) -> Snapshot:
    """The run after `step` updates; its state must have the template's leaves and shapes.

    Raises CheckpointError where it does not.
    """
    path = folder / f"{step:010d}.pt"
    content = _read(path)
    if content is None:
        raise CheckpointError(f"{path} is damaged; remove it and run the same command again")
    leaves, structure = tree_flatten_with_path(template)
    expected = {keystr(key): leaf for key, leaf in leaves}
    saved: dict[str, Any] = content["state"]
    for name in expected.keys() | saved.keys():
        if name not in saved or name not in expected:
            raise CheckpointError(
                f"{path} and this version of the algorithm do not both have {name}: it was written "
                "by another version; remove the folder's checkpoints to start again"
            )
        if saved[name].shape != expected[name].shape or saved[name].dtype != expected[name].dtype:
            raise CheckpointError(
                f"{path}: {name} is {tuple(saved[name].shape)} {saved[name].dtype}, not "
                f"{tuple(expected[name].shape)} {expected[name].dtype}: written for another "
                "network or data; remove the folder's checkpoints to start again"
            )
    state = tree_unflatten([saved[name] for name in expected], structure)
    return Snapshot(state, content["sums"], content["num_summed"])
