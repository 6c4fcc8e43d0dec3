"""The registry: an algorithm is a module with Config, init, phases and act (types.Algorithm)."""

from lom_exp.algorithms import bc, lom
from lom_exp.types import Algorithm

REGISTRY: dict[str, Algorithm] = {"bc": bc, "lom": lom}
