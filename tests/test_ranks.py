"""Ranks that train one model, wrapped as replicas or shards: one curve, one reduction per step, and no trace."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from rank_worlds import (
    KINDS,
    SHARDS,
    batches,
    fingerprint,
    noisy_model,
    plain_model,
    start_ranks,
    train,
    wide_model,
    wrapped,
)
from torch import nn
from torch.distributed.algorithms.model_averaging.averagers import PeriodicModelAverager
from torch.distributed.optim import PostLocalSGDOptimizer, ZeroRedundancyOptimizer
from torch.utils.data import DataLoader, TensorDataset

from lrfinder import LRFinder
from lrfinder.training.wrappers import is_main_rank

GIVEN = {"start_lr": 1e-3, "end_lr": 1.0, "num_iter": 16, "early_stop": False}


# --- what the tests run in each process -------------------------------------------------------------------------------


class Reductions:
    """Counts the calls of ``all_reduce`` while it is entered."""

    def __enter__(self) -> Reductions:
        self.calls, self._real = 0, torch.distributed.all_reduce
        torch.distributed.all_reduce = self
        return self

    def __call__(self, *args: Any, **options: Any) -> Any:
        self.calls += 1
        return self._real(*args, **options)

    def __exit__(self, *_: object) -> None:
        torch.distributed.all_reduce = self._real


def trained(kind: str, steps: int, rank: int, world: int, sweep: Any = None) -> dict[str, Any]:
    """Train, sweep where asked, and train on; what came of it."""
    model = wrapped(kind, noisy_model())
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    loader = batches(rank, world)
    torch.manual_seed(50 + rank)  # different on purpose: each rank gets its own back
    train(model, optimizer, loader, steps)
    report: dict[str, Any] = {"before": fingerprint(model, optimizer)}
    if sweep is not None:
        report |= sweep(LRFinder(model, optimizer, nn.CrossEntropyLoss()), loader)
        report["restored"] = fingerprint(model, optimizer) == report["before"]
    report["training after"] = [train(model, optimizer, loader, 6), fingerprint(model, optimizer)]
    return report


def swept(finder: LRFinder, loader: Any) -> dict[str, Any]:
    chosen = finder.range_test(loader, progress=False, snapshot="disk").curve.to_dict()
    given = finder.range_test(loader, progress=False, snapshot="cpu", **GIVEN).curve.to_dict()
    return {"chosen": chosen, "given": given}


def swept_and_refined(finder: LRFinder, loader: Any) -> dict[str, Any]:
    result = finder.range_test(loader, progress=False)
    refined = finder.refine(result, loader, schedule="cosine", total_steps=40, budget=0.75, progress=False)
    assert refined.trials is not None
    return {"chosen": result.curve.to_dict(), "trials": [(trial.lr, trial.loss) for trial in refined.trials.trials]}


def plain_sweep(kind: str | None, rank: int, world: int, accumulation: int = 1) -> dict[str, Any]:
    model = plain_model() if kind is None else wrapped(kind, plain_model())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    finder = LRFinder(model, optimizer, nn.CrossEntropyLoss(), accumulation_steps=accumulation)
    with Reductions() as counted:
        curve = finder.range_test(batches(rank, world), progress=False, **GIVEN).curve
    return {"curve": curve.to_dict(), "reductions": counted.calls}


def alone(rank: int, world: int) -> dict[str, Any]:
    """A model that is not wrapped: each rank has another one, and other data."""
    model = plain_model()
    loader = batches(0, 1)[rank:]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    inside = LRFinder(model, optimizer, nn.CrossEntropyLoss()).range_test(loader, progress=False).curve.to_dict()
    return {"curve": inside, "rank": rank}


class Branches(nn.Module):
    """Words and two branches, of which the second is used on one rank only, and a third on none."""

    def __init__(self, rank: int, sparse: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.Embedding(4, 6, sparse=sparse)
        self.norm = nn.BatchNorm1d(6)
        self.first, self.second, self.third = nn.Linear(6, 3), nn.Linear(6, 3), nn.Linear(6, 3)
        self.rank = rank

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        hidden = self.norm(inputs + self.words((inputs[:, 0] > 0).long()))
        return self.first(hidden) + (self.second(hidden) if self.rank == 1 else 0)


def against_the_wrapper(rank: int, world: int, sparse: bool) -> dict[str, Any]:
    """Losses of a sweep whose learning rate stays, and of a training in which the wrapper reduces the gradients."""

    def replicas() -> tuple[nn.Module, torch.optim.Optimizer]:
        options = {"find_unused_parameters": True, "gradient_as_bucket_view": not sparse}
        model = nn.parallel.DistributedDataParallel(Branches(rank, sparse), **options)
        return model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.0 if sparse else 0.9, weight_decay=0.0)

    model, optimizer = replicas()
    own = torch.tensor(train(model, optimizer, batches(rank, world), 8), dtype=torch.float64)
    torch.distributed.all_reduce(own)
    finder = LRFinder(*replicas(), nn.CrossEntropyLoss())
    same = {"start_lr": 0.1, "end_lr": 0.1 + 1e-9, "num_iter": 8, "early_stop": False}
    curve = finder.range_test(batches(rank, world), progress=False, **same).curve
    return {"training": (own / world).tolist(), "sweep": curve.losses}


def in_two_parts(rank: int, world: int) -> dict[str, Any]:
    """A step of one's own in two parts, between which the gradients are reduced, on a model that is fresh before it."""

    def trainings(sweep: bool) -> dict[str, Any]:
        model = wrapped("replicas", noisy_model())
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        torch.manual_seed(50 + rank)

        def backward(batch: Any) -> torch.Tensor:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(batch[0]), batch[1])
            loss.backward()
            return loss

        report: dict[str, Any] = {}
        if sweep:
            finder = LRFinder(model, optimizer, step_fn=(backward, optimizer.step))
            twin = LRFinder(model, optimizer, nn.CrossEntropyLoss())
            curves = [each.range_test(batches(rank, world), progress=False).curve.losses for each in (finder, twin)]
            report = {"chosen": list(curves[0]), "restored": curves[0] == curves[1]}
        return report | {"training": [train(model, optimizer, batches(rank, world), 6), fingerprint(model, optimizer)]}

    without, with_sweep = trainings(False), trainings(True)
    with_sweep["training without"], with_sweep["training after"] = without["training"], with_sweep["training"]
    return with_sweep


class Skipping(nn.Module):
    """A network of which each forward pass in training leaves out a layer by chance, the same on all ranks."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList([nn.Linear(6, 6) for _ in range(4)])
        self.head = nn.Linear(6, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        left_out = int(torch.randint(4, ())) if self.training else None
        for index, layer in enumerate(self.layers):
            inputs = inputs if index == left_out else inputs + layer(inputs).tanh()
        return self.head(inputs)


def followed(
    rank: int, world: int, model: Callable[[], nn.Module], optimizer: Callable[[Any], torch.optim.Optimizer]
) -> dict[str, Any]:
    """Trainings of a fresh model with a sweep before and without."""

    def training(sweep: bool) -> tuple[dict[str, Any], Any]:
        trained = model()
        updating = optimizer(trained.parameters())
        torch.manual_seed(7)
        loader = batches(rank, world)
        made = swept(LRFinder(trained, updating, nn.CrossEntropyLoss()), loader) if sweep else {}
        return made, [train(trained, updating, loader, 6), fingerprint(trained, updating)]

    (_, without), (made, after) = training(False), training(True)
    return {**made, "restored": True, "training without": without, "training after": after}


def leaving_out_layers(rank: int, world: int) -> dict[str, Any]:
    """A sweep reaches layers that the next step of the training does not reach."""
    replicas = partial(nn.parallel.DistributedDataParallel, find_unused_parameters=True)
    return followed(rank, world, lambda: replicas(Skipping()), partial(torch.optim.SGD, lr=0.1, momentum=0.9))


def with_an_optimizer_around_another(rank: int, world: int, kind: str) -> dict[str, Any]:
    """The state is in an optimizer within the one that is given, or in what counts its steps."""

    def built(parameters: Any) -> torch.optim.Optimizer:
        if kind == "divided":
            options = {"lr": 1e-2, "momentum": 0.9, "parameters_as_bucket_view": True}
            return ZeroRedundancyOptimizer(parameters, optimizer_class=torch.optim.SGD, **options)
        inner = torch.optim.SGD(parameters, lr=1e-2, momentum=0.9)
        return PostLocalSGDOptimizer(inner, PeriodicModelAverager(period=4, warmup_steps=2))

    return followed(rank, world, lambda: wrapped("replicas", noisy_model()), built)


def one_model(rank: int, loader: Any, **options: Any) -> dict[str, Any]:
    model = wrapped("replicas", noisy_model())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    torch.manual_seed(100 + rank)
    before = fingerprint(model, optimizer)
    curve = LRFinder(model, optimizer, nn.CrossEntropyLoss()).range_test(loader, progress=False, **options).curve
    return {"chosen": curve.to_dict(), "restored": fingerprint(model, optimizer) == before}


def sharded_trials(loader: Any) -> dict[str, Any]:
    model = wrapped("shards of every layer", plain_model())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    before = fingerprint(model, optimizer)
    made = swept_and_refined(LRFinder(model, optimizer, nn.CrossEntropyLoss()), loader)
    return {**made, "restored": fingerprint(model, optimizer) == before}


def further(rank: int, world: int) -> dict[str, Any]:
    own = batches(rank, world)
    data = TensorDataset(*(torch.cat(parts) for parts in zip(*own, strict=True)))
    broken = [(inputs * (math.nan if rank == 1 and i >= 6 else 1.0), target) for i, (inputs, target) in enumerate(own)]
    return {
        "shuffled": one_model(rank, DataLoader(data, batch_size=8, shuffle=True)),
        "validated": one_model(rank, own, val_loader=own[:2]),
        "nan on one rank": one_model(rank, broken, **GIVEN),
        "other sizes": one_model(rank, [(inputs[rank:], target[rank:]) for inputs, target in own[rank:]], **GIVEN),
        "shards and trials of other lengths": sharded_trials(own[: 5 if rank else 10]),
    }


def tuned(kind: str | None, rank: int, loader: Any, fails_on: int | None = None) -> dict[str, Any]:
    """A sweep of trained weights, whose loss in eval mode fails on one rank."""
    model = wide_model() if kind is None else wrapped("replicas", wide_model())
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)

    def criterion(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        if rank == fails_on and not output.requires_grad:
            raise ValueError("no targets in eval mode")
        return nn.functional.cross_entropy(output, target)

    def step(batch: Any) -> torch.Tensor:
        optimizer.zero_grad()
        loss = criterion(model(batch[0]), batch[1])
        loss.backward()
        optimizer.step()
        return loss

    before = fingerprint(model, optimizer)
    own = {"step_fn": step} if kind == "own step" else {}
    finder = LRFinder(model, optimizer, criterion, pretrained=True, **own)
    curve = finder.range_test(loader, progress=False, **{**GIVEN, "start_lr": 1e-4, "end_lr": 1e-2}).curve
    made = {"chosen": curve.losses, "probe": curve.probe_losses}  # a rank with fewer batches draws fewer
    return {**made, "restored": fingerprint(model, optimizer) == before}


def probes(rank: int, world: int) -> dict[str, Any]:
    own = batches(rank, world)
    return {
        "probe": tuned("replicas", rank, own),
        "probe beside an own step": tuned("own step", rank, own),
        "probe of the shortest loader": tuned("replicas", rank, own[: 2 if rank else 10]),
        "no probe on one rank": tuned("replicas", rank, own, fails_on=1),
    }


def everything(rank: int, world: int) -> dict[str, Any]:
    report: dict[str, Any] = {"alone": alone(rank, world), "cases": {}}
    report["accumulated"] = plain_sweep("replicas", rank, world, accumulation=4)
    kinds = KINDS if world == 2 else KINDS[:2]  # the more ranks, the longer it takes
    report["curves"] = {kind: plain_sweep(kind, rank, world) for kind in kinds}
    for kind in kinds:
        for name, steps, sweep in (("fresh", 0, swept), ("warm", 3, swept_and_refined)):
            if world == 2 or name == "fresh":
                without = trained(kind, steps, rank, world)
                report["cases"][f"{kind}, {name}"] = trained(kind, steps, rank, world, sweep)
                report["cases"][f"{kind}, {name}"]["training without"] = without["training after"]
    if world == 2:
        report["cases"] |= further(rank, world) | probes(rank, world)
    report["cases"]["a step in two parts"] = in_two_parts(rank, world)
    report["cases"]["layers left out"] = leaving_out_layers(rank, world)
    for kind in ("divided", "averaging"):
        report["cases"][f"{kind} optimizer"] = with_an_optimizer_around_another(rank, world, kind)
    if world == 2:
        report["wrapper"] = {name: against_the_wrapper(rank, world, name == "sparse") for name in ("dense", "sparse")}
    return report


@pytest.fixture(scope="module", params=[2, 4])
def ranks(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return start_ranks(request.param, everything, tmp_path_factory.mktemp("ranks"))


# --- the tests --------------------------------------------------------------------------------------------------------


def test_all_ranks_record_the_same_curves_and_trials(ranks: list[dict[str, Any]]) -> None:
    for case, first in ranks[0]["cases"].items():
        for name in {"given", "chosen", "trials"} & set(first):
            assert all(rank["cases"][case][name] == first[name] for rank in ranks), (case, name)
            assert len(first[name]) > 2


def test_each_rank_gets_its_own_state_back(ranks: list[dict[str, Any]]) -> None:
    restored = [case["restored"] for rank in ranks for case in rank["cases"].values()]
    assert restored and all(restored)


def test_the_training_that_follows_is_that_without_a_finder(ranks: list[dict[str, Any]]) -> None:
    for rank in ranks:
        followed = {name: case for name, case in rank["cases"].items() if "training after" in case}
        assert followed
        for name, case in followed.items():
            assert case["training after"] == case["training without"], name


@pytest.mark.parametrize("name", ["dense", "sparse"])
def test_the_reduction_is_that_of_the_wrapper(ranks: list[dict[str, Any]], name: str) -> None:
    for rank in ranks:
        if "wrapper" in rank:
            made = rank["wrapper"][name]
            assert made["sweep"] == pytest.approx(made["training"], rel=1e-5)


def test_a_nan_on_one_rank_stops_all_at_the_same_iteration(ranks: list[dict[str, Any]]) -> None:
    for curve in (rank["cases"]["nan on one rank"]["chosen"] for rank in ranks if "wrapper" in rank):
        assert curve["stop"] == "nonfinite"
        assert len(curve["losses"]) == 6
        assert curve["nonfinite_lr"] == pytest.approx(curve["lrs"][5])


def test_the_curve_is_that_of_one_process_on_the_joined_batches(ranks: list[dict[str, Any]]) -> None:
    whole = plain_sweep(None, 0, 1)["curve"]
    for made in ranks[0]["curves"].values():
        # Float32 sums in another order.
        assert made["curve"]["losses"] == pytest.approx(whole["losses"], rel=1e-4)
        assert made["curve"]["stop"] == whole["stop"]
        assert made["curve"]["facts"]["batch_size"] == whole["facts"]["batch_size"] == 16


def test_ranks_with_batches_of_other_sizes_know_one_size(ranks: list[dict[str, Any]]) -> None:
    for facts in (rank["cases"]["other sizes"]["chosen"]["facts"] for rank in ranks if "wrapper" in rank):
        assert (facts["batch_size"], facts["loader_batches"]) == (15, 10)  # 8 + 7; the mean of 10 and 9, rounded


def test_a_step_has_one_exchange_and_one_reduction(ranks: list[dict[str, Any]]) -> None:
    steps = GIVEN["num_iter"]
    for rank in ranks:  # and one more, in which they agree once on the parameters that have gradients
        assert rank["curves"]["replicas"]["reductions"] == rank["accumulated"]["reductions"] == 2 * steps + 1
        for kind in {*SHARDS} & {*rank["curves"]}:  # FSDP2 scatters its gradients itself
            assert rank["curves"][kind]["reductions"] == steps


def test_accumulated_replicas_are_one_process_that_accumulates(ranks: list[dict[str, Any]]) -> None:
    whole = plain_sweep(None, 0, 1, accumulation=4)["curve"]
    assert ranks[0]["accumulated"]["curve"]["losses"] == pytest.approx(whole["losses"], rel=1e-4)


def test_trained_weights_have_the_probe_of_one_process(ranks: list[dict[str, Any]]) -> None:
    whole = tuned(None, 0, batches(0, 1))["probe"]
    assert len(whole) == GIVEN["num_iter"]
    for rank in ranks:
        for name in {"probe", "probe beside an own step"} & {*rank["cases"]}:
            assert rank["cases"][name]["probe"] == pytest.approx(whole, rel=1e-4), name


def test_all_ranks_have_a_probe_or_none(ranks: list[dict[str, Any]]) -> None:
    all_cases = [rank["cases"] for rank in ranks if "probe" in rank["cases"]]
    shortest = [cases["probe of the shortest loader"]["probe"] for cases in all_cases]
    assert all(len(probe) == GIVEN["num_iter"] and probe == shortest[0] for probe in shortest)
    assert not any(cases["no probe on one rank"]["probe"] for cases in all_cases)


def test_rank_0_reports_and_a_single_process_does() -> None:
    assert is_main_rank()


def test_a_model_that_is_not_wrapped_is_its_own_ranks(ranks: list[dict[str, Any]]) -> None:
    for rank in ranks:
        loader = batches(0, 1)[rank["alone"]["rank"] :]
        model = plain_model()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        outside = LRFinder(model, optimizer, nn.CrossEntropyLoss()).range_test(loader, progress=False).curve
        assert rank["alone"]["curve"]["losses"] == list(outside.losses)
        assert all(map(math.isfinite, outside.losses))


# --- on a GPU ---------------------------------------------------------------------------------------------------------


def synchronisations(rank: int, world: int) -> dict[str, Any]:
    """How often the host waited for the GPU in a short and in a long sweep of replicas, and the curves."""
    report: dict[str, Any] = {}
    device = torch.device("cuda", rank)
    model = nn.parallel.DistributedDataParallel(plain_model().to(device), device_ids=[rank])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    loader = [(inputs.to(device), target.to(device)) for inputs, target in batches(rank, world)]
    before = [parameter.clone() for parameter in model.parameters()]
    for name, steps in (("warm-up", 8), ("short", 12), ("long", 32)):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            finder = LRFinder(model, optimizer, nn.CrossEntropyLoss())
            curve = finder.range_test(loader, progress=False, **{**GIVEN, "num_iter": steps}).curve
            torch.cuda.set_sync_debug_mode("default")
        waits = [each for each in caught if "synchronizing" in str(each.message)]
        report[name] = {"waits": len(waits), "losses": curve.losses}
    report["restored"] = all(map(torch.equal, before, model.parameters()))
    return report


@pytest.mark.gpu
def test_a_step_of_replicas_on_a_gpu_never_waits_for_it(tmp_path: Path) -> None:
    (report,) = start_ranks(1, synchronisations, tmp_path, backend="nccl")
    assert report["restored"]
    assert report["long"]["waits"] == report["short"]["waits"]
    whole = plain_sweep(None, 0, 1)["curve"]
    assert len(whole["losses"]) == GIVEN["num_iter"]
    assert report["short"]["losses"][0] == pytest.approx(whole["losses"][0], rel=1e-4)
