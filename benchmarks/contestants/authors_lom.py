"""The LOM authors' released code (agents/lom.py and what it imports).

A timed update is `train_models()` or, in the mixture's phase, `train_GMM(512)`, as their train.py
and constructor call them: batches drawn by numpy, observations scaled by scikit-learn, copies to
the device, losses, gradients, Adam, and the metrics' `.item()`. Their setting of
walker2d-full-replay is the one with M = 10 and K = 1 that has the same work as our defaults. By
design their hyper-Q sees one component at a time, as a one-hot input: M passes where ours has M
heads. Its constructor would first train the mixture 200,000 updates; that loop is left out.
"""

import contextlib
import tempfile

import numpy as np
import torch
from contestants import (
    ACTION_DIM,
    NUM_TRANSITIONS,
    OBSERVATION_DIM,
    SIZES,
    Case,
    Contestant,
    Unsuitable,
    random_data,
    stand_ins,
    versions,
)
from contestants.torch_side import configure, count, synchronize

SETTING = "walker2d-full-replay-v2"  # K = 1, M = 10, no action noise, smoothing


def prepare(case: Case, path: str | None) -> Contestant:
    """The authors' agent on the random data."""
    if case.method != "lom" or case.runs > 1:
        raise Unsuitable("has LOM only, one run at a time")
    assert path is not None
    fixed = SIZES["lom", case.phase]  # their code has these as literals
    if (case.batch_size, tuple(case.hidden_sizes)) != fixed:
        raise Unsuitable(f"has {fixed} only")
    device = configure(case)
    stand_ins.install("d4rl", "tqdm", "joblib")
    ReplayBuffer = stand_ins.load(path, "replay_buffer.py").ReplayBuffer
    LOM = stand_ins.load(path, "agents/lom.py").LOM
    # One row more than the data: its buffer takes the action of the row after the drawn one.
    buffer = ReplayBuffer(NUM_TRANSITIONS + 1, OBSERVATION_DIM, ACTION_DIM, 0.99)
    buffer.load_dataset(random_data(), compute_return=False)
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):  # it saves a file
        agent = LOM(
            env_name=SETTING,
            replay_buffer=buffer,
            state_dim=OBSERVATION_DIM,
            ac_dim=ACTION_DIM,
            device=device,
            discount=0.99,
            normalise=1,
        )
    behavior = case.phase == "behavior"
    trained = [agent.gmm] if behavior else [agent.policy, agent.mode_net, *agent.q_nets]

    def advance(updates: int) -> int:
        for _ in range(updates):
            if behavior:
                agent.train_GMM(batch_size=case.batch_size)
            else:
                agent.train_models()
        return updates

    return Contestant(advance, synchronize, count(trained), versions(torch, np))
