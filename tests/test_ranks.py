"""Two processes that train one model: they record one curve, stop together, and each has its own state restored."""

from __future__ import annotations

import hashlib
import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset

from lrfinder import LRFinder
from lrfinder.training.ranks import is_main_rank, mean_over_ranks

WORLD = 2


# --- what the tests run in each process -------------------------------------------------------------------------------


def plain_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3))


def noisy_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 3))


def batches(part: slice, *, broken_at: int | None = None) -> list[Any]:
    """Ten batches of 16 samples, of which a rank gets its part; from ``broken_at`` on they hold a nan."""
    generator = torch.Generator().manual_seed(1)
    made = []
    for i in range(10):
        inputs = torch.randn(16, 6, generator=generator)
        target = inputs[:, :3].argmax(1)
        if broken_at is not None and i >= broken_at:
            inputs = inputs.fill_(math.nan)
        made.append((inputs[part], target[part]))
    return made


def half(rank: int) -> slice:
    return slice(8 * rank, 8 * rank + 8)


def sweep(model: nn.Module, loader: Any, **options: Any) -> dict[str, Any]:
    """A range test with a warm optimizer: what it recorded, and whether the state is the same after it."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for inputs, target in batches(slice(0, 8))[:2]:
        nn.functional.cross_entropy(model(inputs), target).backward()
        optimizer.step()
    before = fingerprint(model, optimizer)
    curve = LRFinder(model, optimizer, nn.CrossEntropyLoss()).range_test(loader, progress=False, **options).curve
    return {"curve": curve.to_dict(), "restored": fingerprint(model, optimizer) == before, "state": before}


def fingerprint(model: nn.Module, optimizer: torch.optim.Optimizer) -> str:
    """Every bit of the state of one rank."""
    tensors = [*model.parameters(), *model.buffers(), *(p.grad for p in model.parameters() if p.grad is not None)]
    tensors += [value for state in optimizer.state.values() for value in state.values() if torch.is_tensor(value)]
    tensors += [torch.get_rng_state()]
    digest = hashlib.sha256(repr((random.getstate(), np.random.get_state(), optimizer.param_groups[0]["lr"])).encode())
    for tensor in tensors:
        digest.update(tensor.detach().numpy().tobytes())
    return digest.hexdigest()


def run_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting-point", rank=rank, world_size=WORLD
    )
    given = {"start_lr": 1e-3, "end_lr": 10.0, "num_iter": 40}
    report: dict[str, Any] = {
        "main": is_main_rank(),
        "mean": mean_over_ranks(torch.tensor([float(rank)])).item(),
        "mean of nan": mean_over_ranks(torch.tensor(math.nan if rank == 1 else 1.0)).item(),
        "twin": sweep(DistributedDataParallel(plain_model()), batches(half(rank)), **given),
    }
    # Different random states on purpose: each rank must get back its own.
    noisy = DistributedDataParallel(noisy_model())
    torch.manual_seed(100 + rank)
    data = TensorDataset(*(torch.cat(parts) for parts in zip(*batches(half(rank)), strict=True)))
    report["chosen"] = sweep(noisy, DataLoader(data, batch_size=8, shuffle=True))
    broken = batches(half(rank), broken_at=6 if rank == 1 else None)
    report["broken"] = sweep(DistributedDataParallel(plain_model()), broken, **given)
    report["validation"] = sweep(
        DistributedDataParallel(plain_model()), batches(half(rank)), val_loader=batches(half(rank))[:2], **given
    )
    Path(folder, f"rank{rank}.json").write_text(json.dumps(report))
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(run_rank, args=(str(folder),), nprocs=WORLD)
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(WORLD)]


# --- the tests --------------------------------------------------------------------------------------------------------


def test_outside_a_distributed_run_the_mean_is_the_number_itself() -> None:
    assert mean_over_ranks(torch.tensor(2.5)) == 2.5
    assert mean_over_ranks(torch.tensor([2.5])) == 2.5
    assert is_main_rank()


def test_every_rank_gets_the_same_mean_and_one_is_the_main_rank(ranks: list[dict[str, Any]]) -> None:
    assert [rank["mean"] for rank in ranks] == [0.5, 0.5]
    assert all(math.isnan(rank["mean of nan"]) for rank in ranks)
    assert [rank["main"] for rank in ranks] == [True, False]


@pytest.mark.parametrize("scenario", ["twin", "chosen", "broken", "validation"])
def test_ranks_with_different_data_record_one_curve_and_stop_together(
    ranks: list[dict[str, Any]], scenario: str
) -> None:
    assert ranks[0][scenario]["curve"] == ranks[1][scenario]["curve"]
    assert len(ranks[0][scenario]["curve"]["lrs"]) > 3


@pytest.mark.parametrize("scenario", ["twin", "chosen", "broken", "validation"])
def test_each_rank_gets_its_own_state_back_bit_for_bit(ranks: list[dict[str, Any]], scenario: str) -> None:
    assert [rank[scenario]["restored"] for rank in ranks] == [True, True]


def test_the_ranks_did_have_different_random_states(ranks: list[dict[str, Any]]) -> None:
    assert ranks[0]["chosen"]["state"] != ranks[1]["chosen"]["state"]


def test_a_nan_on_one_rank_stops_all_at_the_same_iteration(ranks: list[dict[str, Any]]) -> None:
    for rank in ranks:
        curve = rank["broken"]["curve"]
        assert curve["stop"] == "nonfinite"
        assert len(curve["losses"]) == 6
        assert curve["nonfinite_lr"] == pytest.approx(curve["lrs"][5])


def test_two_ranks_on_half_batches_record_the_curve_of_whole_ones(ranks: list[dict[str, Any]]) -> None:
    whole = sweep(plain_model(), batches(slice(0, 16)), start_lr=1e-3, end_lr=10.0, num_iter=40)
    curve = ranks[0]["twin"]["curve"]
    assert curve["stop"] == whole["curve"]["stop"]
    # Float32 sums in another order; past the stability limit the difference would grow.
    assert curve["losses"][:20] == pytest.approx(whole["curve"]["losses"][:20], rel=1e-4)
    assert curve["facts"]["batch_size"] == whole["curve"]["facts"]["batch_size"] == 16
