"""Errors that a user can mend; they need no torch, so whatever only reads folders starts fast."""


class LomExpError(Exception):
    """An error a user can mend; its message names the culprit, the value and the remedy."""


class ConfigError(LomExpError):
    """A setting that cannot be run, found before any work is done."""


class DataError(LomExpError):
    """A dataset that cannot be found, read or trusted."""


class SimulationError(LomExpError):
    """An evaluation environment that cannot be made, or not faithfully."""


class CheckpointError(LomExpError):
    """A checkpoint that cannot be written or must not be loaded."""
