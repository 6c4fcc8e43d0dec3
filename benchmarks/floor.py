"""What the machine can do at most, and how long an update must take on it at least.

Prints the measured ceilings: the rate at which the device copies memory, and those of matrix
products, one large one and batches of the sizes that LOM's networks have.

The floor of an update is the longer of two times: its matrix products at the rate of a large one,
and the bytes it cannot do without at the copy rate. Every parameter that Adam changes costs seven
numbers (it, its gradient and two moments are read, all but the gradient written), a target that
moves two, a parameter that is only read one, and the batches are read. A delayed update counts
where it is made. It is a yardstick and not a law: what fits into a cache is copied faster.

    python -m benchmarks.floor
    python -m benchmarks.floor --device cuda
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.machine import clock, synchronize
from lom_exp.networks import Network
from lom_exp.random import Rng
from lom_exp.types import Algorithm, Transitions

ADAM, MOVED, READ = 7, 2, 1  # numbers that pass through memory for each one of the state
COUNTED = 2  # updates: delayed ones come every second time
WIDTH = 256  # of LOM's networks
ROWS = (256, 1024, 10_240)  # its batches, and the labels of M = 10 components
RUNS = (1, 4, 8, 20, 64)


class Work(NamedTuple):
    """What one update of one run does."""

    gflop: float  # 10^9 operations of its matrix products, gradients included
    bytes: float  # that must pass through memory


def seconds(work: Work, runs: int, ceilings: dict[str, Any], precision: str = "float32") -> float:
    """The floor of one update of each of `runs` runs; `precision` is float32 or tf32."""
    products = work.gflop / ceilings["matmul_gflops"][precision]
    return runs * max(products, work.bytes / (ceilings["copy_gb_per_second"] * 1e9))


def compared(result: dict[str, Any], ceilings: dict[str, Any]) -> dict[str, Any]:
    """A result of a case with its floor, in seconds for all runs, and its ratio to the floor."""
    least = seconds(
        Work(result["gflop"], result["bytes"]), result["runs"], ceilings, result["precision"]
    )
    taken = result["runs"] / result["updates_per_second"]
    return {**result, "floor_seconds": least, "ratio": taken / least}


def work(algorithm: Algorithm, phase: str, config: Any, data: Transitions) -> Work:
    """Counted on the CPU over two updates of one run, whose mean it is."""
    data = Transitions(*(field.cpu() for field in data))
    zero = torch.zeros((), dtype=torch.int64)
    sizes = data.observations.shape[-1], data.actions.shape[-1]
    total = 0.0
    with torch.no_grad():
        state = algorithm.init(*sizes, config, Rng.of(zero, "init", zero))
        state = tree_map(torch.clone, state)  # a target and its network get memory each
        with FlopCounterMode(display=False) as operations:
            for i in range(COUNTED):
                rng, before = Rng.of(zero, phase, zero + i), state
                with _Reads(before, data) as reads:
                    for update in algorithm.phases[phase]:
                        state, _ = update(state, data, config, rng)
                total += _traffic(before, state, reads) + reads.batch_bytes
    return Work(operations.get_total_flops() / COUNTED / 1e9, total / COUNTED)


def _traffic(before: Any, after: Any, reads: "_Reads") -> float:
    """Bytes of the state that an update must move."""
    total = 0.0
    for old, new in zip(_parts(before), _parts(after), strict=True):
        if isinstance(old, Network) and new.updates > old.updates:
            total += ADAM * sum(leaf.nbytes for leaf in tree_leaves(old.params))
            continue
        if isinstance(old, Network):  # its moments are of no use where it is not trained
            old, new = old.params, new.params
        for was, now in zip(tree_leaves(old), tree_leaves(new), strict=True):
            changed = not torch.equal(was, now)
            total += MOVED * was.nbytes if changed else READ * reads.bytes_of(was)
    return total


def _parts(state: Any) -> list[Any]:
    """The networks of a state, and its other tensors."""
    return tree_flatten(state, is_leaf=lambda node: isinstance(node, Network))[0]


class _Reads(TorchDispatchMode):
    """Which tensors of a state are read, how much of them, and the bytes drawn from the data."""

    def __init__(self, state: Any, data: Transitions) -> None:
        super().__init__()
        self._read = {_address(leaf): 0 for leaf in tree_leaves(state)}
        self._data = {_address(field) for field in data}
        self.batch_bytes = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if any(argument.alias_info is not None for argument in func._schema.arguments):
            return result  # a view reads nothing
        for tensor in tree_leaves((args, kwargs)):
            if not isinstance(tensor, Tensor):
                continue
            if _address(tensor) in self._data:
                self.batch_bytes += sum(t.nbytes for t in tree_leaves(result))
            elif _address(tensor) in self._read:
                read = max(self._read[_address(tensor)], tensor.nbytes)
                self._read[_address(tensor)] = read
        return result

    def bytes_of(self, leaf: Tensor) -> int:
        """What was read of a tensor of the state, at least."""
        return min(self._read[_address(leaf)], leaf.nbytes)  # an expanded view seems larger


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def ceilings(device: torch.device, runs: Sequence[int] = RUNS) -> dict[str, Any]:
    """Measured rates of the device, batched products for packs of so many runs. JSON.

    Each is the best of five repeats: what the machine can do, not what it usually does.
    """
    gpu = device.type == "cuda"
    numbers, width, most_rows = (2**28, 8192, 10**6) if gpu else (2**26, 2048, 25_000)
    arrays = torch.ones(2, numbers, device=device)
    copying = _best(partial(arrays[0].copy_, arrays[1]), device)
    del arrays
    precisions = {"float32": "highest", **({"tf32": "high"} if gpu else {})}
    before = torch.get_float32_matmul_precision()
    large, batched = {}, []
    try:
        for name, precision in precisions.items():
            torch.set_float32_matmul_precision(precision)
            large[name] = _product_rate(device, (), width, width)
            batched += [
                {"runs": count, "rows": rows, "precision": name}
                | {"gflops": _product_rate(device, (count,), rows, WIDTH)}
                for rows in ROWS
                for count in runs
                if count * rows <= most_rows  # larger ones are no faster, and slow to measure
            ]
    finally:
        torch.set_float32_matmul_precision(before)
    if gpu:
        torch.cuda.empty_cache()  # what is timed next, in other processes, needs the memory
    return {
        "copy_gb_per_second": 2 * 4 * numbers / copying / 1e9,  # read and written
        "matmul_gflops": large,
        "batched_gflops": batched,  # (runs, rows, 256) times (runs, 256, 256)
    }


def _product_rate(device: torch.device, batch: tuple[int, ...], rows: int, width: int) -> float:
    """GFLOP/s of (*batch, rows, width) times (*batch, width, width)."""
    left = torch.randn(*batch, rows, width, device=device)
    right = torch.randn(*batch, width, width, device=device)
    flop = 2 * left.numel() * width
    return flop / _best(lambda: torch.matmul(left, right), device) / 1e9


def _best(work: Callable[[], Any], device: torch.device, repeats: int = 5) -> float:
    """Seconds of the fastest repeat, each of enough calls that the clock and a launch are small."""

    now = clock(device)

    def timed(calls: int) -> float:
        synchronize(device)
        start = now()
        for _ in range(calls):
            work()
        synchronize(device)
        return (now() - start) / calls

    timed(3)
    calls = max(1, min(1000, round(0.05 / timed(3))))
    return min(timed(calls) for _ in range(repeats))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, help="of torch (default: one a core)")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    found = ceilings(torch.device(arguments.device))
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
