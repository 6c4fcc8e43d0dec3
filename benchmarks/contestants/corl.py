"""CORL's single-file implementations (algorithms/offline/*.py).

A timed update is the body of their training loop but for `wandb.log`: `replay_buffer.sample`, the
batch's `.to(device)`, and `train(batch)` (AWAC: `update(batch)`), which ends in the metrics'
`.item()`. TD3+BC, IQL (Gaussian policy), AWAC and CQL have CORL's widths, and ours are the same.
"""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import torch
from contestants import (
    ACTION_DIM,
    NUM_TRANSITIONS,
    OBSERVATION_DIM,
    Case,
    Contestant,
    Unsuitable,
    random_data,
    stand_ins,
    versions,
)
from contestants.torch_side import configure, count, synchronize
from torch.optim import Adam

S, A = OBSERVATION_DIM, ACTION_DIM
Built = tuple[Callable[[Any], Any], list[torch.nn.Module]]  # an update on a batch, and networks


def td3_bc(peer: ModuleType, case: Case, device: torch.device) -> Built:
    _expect(case, (256, 256))
    actor = peer.Actor(S, A, 1.0).to(device)
    critics = [peer.Critic(S, A).to(device) for _ in range(2)]
    trainer = peer.TD3_BC(
        1.0,
        *_with_adam(actor, *critics),
        policy_noise=0.2,
        noise_clip=0.5,
        policy_freq=2,
        device=device,
    )
    return trainer.train, [actor, *critics]


def iql(peer: ModuleType, case: Case, device: torch.device) -> Built:
    hidden = _equal(case)
    actor = peer.GaussianPolicy(S, A, 1.0, *hidden).to(device)
    critics = peer.TwinQ(S, A, *hidden).to(device)
    value = peer.ValueFunction(S, *hidden).to(device)
    trainer = peer.ImplicitQLearning(1.0, *_with_adam(actor, critics, value), device=device)
    return trainer.train, [actor, critics, value]


def awac(peer: ModuleType, case: Case, device: torch.device) -> Built:
    width = case.hidden_sizes[0]
    _expect(case, (width,) * 3)
    actor = peer.Actor(S, A, width).to(device)
    critics = [peer.Critic(S, A, width).to(device) for _ in range(2)]
    trainer = peer.AdvantageWeightedActorCritic(*_with_adam(actor, *critics))
    return trainer.update, [actor, *critics]


def cql(peer: ModuleType, case: Case, device: torch.device) -> Built:
    _expect(case, (256, 256, 256))
    actor = peer.TanhGaussianPolicy(S, A, 1.0).to(device)
    critics = [peer.FullyConnectedQFunction(S, A, True, 3).to(device) for _ in range(2)]
    pairs = _with_adam(*critics, actor)
    trainer = peer.ContinuousCQL(*pairs, target_entropy=-A, bc_steps=0, device=device)
    return trainer.train, [actor, *critics, trainer.log_alpha]


METHODS = {"td3_bc": td3_bc, "iql": iql, "awac": awac, "cql": cql}


def _with_adam(*networks: torch.nn.Module) -> list[Any]:
    return [x for network in networks for x in (network, Adam(network.parameters(), lr=3e-4))]


def _expect(case: Case, hidden_sizes: tuple[int, ...]) -> None:
    if tuple(case.hidden_sizes) != hidden_sizes:
        raise Unsuitable(f"has hidden layers of {hidden_sizes} only")


def _equal(case: Case) -> tuple[int, int]:
    """Width and number of hidden layers that are all alike."""
    width = case.hidden_sizes[0]
    _expect(case, (width,) * len(case.hidden_sizes))
    return width, len(case.hidden_sizes)


def prepare(case: Case, path: str | None) -> Contestant:
    """The method's trainer and replay buffer, as `train` in its file makes them."""
    if case.method not in METHODS or case.runs > 1:
        raise Unsuitable(f"has {', '.join(METHODS)}, one run at a time")
    assert path is not None
    device = configure(case)
    stand_ins.install("d4rl", "gym", "pyrallis", "wandb", "tqdm")
    peer = stand_ins.load(path, f"algorithms/offline/{case.method}.py")
    peer.set_seed(0)
    buffer = peer.ReplayBuffer(S, A, NUM_TRANSITIONS, str(device))
    buffer.load_d4rl_dataset(random_data())
    update, networks = METHODS[case.method](peer, case, device)

    def advance(updates: int) -> int:
        for _ in range(updates):
            batch = buffer.sample(case.batch_size)
            update([field.to(device) for field in batch])
        return updates

    return Contestant(advance, synchronize, count(networks), versions(torch, np))
