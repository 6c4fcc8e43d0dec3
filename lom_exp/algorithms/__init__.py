"""The registry: an algorithm is a module with Config, init, phases and act (types.Algorithm)."""

from lom_exp.algorithms import (
    awac,
    bc,
    cql,
    crr,
    dmpo,
    infodmpo,
    iql,
    lapo,
    lom,
    mdn,
    onestep,
    td3,
    td3_bc,
    wcgan,
    wcvae,
)
from lom_exp.types import Algorithm

REGISTRY: dict[str, Algorithm] = {
    "awac": awac,
    "bc": bc,
    "cql": cql,
    "crr": crr,
    "dmpo": dmpo,
    "infodmpo": infodmpo,
    "iql": iql,
    "lapo": lapo,
    "lom": lom,
    "mdn": mdn,
    "onestep": onestep,
    "td3": td3,
    "td3_bc": td3_bc,
    "wcgan": wcgan,
    "wcvae": wcvae,
}
