"""The floating-point type that a run's numbers have."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def default_dtype(name: str) -> Iterator[None]:
    """Make float32 or float64 torch's default, which is every network's and every draw's."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, name))
    try:
        yield
    finally:
        torch.set_default_dtype(before)
