"""Processes that train one model, for the tests of ranks: models, data, fingerprints, and a start of all of them."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

SHARDS = ("shards with an own root", "shards of every layer")
KINDS = ("replicas", *SHARDS) if hasattr(torch.cpu.Stream, "record_event") else ("replicas",)
"""Ways to wrap a model. Torch 2.6 has shards on a GPU alone."""


def start_ranks(world: int, work: Callable[[int, int], Any], folder: Path, backend: str = "gloo") -> list[Any]:
    """What ``work(rank, world)`` returns in each of ``world`` processes of a group, as JSON keeps it."""
    torch.multiprocessing.spawn(_run_rank, args=(world, work, str(folder), backend), nprocs=world)
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(world)]


def _run_rank(rank: int, world: int, work: Callable[[int, int], Any], folder: str, backend: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(backend, init_method=f"file://{folder}/store", rank=rank, world_size=world)
    report = work(rank, world)
    Path(folder, f"rank{rank}.json").write_text(json.dumps(report))
    torch.distributed.destroy_process_group()


def plain_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 3))


def noisy_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 3))


def wide_model() -> nn.Module:
    """Of more weights than the calibration runs have, so that trained ones are swept with a probe."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 256), nn.Tanh(), nn.Linear(256, 256), nn.Linear(256, 3))


def wrapped(kind: str, model: nn.Module) -> nn.Module:
    """The model as ranks train it together."""
    if kind == "replicas":
        return DistributedDataParallel(model)
    layers = [module for module in model if any(True for _ in module.parameters())]
    for layer in layers if kind == "shards of every layer" else layers[1:]:
        fully_shard(layer)
    fully_shard(model)
    return model


def batches(rank: int, world: int, count: int = 10, samples: int = 16) -> list[Any]:
    """Batches of which each rank has its part; all parts together are the same for any number of ranks."""
    generator = torch.Generator().manual_seed(1)
    part = slice(rank * samples // world, (rank + 1) * samples // world)
    inputs = [torch.randn(samples, 6, generator=generator) for _ in range(count)]
    return [(each[part], each[:, :3].argmax(1)[part]) for each in inputs]


def train(model: nn.Module, optimizer: torch.optim.Optimizer, loader: list[Any], steps: int) -> list[float]:
    losses = []
    for step in range(steps):
        inputs, target = loader[step % len(loader)]
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def fingerprint(model: nn.Module, optimizer: torch.optim.Optimizer) -> str:
    """Every bit of the state of one rank: its shards, where the model is sharded."""
    tensors = [*model.parameters(), *model.buffers(), *(p.grad for p in model.parameters() if p.grad is not None)]
    tensors += [value for state in optimizer.state.values() for value in state.values() if torch.is_tensor(value)]
    tensors += [torch.get_rng_state()]
    digest = hashlib.sha256(repr((random.getstate(), np.random.get_state(), optimizer.param_groups[0]["lr"])).encode())
    with torch.no_grad():
        for tensor in tensors:
            local = tensor.to_local() if hasattr(tensor, "to_local") else tensor
            digest.update(local.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()
