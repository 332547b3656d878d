"""Whatever happens on one rank, all ranks end at once: that one with its own error, the others with one that names it.

All of it happens in the same two processes, one fault after the other, so none leaves a rank out of step.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
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
from torch import Tensor, nn
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from lrfinder import LRFinder
from lrfinder.errors import SetupError
from lrfinder.training import meeting
from lrfinder.training.setup import TrainingSetup

GIVEN: dict[str, Any] = {"start_lr": 1e-3, "end_lr": 1.0, "num_iter": 12, "early_stop": False}


class FaultError(Exception):
    """What goes wrong on a rank in these tests."""


def failing(calls: int, error: type[BaseException] = FaultError) -> Callable[..., None]:
    """A function that raises at this call of it, and later."""
    made = 0

    def count(*_: object) -> None:
        nonlocal made
        made += 1
        if made >= calls:
            raise error("broken on purpose")

    return count


def nothing(*_: object) -> None:
    pass


class Loader:
    """Batches that can be gone through any number of times."""

    def __init__(
        self, items: list[Any], check: Callable[..., None] = nothing, start: Callable[..., None] = nothing
    ) -> None:
        self.items, self.check, self.start = items, check, start

    def __iter__(self) -> Iterator[Any]:
        self.start()
        return self._items()

    def _items(self) -> Iterator[Any]:
        for item in self.items:
            self.check()
            yield item

    def __len__(self) -> int:
        return len(self.items)


class BadStep(torch.optim.SGD):
    check: Callable[..., None] = staticmethod(nothing)

    def step(self, closure: Any = None) -> Any:
        self.check()
        return super().step(closure)


class ManyLosses(torch.optim.LBFGS):
    """Asks for several losses a step."""

    check: Callable[..., None] = staticmethod(nothing)

    def __init__(self, parameters: Any, lr: float, momentum: float) -> None:
        super().__init__(parameters, lr, max_iter=3, line_search_fn="strong_wolfe")

    def step(self, closure: Any) -> Any:
        loss = super().step(closure)
        self.check()
        return loss


def sweep(rank: int, *, check: Any = nothing, loader: Any = None, **options: Any) -> Any:
    """A range test of a wrapped model in which ``check`` is called before each loss."""
    net = wrapped(options.pop("kind", "replicas"), noisy_model())
    next(net.parameters()).requires_grad_(not options.pop("frozen", False))
    optimizer = options.pop("optimizer", BadStep)(net.parameters(), lr=0.1, momentum=0.9)
    optimizer.check = options.pop("in_step", nothing)

    def loss_fn(model: nn.Module, batch: Any) -> Tensor:
        check()
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    train(net, optimizer, batches(rank, 2), options.pop("trained", 0))
    finder = LRFinder(net, optimizer, loss_fn=loss_fn, pretrained=options.pop("pretrained", None))
    if options.pop("uncalled", False):
        return None
    own = Loader(batches(rank, 2)) if loader is None else loader
    if options.pop("refine", False):
        result = LRFinder(net, optimizer, nn.CrossEntropyLoss()).range_test(batches(rank, 2), progress=False)
        val = batches(rank, 2)[:2] if options.pop("val", False) else None
        trials = {"schedule": "cosine", "total_steps": 40, "budget": 0.75, "progress": False}
        return finder.refine(result, own, val, **trials, **options.pop("options", {}))
    return finder.range_test(own, progress=False, **(options or GIVEN))


def tuned(rank: int, check: Callable[..., None]) -> Any:
    """A range test of trained weights, which has a probe, in which ``check`` is called for each batch."""
    net = wrapped("replicas", wide_model())
    finder = LRFinder(net, torch.optim.AdamW(net.parameters()), nn.CrossEntropyLoss(), pretrained=True)
    return finder.range_test(Loader(batches(rank, 2), check), progress=False, **GIVEN)


def in_two_parts(rank: int, check: Callable[..., None]) -> Any:
    """A range test by a step of one's own that writes the learning rate where the check fails."""
    model = wrapped("replicas", noisy_model())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def backward(batch: Any) -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(batch[0]), batch[1])
        loss.backward()
        return loss

    def update() -> None:
        optimizer.step()
        try:
            check()
        except LookupError:
            optimizer.param_groups[0]["lr"] = 7.0

    return LRFinder(model, optimizer, step_fn=(backward, update)).range_test(batches(rank, 2), progress=False, **GIVEN)


def iterator(rank: int) -> Iterator[Any]:
    return iter(batches(rank, 2)[: 7 if rank == 1 else 10])


def late(rank: int, **options: Any) -> Any:
    """As on a GPU, where losses and flags are read some steps later."""
    real = TrainingSetup.reads_late
    TrainingSetup.reads_late = property(lambda setup: True)  # type: ignore[assignment, method-assign]
    try:
        return sweep(rank, **options)
    finally:
        TrainingSetup.reads_late = real  # type: ignore[method-assign]


def interrupted(rank: int, call: int) -> Any:
    """A range test with a Ctrl-C on rank 1 in this call of ``all_reduce``."""
    real, handler = torch.distributed.all_reduce, signal.getsignal(signal.SIGINT)
    count = failing(call, LookupError)

    def reduce(*args: Any, **options: Any) -> Any:
        try:
            count()
        except LookupError:
            if rank == 1 and torch.distributed.all_reduce is reduce:
                torch.distributed.all_reduce = real
                signal.raise_signal(signal.SIGINT)
        return real(*args, **options)

    torch.distributed.all_reduce = reduce
    try:
        return sweep(rank)
    finally:
        torch.distributed.all_reduce = real
        assert signal.getsignal(signal.SIGINT) is handler


def misfit(rank: int) -> Any:
    return (torch.ones(8, 5), torch.zeros(8).long()) if rank == 1 else batches(rank, 2)[3]


def on_rank_1(rank: int, value: Any, other: Any = nothing) -> Any:
    return value if rank == 1 else other


FAULTS: dict[str, Callable[[int], Any]] = {
    "loss at the fourth step": lambda rank: sweep(rank, check=on_rank_1(rank, failing(4))),
    "loss at the first step": lambda rank: sweep(rank, check=on_rank_1(rank, failing(1))),
    "loss after one step of training": lambda rank: sweep(rank, trained=1, check=on_rank_1(rank, failing(1))),
    "loader at the fifth batch": lambda rank: sweep(rank, loader=Loader(batches(rank, 2), on_rank_1(rank, failing(5)))),
    "loader at the first batch": lambda rank: sweep(rank, loader=Loader(batches(rank, 2), on_rank_1(rank, failing(1)))),
    "empty loader": lambda rank: sweep(rank, loader=on_rank_1(rank, [], batches(rank, 2))),
    "no loader at all": lambda rank: sweep(rank, loader=on_rank_1(rank, 5, batches(rank, 2))),
    "called on rank 0 only": lambda rank: sweep(rank, uncalled=rank == 1),
    "another model": lambda rank: sweep(rank, frozen=rank == 1),
    "other arguments": lambda rank: sweep(rank, **{**GIVEN, "num_iter": 12 + rank}),
    "other weights": lambda rank: sweep(rank, pretrained=rank == 1),
    "loader in a probe": lambda rank: tuned(rank, on_rank_1(rank, failing(3))),
    "Ctrl-C in a probe": lambda rank: tuned(rank, on_rank_1(rank, failing(3, KeyboardInterrupt))),
    "other options of trials": lambda rank: sweep(rank, refine=True, options={"warmup_steps": 2 + rank}),
    "another optimizer": lambda rank: sweep(rank, optimizer=on_rank_1(rank, torch.optim.RMSprop, BadStep)),
    "Ctrl-C in a step": lambda rank: sweep(rank, check=on_rank_1(rank, failing(4, KeyboardInterrupt))),
    "Ctrl-C in a row": lambda rank: interrupted(rank, 4),
    "Ctrl-C in a reduction": lambda rank: interrupted(rank, 5),
    "a batch that does not fit": lambda rank: sweep(rank, loader=[*batches(rank, 2)[:3], misfit(rank)]),
    "validation": lambda rank: sweep(
        rank, val_loader=Loader(batches(rank, 2)[:2], on_rank_1(rank, failing(5))), **GIVEN
    ),
    "search for the range": lambda rank: sweep(rank, check=on_rank_1(rank, failing(6)), num_iter=12),
    "optimizer's step": lambda rank: sweep(rank, in_step=on_rank_1(rank, failing(3))),
    "optimizer's step in the search": lambda rank: sweep(rank, in_step=on_rank_1(rank, failing(1)), num_iter=12),
    "step of L-BFGS": lambda rank: sweep(rank, optimizer=ManyLosses, in_step=on_rank_1(rank, failing(3)), **GIVEN),
    "loss of L-BFGS": lambda rank: sweep(rank, optimizer=ManyLosses, check=on_rank_1(rank, failing(7)), **GIVEN),
    "a step that writes its rate": lambda rank: in_two_parts(rank, on_rank_1(rank, failing(4, LookupError))),
    "optimizer's last step": lambda rank: sweep(rank, in_step=on_rank_1(rank, failing(12))),
    "on_step": lambda rank: sweep(rank, on_step=on_rank_1(rank, failing(3)), **GIVEN),
    "snapshot": lambda rank: sweep(rank, snapshot=on_rank_1(rank, "tape", "cpu"), **GIVEN),
    "trial": lambda rank: sweep(rank, refine=True, check=on_rank_1(rank, failing(9))),
    "loader in a trial": lambda rank: sweep(
        rank, refine=True, loader=Loader(batches(rank, 2), on_rank_1(rank, failing(8)))
    ),
    "loader before a trial": lambda rank: sweep(
        rank, refine=True, loader=Loader(batches(rank, 2), start=on_rank_1(rank, failing(1))), val=True
    ),
    "loader of shards": lambda rank: sweep(
        rank, kind=SHARDS[0], loader=Loader(batches(rank, 2), on_rank_1(rank, failing(5))), **GIVEN
    ),
    "loss, read late": lambda rank: late(rank, check=on_rank_1(rank, failing(4))),
    "loader, read late": lambda rank: late(rank, loader=Loader(batches(rank, 2), on_rank_1(rank, failing(5)))),
}
ENDS: dict[str, Callable[[int], Any]] = {
    "iterator": lambda rank: sweep(rank, loader=iterator(rank)),
    "iterator of shards": lambda rank: sweep(rank, kind=SHARDS[0], loader=iterator(rank), **GIVEN),
    "validated, read late": lambda rank: late(
        rank, loader=iterator(rank), val_loader=batches(rank, 2)[:2], **GIVEN
    ),
    "iterator of L-BFGS": lambda rank: sweep(rank, optimizer=ManyLosses, loader=iterator(rank), **GIVEN),
    "iterator, read late": lambda rank: late(rank, loader=iterator(rank)),
}

if len(KINDS) == 1:
    for scenarios in (FAULTS, ENDS):
        for name in [name for name in scenarios if name.endswith("of shards")]:
            del scenarios[name]


def everything(rank: int, world: int) -> dict[str, Any]:
    meeting.ARRIVAL_SECONDS = 3.0
    report: dict[str, Any] = {}
    for name, fault in (FAULTS | ENDS).items():
        started = time.monotonic()
        outcome: dict[str, Any] = {"error": None, "message": "", "stop": None}
        try:
            result = fault(rank)
            outcome |= {"stop": getattr(result, "curve", None) and result.curve.stop.name}
            outcome |= {"losses": result.curve.losses if result is not None else []}
        except BaseException as error:
            outcome |= {"error": type(error).__name__, "message": str(error)}
        report[name] = outcome | {"seconds": time.monotonic() - started}
        if name == "called on rank 0 only":
            torch.distributed.barrier()
    report["former shards"] = refused_shards(rank)
    report["hidden wrapper"] = hidden_wrapper(rank)
    report["parallel layers"] = layers_in_parallel(rank) if len(KINDS) > 1 else True
    report["keys"] = kept_messages(rank)
    report["uneven"] = uneven_gradients(rank)
    report["after all"] = restored_after_a_fault(rank)
    return report


def refused_shards(rank: int) -> str:
    model = torch.distributed.fsdp.FullyShardedDataParallel(noisy_model(), device_id=torch.device("cpu"))
    finder = LRFinder(model, torch.optim.SGD(model.parameters(), lr=0.1), nn.CrossEntropyLoss())
    with pytest.raises(SetupError) as refused:
        finder.range_test(batches(rank, 2), progress=False)
    return str(refused.value)


def hidden_wrapper(rank: int) -> str:
    model = noisy_model()
    outer = wrapped("replicas", model)

    def loss_fn(_: nn.Module, batch: Any) -> Tensor:
        return nn.functional.cross_entropy(outer(batch[0]), batch[1])

    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(SetupError) as refused:
        LRFinder(model, optimizer, loss_fn=loss_fn).range_test(batches(rank, 2), progress=False)
    LRFinder(outer, optimizer, loss_fn=loss_fn).range_test(batches(rank, 2), progress=False, **GIVEN)
    return str(refused.value)


def layers_in_parallel(rank: int) -> bool:
    """Whether a range that is searched for leaves no trace on tensor-parallel layers among whole ones."""
    mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (2,))
    plan = {"0": ColwiseParallel(), "2": RowwiseParallel()}
    model = parallelize_module(plain_model(), mesh, plan)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, foreach=False)
    before = fingerprint(model, optimizer)
    LRFinder(model, optimizer, nn.CrossEntropyLoss()).range_test(batches(0, 1), progress=False)
    return fingerprint(model, optimizer) == before


def kept_messages(rank: int) -> list[int]:
    """Entries of the store of the process group after each of three range tests."""
    counts = []
    for _ in range(3):
        sweep(rank)
        torch.distributed.barrier()
        counts.append(torch.distributed.distributed_c10d._get_default_store().num_keys())
        torch.distributed.barrier()
    return counts


def uneven_gradients(rank: int) -> list[float]:
    """Learning rates of a range that is searched for, of a step in two parts with other gradients on each rank."""
    model = nn.parallel.DistributedDataParallel(nn.Linear(6, 1, bias=False))
    nn.init.ones_(model.module.weight)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def backward(batch: Any) -> Tensor:
        optimizer.zero_grad()
        loss = model(batch[0]).mean() * (3e2 if rank == 1 else 3e4)
        loss.backward()
        return loss

    finder = LRFinder(model, optimizer, step_fn=(backward, optimizer.step))
    return list(finder.range_test(batches(rank, 2), progress=False).curve.lrs)


def restored_after_a_fault(rank: int) -> bool:
    model = wrapped("replicas", noisy_model())
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    train(model, optimizer, batches(rank, 2), 3)
    before = fingerprint(model, optimizer)
    with pytest.raises(BaseException, match="broken"):
        finder = LRFinder(model, optimizer, nn.CrossEntropyLoss())
        finder.range_test(Loader(batches(rank, 2), on_rank_1(rank, failing(5))), progress=False)
    return fingerprint(model, optimizer) == before


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return start_ranks(2, everything, tmp_path_factory.mktemp("faults"))


@pytest.mark.parametrize("name", [*FAULTS, *ENDS])
def test_a_fault_on_one_rank_ends_all_ranks_soon(ranks: list[dict[str, Any]], name: str) -> None:
    assert max(rank[name]["seconds"] for rank in ranks) < 30


@pytest.mark.parametrize("name", FAULTS)
def test_the_failing_rank_raises_its_own_error_and_the_other_names_it(ranks: list[dict[str, Any]], name: str) -> None:
    healthy, broken = (rank[name] for rank in ranks)
    if name == "called on rank 0 only":
        assert healthy["error"] == "RankError" and "rank 1 of 2 did not call" in healthy["message"]
    elif name in ("another model", "another optimizer", "other arguments", "other weights", "other options of trials"):
        assert healthy["error"] == broken["error"] == "RankError"
        assert healthy["message"] == broken["message"]
        assert healthy["message"].startswith("the ranks have different values of ")
    elif name == "optimizer's last step":  # there is no exchange after it
        assert (healthy["error"], broken["error"]) == (None, "FaultError")
    else:
        assert healthy["error"] == "RankError"
        assert healthy["message"].startswith("rank 1 failed")
        assert broken["error"] not in (None, "RankError")
        assert broken["error"] in healthy["message"]


@pytest.mark.parametrize("name", ENDS)
def test_data_that_ends_on_one_rank_ends_the_sweep_on_all(ranks: list[dict[str, Any]], name: str) -> None:
    for rank in ranks:
        assert rank[name]["stop"] == "DATA_EXHAUSTED"
        assert rank[name]["losses"] == ranks[0][name]["losses"]
        assert len(rank[name]["losses"]) == 7


def test_the_state_is_restored_on_all_ranks_after_a_fault(ranks: list[dict[str, Any]]) -> None:
    assert [rank["after all"] for rank in ranks] == [True, True]


def test_gradients_of_other_sizes_give_all_ranks_one_range(ranks: list[dict[str, Any]]) -> None:
    assert ranks[0]["uneven"] == ranks[1]["uneven"]


def test_messages_between_the_ranks_do_not_pile_up(ranks: list[dict[str, Any]]) -> None:
    assert len(set(ranks[0]["keys"])) == 1


def test_shards_of_the_former_wrapper_are_refused_on_all_ranks(ranks: list[dict[str, Any]]) -> None:
    assert ranks[0]["former shards"] == ranks[1]["former shards"]
    assert "fully_shard" in ranks[0]["former shards"]


def test_parallel_layers_among_whole_ones_are_swept_and_restored(ranks: list[dict[str, Any]]) -> None:
    assert [rank["parallel layers"] for rank in ranks] == [True, True]


def test_a_model_inside_the_wrapper_that_trains_it_is_refused(ranks: list[dict[str, Any]]) -> None:
    assert ranks[0]["hidden wrapper"] == ranks[1]["hidden wrapper"]
    assert ranks[0]["hidden wrapper"].startswith("the model is the one inside a DistributedDataParallel")
