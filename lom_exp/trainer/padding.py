"""Trees of tensors in places of a common size: what differs between runs is filled with zeros.

A run with fewer components than another has smaller parameters. At the end of each axis room is
left for what the largest run has there; an algorithm whose field is `padded` (validation) keeps
what lies in this room at zero, and nothing that it computes may depend on it.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.utils._pytree import tree_leaves, tree_map

Tree = Any  # of tensors


def shapes(tree: Tree) -> list[torch.Size]:
    """Of the leaves, in their order."""
    return [leaf.shape for leaf in tree_leaves(tree)]


def largest(of_runs: Sequence[Sequence[torch.Size]]) -> list[torch.Size]:
    """The shapes with room for those of every run; all have the same axes."""
    return [
        torch.Size(map(max, zip(*of_leaf, strict=True))) for of_leaf in zip(*of_runs, strict=True)
    ]


def padded(tree: Tree, to: Sequence[torch.Size]) -> Tree:
    """The tree with its leaves in places of these shapes."""
    remaining = iter(to)
    return tree_map(lambda leaf: _padded(leaf, next(remaining)), tree)


def cut(tree: Tree, to: Sequence[torch.Size]) -> Tree:
    """The tree without the room that `padded` has left in its leaves."""
    remaining = iter(to)
    return tree_map(lambda leaf: leaf[tuple(map(slice, next(remaining)))], tree)


def _padded(leaf: Tensor, shape: torch.Size) -> Tensor:
    missing = [want - have for want, have in zip(shape, leaf.shape, strict=True)]
    return pad(leaf, list(chain.from_iterable((0, room) for room in reversed(missing))))
