"""Which code is running: the commit it stands on, of a checkout or of a snapshot of one."""

import subprocess
from pathlib import Path

from lom_exp.files import read_json

ROOT = Path(__file__).resolve().parents[1]  # the checkout or the snapshot that is running
# What decides what a run does; snapshots hold these, and changes elsewhere make no code dirty.
PARTS = ("lom_exp", "analysis", "conf", "launch.py", "pyproject.toml")
RECORD = "code.json"  # in a snapshot: git would answer for whatever repository encloses it


def code_version() -> tuple[str | None, bool | None]:
    """The commit of this code and whether it was changed since; None outside a git checkout.

    For code in a snapshot, as it was when the snapshot was taken.
    """
    record = read_json(ROOT / RECORD)
    if record is not None:
        return record.get("git_commit"), record.get("git_dirty")
    try:
        return _git("rev-parse", "HEAD"), bool(_git("status", "--porcelain", "--", *PARTS))
    except (OSError, subprocess.CalledProcessError):
        return None, None


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
