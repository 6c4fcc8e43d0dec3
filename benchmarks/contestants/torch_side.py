"""What the contestants in torch share."""

from collections.abc import Iterable

import torch
from contestants import Case


def configure(case: Case) -> torch.device:
    """Threads and precision as the case wants them."""
    if case.device == "cpu":
        torch.set_num_threads(case.threads)
    torch.set_float32_matmul_precision(case.precision)
    return torch.device(case.device)


def synchronize() -> None:
    """Wait for the GPU, where there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def count(modules: Iterable[torch.nn.Module]) -> int:
    """Parameters of all modules together."""
    return sum(leaf.numel() for module in modules for leaf in module.parameters())
