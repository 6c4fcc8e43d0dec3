"""One update of an algorithm for several runs at once, as a function of tensors alone.

Shapes: n classes of runs, which share the update (`sharing`); leaves lead with n, but for a single
run that is not vectorized.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from torch import Tensor, vmap
from torch.utils._pytree import tree_leaves

from lom_exp.random import Rng
from lom_exp.trainer.compiling import Compiled
from lom_exp.trainer.sharing import Access
from lom_exp.trainer.stacks import Place, gather
from lom_exp.types import Metrics, State, Transitions, Update

Parts = dict[str, Any]  # of a State, by name


def static_part(config: Any) -> tuple[Any, dict[str, float]]:
    """A config in which all that may differ within a pack is None, and its float fields.

    That is these, and the fields that are declared `validation.padded`.
    """
    floats = {
        field.name: getattr(config, field.name)
        for field in fields(config)
        if field.type in (float, "float")
    }
    free = floats.keys() | {field.name for field in fields(config) if "padded" in field.metadata}
    static = object.__new__(type(config))  # whose constructor would check ranges
    for field in fields(config):
        value = None if field.name in free else getattr(config, field.name)
        object.__setattr__(static, field.name, value)
    return static, floats


def padded_sizes(config: Any) -> tuple[int, ...]:
    """The fields of a config that are declared `validation.padded`."""
    return tuple(
        getattr(config, field.name) for field in fields(config) if "padded" in field.metadata
    )


class Hyperparameters:
    """The fields of a config as an algorithm reads them, some of them tensors."""

    def __init__(self, names: Sequence[str], config: Any, floats: Mapping[str, Any]) -> None:
        for name in names:
            setattr(self, name, floats[name] if name in floats else getattr(config, name))


def check_metrics(metrics: Metrics) -> None:
    """Raise TypeError for a metric that is not one number."""
    for name, value in metrics.items():
        if not isinstance(value, Tensor) or value.dim():
            raise TypeError(f"the metric {name} must be a 0-d tensor: a mean over the batch")


class Step:
    """An update of a phase for any classes of runs.

    Called with the parts it writes, stacks of the parts it only reads with the places in these of
    each class, seeds (n,), float fields (n,) and the number of the update, it returns the new parts
    and metrics (n,). `in_place` it changes the parts that it was given and returns none.
    """

    def __init__(
        self,
        update: Update,
        phase: str,
        access: Access,
        kind: type[State],
        config: Any,
        data: Transitions,
        *,
        vectorize: bool,
        in_place: bool,
        compile: bool,
    ) -> None:
        self.access = access
        names = [field.name for field in fields(config)]
        part_names = kind._fields

        def one(
            parts: Parts, seed: Tensor, floats: dict[str, Tensor], number: Tensor
        ) -> tuple[Parts, Metrics]:
            state = kind(**{name: parts.get(name) for name in part_names})
            hyperparameters = Hyperparameters(names, config, floats)
            state, metrics = update(state, data, hyperparameters, Rng.of(seed, phase, number))
            check_metrics(metrics)
            return {name: getattr(state, name) for name in access.writes}, metrics

        batched = vmap(one, in_dims=(0, 0, 0, None)) if vectorize else one

        def step(
            owned: Parts,
            sources: dict[str, dict[int, Any]],
            places: dict[str, tuple[Place, ...]],
            seeds: Tensor,
            floats: dict[str, Tensor],
            number: Tensor,
        ) -> tuple[Parts, Metrics]:
            read = {name: gather(sources[name], places[name], vectorize) for name in sources}
            written, metrics = batched({**owned, **read}, seeds, floats, number)
            if not in_place:
                return written, metrics
            _overwrite(tree_leaves(owned), tree_leaves(written))
            return {}, metrics

        self.call: Callable[..., tuple[Parts, Metrics]] = Compiled(step) if compile else step


def _overwrite(old: list[Tensor], new: list[Tensor]) -> None:
    # An update may hand on a leaf in another place, from where it must be read before it changes.
    moved = [any(value is leaf for leaf in old) for value in new]
    new = [value.clone() if moves else value for value, moves in zip(new, moved, strict=True)]
    for there, value in zip(old, new, strict=True):
        there.copy_(value)
