"""The files of a lease: 000001.json, 000002.json, ..., of which the highest counts."""

import json
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from lom_exp.leases.owners import Owner


class Record(NamedTuple):
    """What the file of a generation says."""

    owner: Owner
    since: float  # unix time by the owner's clock
    released: bool


class Generation(NamedTuple):
    """A generation as it is found."""

    number: int
    record: Record | None  # None if the file is damaged
    beat: float  # unix time of the owner's last sign of life, by the file server's clock


def path(folder: Path, number: int) -> Path:
    """The file of a generation."""
    return folder / f"{number:06d}.json"


def number(path: Path) -> int:
    """The generation whose file it is; 0 if it is none's."""
    match = re.fullmatch(r"([0-9]{6,})\.json", path.name)
    return int(match[1]) if match else 0


def highest(folder: Path) -> int:
    """The number of the newest generation in a folder, 0 if there is none."""
    return max((number(Path(name)) for name in os.listdir(folder)), default=0)


def newest(folder: Path) -> Generation | None:
    """The newest generation in a folder.

    Raises FileNotFoundError where it was superseded, or the folder deleted, in this moment.
    """
    latest = highest(folder)
    if latest == 0:
        return None
    with path(folder, latest).open("rb") as file:
        return Generation(latest, _parse(file.read()), os.fstat(file.fileno()).st_mtime)


def create(path: Path, candidate: Path, content: bytes) -> None:
    """Create a file, unless it exists, from a candidate that has that content."""
    try:
        os.link(candidate, path)  # whole as soon as it exists
    except FileNotFoundError:
        raise
    except FileExistsError:
        return
    except OSError:  # the file system has no links
        with suppress(FileExistsError), path.open("xb") as file:
            file.write(content)


def _parse(content: bytes) -> Record | None:
    try:
        fields = json.loads(content)
        owner = Owner(**fields["owner"])
        owner = owner._replace(pid=int(owner.pid), restart=int(owner.restart))
        return Record(owner, float(fields["since"]), bool(fields["released"]))
    except (KeyError, TypeError, ValueError):
        return None
