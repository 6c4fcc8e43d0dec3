"""What an update has to do for the runs of one group: a step with all that it is called with."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lom_exp.trainer.sharing import Classes
from lom_exp.trainer.stacks import Stacks, Tree
from lom_exp.trainer.steps import Step
from lom_exp.types import Metrics

Sources = dict[str, dict[int, Tree]]  # stacks by the name of a part and the group


class Task:
    """A step for the classes of one group, and the sums of its metrics since they were taken."""

    def __init__(
        self,
        step: Step,
        stacks: Stacks,
        group: int,
        of_runs: Classes,
        seeds: Tensor,
        floats: dict[str, Tensor],
    ) -> None:
        self.step, self.group = step, group
        self.classes = stacks.classes(of_runs, group)
        self._index = {
            run: self.classes.index(own) for run, own in enumerate(of_runs) if own in self.classes
        }
        self._stacks, self._seeds, self._floats = stacks, seeds, floats
        self._sums: Metrics = {}  # (classes,), or 0-d for a single run
        self._summed = False  # whether there is something in them
        access = step.access
        self._places = {
            name: stacks.places(name, self.classes)
            for name in access.reads
            if name not in access.writes
        }
        # What is read, by name, and from the stacks of which groups.
        self.sources = {
            name: sorted({place.group for place in places}) for name, places in self._places.items()
        }

    def do(
        self, number: Tensor, restored: Sequence[Metrics], instead: Sources | None = None
    ) -> None:
        """The update of this number; `instead` has copies of parts to be read in their place.

        `restored` are the sums, of each run, with which those of a checkpoint go on.
        """
        trees = self._stacks.trees
        sources = {
            name: (instead or {}).get(name) or {group: trees[name][group] for group in groups}
            for name, groups in self.sources.items()
        }
        owned = {name: trees[name][self.group] for name in self.step.access.writes}
        written, metrics = self.step.call(
            owned, sources, self._places, self._seeds, self._floats, number
        )
        for name, tree in written.items():
            trees[name][self.group] = tree
        if not self._sums:
            self._sums = {
                name: self._begin(name, value, restored) for name, value in metrics.items()
            }
        if metrics:
            torch._foreach_add_(list(self._sums.values()), list(metrics.values()))
        self._summed = True

    def _begin(self, name: str, value: Tensor, restored: Sequence[Metrics]) -> Tensor:
        before = [restored[run][name] for run in self.classes if name in restored[run]]
        if len(before) < len(self.classes):
            return torch.zeros_like(value)
        return torch.stack(before).reshape(value.shape)

    @property
    def is_ready(self) -> bool:
        """Whether it was done before, so that all is compiled and allocated."""
        return self._summed or bool(self._sums)

    def count_in(self) -> None:
        """Tell that a replayed graph has added to the sums."""
        self._summed = True

    def sums(self, run: int) -> Metrics:
        """A run's sums, 0-d; none where the update is another group's or was not done."""
        if not self._summed or run not in self._index:
            return {}
        index = self._index[run]
        return {name: total.reshape(-1)[index] for name, total in self._sums.items()}

    def clear(self) -> None:
        """Begin the sums anew."""
        for total in self._sums.values():
            total.zero_()
        self._summed = False
