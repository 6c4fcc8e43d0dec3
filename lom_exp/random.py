"""Counter-based random numbers: a pure function of (seed, phase, update, stream, position).

SplitMix64 (Steele, Lea and Flood, 2014, "Fast splittable pseudorandom number generators") used as
a hash of a counter. Nothing here holds state, so a run draws the same numbers alone, in a pack of
runs or after a resume; a new stream shifts no other, and a longer phase shifts no later phase.
The integers behind every draw are the same on every device; normals agree to float rounding.
"""

import math
import zlib
from typing import NamedTuple

import torch
from torch import Tensor


def _signed(x: int) -> int:
    """The two's-complement int64 with the bits of the unsigned x."""
    return x - (1 << 64) if x >> 63 else x


_GOLDEN, _MULTIPLIER_1, _MULTIPLIER_2 = map(
    _signed, (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)


def _mix(x: Tensor) -> Tensor:
    """SplitMix64's finalizer. int64 products wrap; the masks make the right shifts logical."""
    x = (x ^ ((x >> 30) & ((1 << 34) - 1))) * _MULTIPLIER_1
    x = (x ^ ((x >> 27) & ((1 << 37) - 1))) * _MULTIPLIER_2
    return x ^ ((x >> 31) & ((1 << 33) - 1))


def name_key(name: str) -> int:
    """A number for a phase's or stream's name; to the compiler a constant (Trainer says so)."""
    return zlib.crc32(name.encode())


class Rng(NamedTuple):
    """The random numbers of one run at one update of one phase."""

    key: Tensor  # int64, 0-d: the run's seed and the phase
    update: Tensor  # int64, 0-d: updates done before this one in the phase

    @staticmethod
    def of(seed: Tensor, phase: str, update: Tensor) -> "Rng":
        """The generator of the run with this seed (int64, 0-d) at an update of a phase."""
        return Rng(_mix(_mix(seed * _GOLDEN) ^ name_key(phase)), update)

    def bits(self, stream: str, shape: tuple[int, ...]) -> Tensor:
        """64 random bits for each position, as int64."""
        key = _mix(_mix(self.key + self.update * _GOLDEN) ^ name_key(stream))
        # Xor, where SplitMix64 adds: the compiler folds sums into index arithmetic, and overflows.
        counter = torch.arange(math.prod(shape), device=self.key.device) ^ key
        return _mix(counter * _GOLDEN).view(shape)

    def uniform(self, stream: str, shape: tuple[int, ...]) -> Tensor:
        """In [0, 1), multiples of 2^-24: exactly the same numbers in float32 and in float64."""
        bits = (self.bits(stream, shape) >> 40) & 0xFFFFFF
        return bits.to(torch.get_default_dtype()) * 2.0**-24

    def normal(self, stream: str, shape: tuple[int, ...]) -> Tensor:
        """Standard normal by Box and Muller; magnitudes below 5.8."""
        radius = (-2 * torch.log1p(-self.uniform(stream + "/radius", shape))).sqrt()
        return radius * torch.cos(2 * math.pi * self.uniform(stream + "/angle", shape))

    def integers(self, stream: str, high: int, shape: tuple[int, ...]) -> Tensor:
        """In [0, high), as int64; the modulo's bias is below high / 2^62."""
        return (self.bits(stream, shape) & ((1 << 62) - 1)) % high
