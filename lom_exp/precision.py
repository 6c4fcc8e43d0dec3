"""The floating-point type that a run's numbers have, and how exactly they are multiplied."""

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


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Let a GPU's matrix products of float32 round their factors to 10 bits (TensorFloat-32).

    That is several times as fast; sums are still made in float32. A CPU knows no such thing.
    """
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
