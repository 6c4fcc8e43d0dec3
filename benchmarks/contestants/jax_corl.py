"""JAX-CORL's single-file implementations (algos/*.py).

A timed call is their loop's `jax.random.split` and jitted `update_n_times`, which samples from the
data on the device and does `n_jitted_updates` = 8 updates in one compiled call; the stretch ends
with a wait for the result. Several runs are one `jax.vmap` of that call over states and keys,
which is ours: the repository trains one run at a time. Hidden layers are set to those of the case.
By design its critics in TD3+BC and AWAC and its V in IQL have layer normalization, which ours and
CORL's have not, and its AWAC moves the target critics in one of eight updates.
"""

import os
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
from contestants import (
    ACTION_DIM,
    OBSERVATION_DIM,
    Case,
    Contestant,
    Unsuitable,
    random_data,
    stand_ins,
    versions,
)

# The file, its algorithm, the function that makes a state, and the settings that size networks.
METHODS = {
    "td3_bc": ("td3bc", "TD3BC", "create_td3bc_train_state", ("hidden_dims",)),
    "iql": ("iql", "IQL", "create_iql_train_state", ("hidden_dims",)),
    "awac": (
        "awac",
        "AWAC",
        "create_awac_train_state",
        ("actor_hidden_dims", "critic_hidden_dims"),
    ),
    "cql": ("cql", "CQL", "create_cql_train_state", ("hidden_dims",)),
}
XLA_FLAGS = "--xla_gpu_triton_gemm_any=True"  # what each of their files asks for
SINGLE_THREAD = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
GPU_MEMORY = "0.02"  # of it, reserved: the other contestants need some, too


def start(case: Case) -> None:
    """Make jax's backend before their files are imported, which overwrite its flags.

    On a CPU its pools get as many threads as it sees cores, so it is shown `threads` of them.
    Raises Unsuitable where jax has no such device.
    """
    cores = os.sched_getaffinity(0)
    if case.device == "cpu":
        os.sched_setaffinity(0, sorted(cores)[: case.threads])
    flags = [XLA_FLAGS] if case.device == "cuda" else []
    if case.device == "cpu":
        os.environ["JAX_PLATFORMS"] = "cpu"
        flags += [SINGLE_THREAD] if case.threads == 1 else []
    os.environ["XLA_FLAGS"] = " ".join(flags)
    os.environ["XLA_PYTHON_CLIENT_MEM_FRACTION"] = GPU_MEMORY
    precision = {"highest": "highest", "high": "tensorfloat32"}[case.precision]
    jax.config.update("jax_default_matmul_precision", precision)
    found = jax.devices()[0].platform
    os.sched_setaffinity(0, cores)
    if (found == "cpu") != (case.device == "cpu"):
        raise Unsuitable(f"jax has a {found} and no {case.device}")


def transitions(Transition: Any) -> Any:
    """The random data as the file's Transition."""
    data = random_data()
    ends = data["terminals"]
    data |= {"dones": ends, "dones_float": ends}
    return Transition(**{name: jnp.asarray(data[name]) for name in Transition._fields})


def num_parameters(state: Any) -> int:
    """Of the networks that have an optimizer and are no targets."""
    trained = [
        field.params
        for name, field in state._asdict().items()
        if hasattr(field, "opt_state") and "target" not in name
    ]
    return sum(np.size(leaf) for leaf in jax.tree_util.tree_leaves(trained))


def prepare(case: Case, path: str | None) -> Contestant:
    """Their jitted update on their state, as the end of the method's file makes them."""
    if case.method not in METHODS:
        raise Unsuitable(f"has {', '.join(METHODS)} only")
    assert path is not None
    start(case)
    stand_ins.install("d4rl", "gym", "omegaconf", "pydantic", "tqdm", "wandb")
    file, algorithm, create, widths = METHODS[case.method]
    peer = stand_ins.load(path, f"algos/{file}.py")
    config = peer.config
    config.batch_size = case.batch_size
    for name in widths:
        setattr(config, name, tuple(case.hidden_sizes))
    if case.method == "cql":
        config.action_dim, config.target_entropy = ACTION_DIM, -float(ACTION_DIM)
    data = transitions(peer.Transition)
    example = jnp.zeros(OBSERVATION_DIM), jnp.zeros(ACTION_DIM)

    def init(key: jax.Array) -> Any:
        return getattr(peer, create)(key, *example, config)

    def update(state: Any, key: jax.Array, data: Any) -> Any:
        return getattr(peer, algorithm).update_n_times(state, data, key, config)[0]

    split = jax.random.split
    if case.runs > 1:
        init, update = jax.vmap(init), jax.vmap(update, in_axes=(0, 0, None))
        split = jax.vmap(jax.random.split)
    update = jax.jit(update)
    keys = jnp.stack([jax.random.PRNGKey(seed) for seed in range(case.runs)])
    keys = keys if case.runs > 1 else keys[0]
    state = init(keys)
    parameters = num_parameters(state) // case.runs

    def advance(updates: int) -> int:
        nonlocal keys, state
        calls = -(-updates // config.n_jitted_updates)
        for _ in range(calls):
            both = split(keys)
            keys, now = both[..., 0, :], both[..., 1, :]
            state = update(state, now, data)
        return calls * config.n_jitted_updates

    def synchronize() -> None:
        jax.block_until_ready(state)

    return Contestant(advance, synchronize, parameters, versions(jax, flax, optax, np))
