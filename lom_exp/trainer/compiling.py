"""torch.compile as a switch: where it fails, training goes on without it."""

import logging
from collections.abc import Callable
from typing import Any

import torch

from lom_exp.random import name_key

log = logging.getLogger(__name__)
_SHAPES = 256  # that one function may be compiled for; the compiler's own limit is eight


def forget() -> None:
    """Drop what was compiled for earlier packs, so that it does not count towards the limit."""
    torch.compiler.reset()


class Compiled:
    """A function that is compiled when it is first called with arguments of some shapes."""

    _warned = False  # in this process

    def __init__(self, function: Callable[..., Any]) -> None:
        import torch._dynamo  # takes a second, so not before it is wanted

        torch.compiler.assume_constant_result(name_key)  # type: ignore[no-untyped-call]
        torch._dynamo.config.recompile_limit = _SHAPES
        self._function = function
        # Left to itself it would take a second pack's sizes for variables, which vmap cannot have.
        self._call: Callable[..., Any] = torch.compile(function, fullgraph=True, dynamic=False)

    def __call__(self, *arguments: Any) -> Any:
        """As the function; nothing was changed by a compilation that failed."""
        try:
            return self._call(*arguments)
        except torch._dynamo.exc.TorchDynamoException as error:
            result = self._function(*arguments)  # raises what is wrong with the function itself
            if not Compiled._warned:
                Compiled._warned = True
                reason = " ".join(str(error).split("\n")[:2]).strip()
                log.warning(
                    "updates cannot be compiled here, so they are done as they are, which is "
                    "slower (%s: %s). A C++ compiler is needed, on a GPU Triton, too; "
                    "compile=false does without",
                    type(error).__name__,
                    reason,
                )
            self._call = self._function
            return result
