"""What only a GPU can show: one command runs it all, ``pytest -m gpu``.

The checks that make sense without a GPU run on the CPU as well, by the same code, so that they are known to work
before a GPU sees them.
"""

from __future__ import annotations

import gc
import itertools
import json
import logging
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from own_steps import step_of
from torch import nn
from torch.utils.checkpoint import checkpoint
from worlds import LateReader, World, devices, loader, mlp, plain, points, training

from lrfinder import Advice, LossCurve, LRFinder, RangeTestResult, StopReason
from lrfinder.training.batches import Batches, worth_prefetching
from lrfinder.training.deferred import READ_EVERY
from lrfinder.training.state import preserved

SWEEP: dict[str, Any] = {"start_lr": 1e-4, "end_lr": 1.0, "num_iter": 30, "early_stop": False}

ADVICE = Advice(max_lr=0.02, base_lr=0.02, min_lr=1e-4, interval=(0.01, 0.04), grade="low", reasons=())

Build = Callable[[str], World]


def world(
    device: str,
    *extra: nn.Module,
    optimizer: Callable[[Any], torch.optim.Optimizer] = lambda parameters: torch.optim.SGD(parameters, 0.05, 0.9),
    **options: Any,
) -> World:
    torch.manual_seed(5)
    model = mlp(*extra).to(device)
    return World(model, optimizer(model.parameters()), loader(), device=device, **options)


def range_test(world: World, *, amp_dtype: torch.dtype | None = None, **options: Any) -> LossCurve:
    finder = LRFinder(
        world.model, world.optimizer, world.criterion, amp_dtype=amp_dtype, grad_scaler=world.scaler
    )
    return finder.range_test(world.loader, progress=False, **options).curve


def convolutional(device: str) -> World:
    torch.manual_seed(5)
    model = nn.Sequential(
        nn.Unflatten(1, (1, 2, 3)),
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Dropout2d(0.2),
        nn.Flatten(),
        nn.Linear(48, 3),
    ).to(device)
    return World(model, torch.optim.SGD(model.parameters(), 0.05, 0.9), loader(), device=device)


WORLDS: dict[str, Build] = {
    "SGD with momentum": lambda device: world(device),
    "Nesterov": lambda device: world(device, optimizer=lambda p: torch.optim.SGD(p, 0.05, 0.9, nesterov=True)),
    "AdamW": lambda device: world(device, optimizer=torch.optim.AdamW),
    "AdamW, fused": lambda device: world(device, optimizer=lambda p: torch.optim.AdamW(p, fused=True)),
    "AMSGrad": lambda device: world(device, optimizer=lambda p: torch.optim.Adam(p, amsgrad=True)),
    "BatchNorm": lambda device: world(device, nn.BatchNorm1d(16)),
    "dropout": lambda device: world(device, nn.Dropout(0.5)),
    "convolution, BatchNorm and dropout": convolutional,
    "GradScaler": lambda device: world(device, scaler=torch.amp.GradScaler(device, init_scale=2.0**12)),
}

builds = pytest.mark.parametrize("build", WORLDS.values(), ids=WORLDS)


# --- no trace ---------------------------------------------------------------------------------------------------------


@devices
@builds
@pytest.mark.parametrize("warm_up", [0, 3], ids=["fresh", "warm"])
def test_the_state_on_the_device_is_the_same_before_and_after(build: Build, device: str, warm_up: int) -> None:
    world = build(device)
    world.train(warm_up)
    before = world.state()
    range_test(world, amp_dtype=torch.float16 if world.scaler else None, **SWEEP)
    assert world.state() == before


@devices
@builds
def test_training_on_the_device_continues_bit_for_bit(build: Build, device: str) -> None:
    runs = []
    for with_finder in (False, True):
        world = build(device)
        losses = world.train(3)
        if with_finder:
            range_test(world, amp_dtype=torch.float16 if world.scaler else None, **SWEEP)
        losses += world.train(8)
        runs.append((losses, plain(list(world.model.parameters())), plain(world.optimizer.state_dict())))
    assert runs[0] == runs[1]


@devices
def test_a_chosen_range_leaves_no_trace_on_the_device(device: str) -> None:
    one = world(device, nn.Dropout(0.2))
    one.train(2)
    before = one.state()
    curve = range_test(one)
    assert one.state() == before
    assert len(curve) > 30


@devices
@builds
def test_a_trial_search_leaves_no_trace_on_the_device_and_is_repeatable(build: Build, device: str) -> None:
    one = build(device)
    one.train(2)
    before = one.state()
    amp_dtype = torch.float16 if one.scaler else None
    finder = LRFinder(one.model, one.optimizer, one.criterion, amp_dtype=amp_dtype, grad_scaler=one.scaler)
    result = RangeTestResult(curve=finder.range_test(one.loader, progress=False, **SWEEP).curve, advice=ADVICE)
    records = [
        finder.refine(
            result, one.loader, loader(points(32)), schedule="onecycle", total_steps=160, budget=0.6, progress=False
        ).trials
        for _ in range(2)
    ]
    assert one.state() == before
    assert records[0] is not None and records[0].in_stage("confirmation")
    if one.scaler is None:  # the order of float16 sums is no promise of a GPU
        assert records[0] == records[1]


@devices
def test_the_random_state_of_the_device_comes_back(device: str) -> None:
    one = world(device, nn.Dropout(0.5))
    torch.manual_seed(1)
    torch.rand(3, device=device)
    expected = torch.rand(64, device=device)
    torch.manual_seed(1)
    torch.rand(3, device=device)
    range_test(one, **SWEEP)
    assert torch.equal(torch.rand(64, device=device), expected)


@devices
def test_pending_gradients_on_the_device_come_back_as_the_same_tensors(device: str) -> None:
    one = world(device)
    one.train(2)
    gradients = [parameter.grad for parameter in one.model.parameters()]
    values = plain(gradients)
    range_test(one, **SWEEP)
    assert all(p.grad is gradient for p, gradient in zip(one.model.parameters(), gradients, strict=True))
    assert plain(gradients) == values


@devices
def test_a_nan_on_the_device_stops_the_sweep_and_leaves_no_trace(device: str) -> None:
    one = world(device)
    one.train(2)
    one.criterion = lambda output, target: nn.functional.cross_entropy(output, target) / (output.abs().max() < 20)
    before = one.state()
    curve = range_test(one, start_lr=1e-2, end_lr=1e6, num_iter=60, early_stop=False)
    assert curve.stop is StopReason.NONFINITE
    assert curve.nonfinite_lr is not None
    assert one.state() == before


# torch warns that capturable is slower where no graph is captured; the setting is what is looked at here.
@pytest.mark.filterwarnings("ignore:This instance was constructed with capturable=True:UserWarning")
@devices
def test_a_learning_rate_in_a_tensor_on_the_device_stays_that_tensor(device: str) -> None:
    lr = torch.tensor(1e-3, device=device)
    capturable = device == "cuda"
    one = world(device, optimizer=lambda p: torch.optim.Adam(p, lr=lr, capturable=capturable, foreach=capturable))
    one.train(2)
    before = one.state()
    curve = range_test(one, **SWEEP)
    assert one.optimizer.param_groups[0]["lr"] is lr
    assert lr.item() == pytest.approx(1e-3)
    assert lr.device.type == device
    assert one.state() == before
    assert curve.losses[-1] != curve.losses[0]


# --- no synchronisation -----------------------------------------------------------------------------------------------


SWEEPING: dict[str, Build] = {
    name: build for name, build in WORLDS.items() if name != "GradScaler"  # which has to be asked after each update
}


@contextmanager
def no_synchronisation() -> Iterator[None]:
    """Context in which any call that makes the host wait for the device is an error."""
    torch.cuda.synchronize()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns that this mode is a prototype
            torch.cuda.set_sync_debug_mode("error")
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
def test_a_synchronisation_is_detected() -> None:
    with pytest.raises(RuntimeError, match="synchronizing"), no_synchronisation():
        torch.ones(1, device="cuda").item()


@pytest.mark.gpu
@pytest.mark.parametrize("snapshot", ["device", "cpu"])
@pytest.mark.parametrize("amp_dtype", [None, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("build", SWEEPING.values(), ids=SWEEPING)
def test_a_whole_range_test_never_synchronises(
    build: Build, amp_dtype: torch.dtype | None, snapshot: str, caplog: pytest.LogCaptureFixture
) -> None:
    one = build("cuda")
    one.loader = [tuple(tensor.pin_memory() for tensor in batch) for batch in loader(points(64))]
    options = {"amp_dtype": amp_dtype, "snapshot": snapshot, **SWEEP}
    expected = range_test(one, **options)  # what torch sets up once is set up
    with caplog.at_level(logging.INFO, logger="lrfinder"), no_synchronisation():
        curve = range_test(one, **options)
    assert curve == expected
    assert not caplog.records  # of memory that could not be pinned: copies to it wait unseen


@pytest.mark.gpu
def test_accumulation_clipping_and_validation_never_synchronise() -> None:
    one = world("cuda", nn.BatchNorm1d(16))
    batches = [tuple(tensor.pin_memory() for tensor in batch) for batch in loader(points(64))]
    finder = LRFinder(one.model, one.optimizer, one.criterion, clip_grad_norm=1.0, accumulation_steps=2)
    options = {"val_loader": batches, "val_batches": 2, "progress": False, **SWEEP}
    expected = finder.range_test(batches, **options).curve
    with no_synchronisation():
        result = finder.range_test(batches, **options)
    assert result.curve == expected


@pytest.mark.gpu
def test_a_step_of_ones_own_with_two_optimizers_never_synchronises() -> None:
    one = world("cuda", nn.BatchNorm1d(16))
    batches = [tuple(tensor.pin_memory() for tensor in batch) for batch in loader(points(64))]
    first, *rest = one.model.parameters()
    optimizers = [torch.optim.SGD([first], 0.05, 0.9), torch.optim.Adam(rest, 0.01)]
    finder = LRFinder(one.model, optimizers, step_fn=step_of(one.model, optimizers))
    expected = finder.range_test(batches, progress=False, **SWEEP).curve
    with no_synchronisation():
        result = finder.range_test(batches, progress=False, **SWEEP)
    assert result.curve == expected


@pytest.mark.gpu
def test_copying_large_batches_never_synchronises() -> None:
    torch.manual_seed(5)
    model = nn.Linear(4096, 3).to("cuda")
    one = World(model, torch.optim.SGD(model.parameters(), 0.01), None, device="cuda")
    one.loader = [(torch.randn(16, 4096), torch.randint(0, 3, (16,))) for _ in range(4)]
    expected = range_test(one, **SWEEP)
    with no_synchronisation():
        assert range_test(one, **SWEEP) == expected


class Checkpointed(nn.Module):
    """Its backward pass runs another one inside: it makes its activations anew."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.inner = nn.Sequential(nn.Linear(16, 16), nn.Dropout(0.5))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return checkpoint(self.inner, inputs, use_reentrant=True)


BY_HAND: dict[str, Build] = {**SWEEPING, "checkpoint": lambda device: world(device, Checkpointed())}


@devices
@pytest.mark.parametrize("build", BY_HAND.values(), ids=BY_HAND)
def test_a_sweep_is_the_loop_with_the_learning_rate_set_by_hand(build: Build, device: str) -> None:
    swept, by_hand = build(device), build(device)
    torch.manual_seed(6)
    curve = range_test(swept, **SWEEP)
    torch.manual_seed(6)
    losses = []
    for lr, (inputs, target) in zip(curve.lrs, itertools.chain.from_iterable(itertools.repeat(by_hand.loader))):
        by_hand.optimizer.param_groups[0]["lr"] = lr
        by_hand.optimizer.zero_grad()
        loss = by_hand.criterion(by_hand.model(inputs.to(device)), target.to(device))
        loss.backward()
        by_hand.optimizer.step()
        losses.append(loss.item())
    assert list(curve.losses) == losses


@pytest.mark.gpu
def test_losses_read_late_give_the_curve_of_losses_read_at_once() -> None:
    """Also where it diverges, and where the batches are large enough to be prefetched."""
    curves = []
    for read_every in (1, READ_EVERY):
        torch.manual_seed(5)
        model = nn.Linear(4096, 3).to("cuda")
        inputs, target = torch.randn(64, 4096), torch.randn(64, 3)
        one = World(model, torch.optim.SGD(model.parameters(), 0.01), None, nn.MSELoss(), device="cuda")
        one.loader = [(inputs[i : i + 16], target[i : i + 16]) for i in range(0, 64, 16)]
        before = one.state()
        curves.append(LateReader(one, read_every).range_test(one.loader, start_lr=1e-6, end_lr=1e3, num_iter=100))
        assert one.state() == before
    assert curves[0].stop is curves[1].stop is StopReason.DIVERGED
    assert curves[1].lrs == curves[0].lrs
    assert curves[1].losses == curves[0].losses


@devices
def test_prefetched_batches_are_the_batches_in_order(device: str) -> None:
    batches = [(torch.full((70_000,), float(i)), torch.tensor(i)) for i in range(5)]
    drawn = Batches(batches, torch.device(device))
    drawn.peek(1)
    assert worth_prefetching(batches[0], torch.device(device)) == (device == "cuda")
    for i in range(12):
        for inputs, index in drawn.draw(1):
            assert inputs.device.type == index.device.type == device
            assert index.item() == i % 5
            assert bool((inputs == i % 5).all())
    drawn.close()


# --- mixed precision --------------------------------------------------------------------------------------------------


@devices
def test_bfloat16_records_a_curve_close_to_that_of_float32(device: str) -> None:
    full = range_test(world(device), **SWEEP)
    mixed = range_test(world(device), amp_dtype=torch.bfloat16, **SWEEP)
    assert mixed.lrs == full.lrs
    assert mixed.losses != full.losses
    assert mixed.losses[:15] == pytest.approx(full.losses[:15], rel=0.05)


@devices
def test_float16_without_a_scaler_gets_one_of_its_own(device: str) -> None:
    full = range_test(world(device), **SWEEP)
    mixed = range_test(world(device), amp_dtype=torch.float16, **SWEEP)
    assert mixed.losses[:15] == pytest.approx(full.losses[:15], rel=0.05)


@devices
def test_skipped_updates_are_counted_and_repeat_their_learning_rate(device: str) -> None:
    one = world(device, scaler=torch.amp.GradScaler(device, init_scale=2.0**30))
    before = one.state()
    curve = range_test(one, amp_dtype=torch.float16, **SWEEP)
    assert curve.skipped > 0
    assert len(curve) == SWEEP["num_iter"]
    assert curve.batches == len(curve) + curve.skipped
    assert one.state() == before


@devices
def test_a_range_is_chosen_under_a_scaler_whose_scale_is_far_too_large(device: str) -> None:
    one = world(device, scaler=torch.amp.GradScaler(device, init_scale=2.0**30))
    before = one.state()
    curve = range_test(one, amp_dtype=torch.float16)
    assert curve.skipped > 0
    assert curve.config.start_lr == pytest.approx(range_test(world(device)).config.start_lr, rel=1)
    assert one.state() == before


@devices
def test_skipped_updates_shift_no_loss_to_another_learning_rate(device: str) -> None:
    """The weights do not move on a skipped update, so on one batch the curves with and without skips are one."""
    curves = []
    for init_scale in (2.0**8, 2.0**30):
        one = world(device, scaler=torch.amp.GradScaler(device, init_scale=init_scale, growth_interval=10**6))
        one.loader = [next(iter(loader(points(8))))]
        curves.append(range_test(one, amp_dtype=torch.float16, **SWEEP))
    assert [curve.skipped > 0 for curve in curves] == [False, True]
    assert curves[1].lrs == curves[0].lrs
    assert curves[1].losses[:15] == pytest.approx(curves[0].losses[:15], rel=0.05)


# --- where the snapshot lives -----------------------------------------------------------------------------------------


@devices
@pytest.mark.parametrize("snapshot", ["auto", "device", "cpu", "disk"])
def test_the_storage_of_the_snapshot_changes_nothing(device: str, snapshot: str) -> None:
    reference = convolutional(device)
    expected = range_test(reference, **SWEEP), reference.train(5)
    one = convolutional(device)
    before = one.state()
    curve = range_test(one, snapshot=snapshot, **SWEEP)
    assert one.state() == before
    assert (curve, one.train(5)) == expected


@pytest.mark.gpu
@pytest.mark.parametrize("snapshot", ["auto", "device", "cpu", "disk"])
def test_all_memory_on_the_gpu_is_freed(snapshot: str) -> None:
    one = world("cuda", optimizer=torch.optim.AdamW)
    one.train(3)  # cuBLAS takes its workspace, the optimizer its state
    range_test(one, snapshot=snapshot, **SWEEP)
    gc.collect()
    before = torch.cuda.memory_allocated()
    for _ in range(3):
        range_test(one, snapshot=snapshot, **SWEEP)
    gc.collect()
    assert torch.cuda.memory_allocated() == before


@pytest.mark.gpu
def test_a_snapshot_on_the_cpu_takes_no_memory_on_the_gpu() -> None:
    size = 64 * 2**20

    def peak(snapshot: str) -> int:
        model = nn.Linear(4096, 4096, bias=False, device="cuda")
        optimizer = torch.optim.SGD(model.parameters(), 1e-3)
        finder = LRFinder(model, optimizer, loss_fn=lambda model, batch: model(batch).square().mean())
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        finder.range_test([torch.ones(8, 4096)], start_lr=1e-6, end_lr=1e-4, num_iter=10, snapshot=snapshot)
        return torch.cuda.max_memory_allocated() - before

    peak("cpu")  # cuBLAS takes its workspace
    assert peak("device") - peak("cpu") == pytest.approx(size, rel=0.1)
    assert peak("device") - peak("disk") == pytest.approx(size, rel=0.1)


@pytest.mark.gpu
@pytest.mark.parametrize("options", [SWEEP, {}], ids=["given range", "chosen range"])
def test_with_its_snapshot_on_the_cpu_a_sweep_takes_no_more_memory(options: Any) -> None:
    def build() -> World:
        torch.manual_seed(5)
        model = nn.Sequential(nn.Linear(1024, 2048), nn.ReLU(), nn.Linear(2048, 3)).to("cuda")
        batches = [(torch.randn(64, 1024, device="cuda"), torch.randint(0, 3, (64,), device="cuda")) for _ in range(4)]
        one = World(model, torch.optim.AdamW(model.parameters()), batches, device="cuda")
        one.train(3)
        one.optimizer.zero_grad()  # as between two steps: pending gradients would have to be kept
        gc.collect()
        torch.cuda.reset_peak_memory_stats()
        return one

    build()  # cuBLAS takes its workspace
    one = build()
    one.train(20)
    bare = torch.cuda.max_memory_allocated()
    del one
    one = build()
    range_test(one, snapshot="cpu", **options)
    assert torch.cuda.max_memory_allocated() == pytest.approx(bare, abs=2**20)


class Runtime:
    """The real CUDA runtime, with a note of the memory it pinned: addresses and sizes in bytes."""

    def __init__(self, *, taken: bool = False) -> None:
        self.runtime = torch.cuda.cudart()
        self.taken = taken  # register the memory before lrfinder does, so that the runtime refuses it
        self.pinned: dict[int, int] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.runtime, name)

    def cudaHostRegister(self, address: int, size: int, flags: int) -> Any:  # noqa: N802
        if self.taken:
            assert int(self.runtime.cudaHostRegister(address, size, flags)) == 0
        status = self.runtime.cudaHostRegister(address, size, flags)
        if self.taken or int(status) == 0:
            self.pinned[address] = size
        return status

    def cudaHostUnregister(self, address: int) -> Any:  # noqa: N802
        del self.pinned[address]
        return self.runtime.cudaHostUnregister(address)


@pytest.mark.gpu
def test_a_snapshot_on_the_cpu_is_pinned_in_the_memory_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = Runtime()
    monkeypatch.setattr(torch.cuda, "cudart", lambda: runtime)
    one = world("cuda", optimizer=torch.optim.AdamW)
    one.train(2)
    one.optimizer.zero_grad()  # pending gradients would be a second block
    state = one.state()
    with preserved(training(one), storage="cpu"):
        tensors = [*one.model.parameters(), *(t for s in one.optimizer.state.values() for t in s.values())]
        assert len(runtime.pinned) == 1
        assert sum(runtime.pinned.values()) <= sum(tensor.nbytes + 64 for tensor in tensors)
        one.train(3)
    assert one.state() == state
    assert runtime.pinned == {}


@pytest.mark.gpu
def test_memory_that_cannot_be_pinned_serves_and_no_kernel_fails(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    runtime = Runtime(taken=True)
    monkeypatch.setattr(torch.cuda, "cudart", lambda: runtime)
    one = world("cuda")
    before = one.state()
    with caplog.at_level(logging.INFO, logger="lrfinder"):
        range_test(one, snapshot="cpu", **SWEEP)
    assert len(runtime.pinned) == 1 and "could not be pinned" in caplog.text
    for address in list(runtime.pinned):
        runtime.cudaHostUnregister(address)
    assert one.state() == before


@devices
@pytest.mark.parametrize("storage", ["device", "cpu"])
def test_numbers_of_every_type_come_back(device: str, storage: str) -> None:
    model = nn.Linear(3, 2).to(device)
    types = "float64 float32 float16 bfloat16 complex64 int64 int32 int16 int8 uint8 bool uint16 uint32 uint64".split()
    for name in types:
        model.register_buffer(f"of_{name}", torch.tensor([0, 1]).to(device, getattr(torch, name)))
    with preserved(training(World(model, torch.optim.SGD(model.parameters(), 0.1), None)), storage=storage):
        for buffer in model.buffers():
            buffer.copy_(torch.tensor([1, 0]).to(buffer.dtype))
    assert [buffer.cpu().to(torch.complex128).real.tolist() for buffer in model.buffers()] == [[0, 1]] * len(types)


@pytest.mark.gpu
def test_without_room_on_the_gpu_the_snapshot_goes_to_the_cpu(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    one = world("cuda")
    before = one.state()
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device=None: (1000, 10**9))
    with caplog.at_level(logging.INFO, logger="lrfinder"):
        range_test(one, **SWEEP)
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        "the snapshot (0 MB) stays on the CPU"
    ]
    assert one.state() == before


# --- inputs -----------------------------------------------------------------------------------------------------------


class Recorder:
    """A batch that notes how it was moved."""

    moves: list[tuple[str, bool]] = []

    def __init__(self, inputs: torch.Tensor, target: torch.Tensor) -> None:
        self.inputs, self.target = inputs, target

    def to(self, device: torch.device, non_blocking: bool = False) -> Recorder:
        self.moves.append((device.type, non_blocking))
        return Recorder(self.inputs.to(device, non_blocking=non_blocking), self.target.to(device))


@devices
def test_batches_go_to_the_device_of_the_model_without_blocking(device: str) -> None:
    one = world(device)
    Recorder.moves.clear()
    finder = LRFinder(
        one.model, one.optimizer, loss_fn=lambda model, b: nn.functional.cross_entropy(model(b.inputs), b.target)
    )
    finder.range_test([Recorder(*batch) for batch in one.loader], progress=False, **SWEEP)
    assert Recorder.moves == [(device, True)] * SWEEP["num_iter"]


@pytest.mark.gpu
def test_a_pinned_loader_gives_the_curve_of_a_pageable_one() -> None:
    curves = []
    for pinned in (False, True):
        one = world("cuda")
        one.loader = loader(pin_memory=pinned)
        curves.append(range_test(one, **SWEEP))
        assert all(batch[0].is_pinned() == pinned for batch in one.loader)
    assert curves[0] == curves[1]


# --- which device -----------------------------------------------------------------------------------------------------


@pytest.mark.gpu
def test_a_model_on_the_cpu_leaves_the_gpu_alone() -> None:
    code = """
import torch
from lrfinder import LRFinder
model = torch.nn.Linear(4, 3)
batches = [(torch.randn(8, 4), torch.zeros(8, dtype=torch.long))]
LRFinder(model, torch.optim.SGD(model.parameters(), 0.1), torch.nn.CrossEntropyLoss()).range_test(batches)
assert not torch.cuda.is_initialized()
"""
    run = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent.parent, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


@pytest.mark.gpu
def test_a_second_gpu_is_not_touched() -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two CUDA devices")
    torch.rand(3, device="cuda:1")
    random_state, memory = torch.cuda.get_rng_state(1), torch.cuda.memory_allocated(1)
    torch.cuda.reset_peak_memory_stats(1)
    range_test(world("cuda:0", nn.Dropout(0.5)), **SWEEP)
    assert torch.equal(torch.cuda.get_rng_state(1), random_state)
    assert torch.cuda.max_memory_allocated(1) == memory


@pytest.mark.gpu
def test_a_model_on_the_second_gpu_is_trained_there() -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two CUDA devices")
    one = world("cuda:1", nn.Dropout(0.5))
    before = one.state()
    range_test(one, **SWEEP)
    assert one.state() == before
    assert all(parameter.device == torch.device("cuda:1") for parameter in one.model.parameters())


@devices
@pytest.mark.parametrize("amp_dtype", [None, torch.bfloat16, torch.float16], ids=str)
def test_the_lines_to_paste_move_the_batches(device: str, amp_dtype: torch.dtype | None) -> None:
    given = world(device)
    finder = LRFinder(given.model, given.optimizer, given.criterion, amp_dtype=amp_dtype, clip_grad_norm=1.0)
    length = {"epochs": 1, "steps_per_epoch": len(given.loader)}
    code = finder.range_test(given.loader, **SWEEP).recipe("cosine", peak_lr=0.01, **length).code()
    names = {"model": given.model, "optimizer": given.optimizer, "train_loader": given.loader}
    exec(compile(code, "pasted", "exec"), {**names, "criterion": given.criterion})
    assert all(parameter.device.type == device and parameter.isfinite().all() for parameter in given.model.parameters())


@pytest.mark.gpu
def test_a_device_other_than_the_models_is_refused_with_the_line_to_write() -> None:
    one = world("cpu")
    with pytest.raises(ValueError, match=r"the model is on cpu. Move it first, .*model.to\('cuda'\)"):
        LRFinder(one.model, one.optimizer, one.criterion, device="cuda")
    one = world("cuda")
    LRFinder(one.model, one.optimizer, one.criterion, device="cuda")


# Warnings of the compiler about the machine are not ours.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.gpu
def test_a_compiled_model_on_the_gpu_leaves_no_trace() -> None:
    one = world("cuda", nn.Dropout(0.2))
    one.model = torch.compile(one.model)
    one.train(2)
    before = one.state()
    range_test(one, **SWEEP)
    assert one.state() == before


# Warnings of the compiler about the machine are not ours.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.gpu
def test_a_model_compiled_with_cuda_graphs_is_swept_as_the_plain_one() -> None:
    """Its passes share their memory: a loss or a gradient is gone as soon as the next pass begins."""
    found = []
    for compiled in (False, True):
        one = world("cuda")
        if compiled:
            one.model = torch.compile(one.model, mode="reduce-overhead")
        one.train(4)
        before = one.state()
        finder = LRFinder(one.model, one.optimizer, one.criterion)
        result = finder.range_test(one.loader, progress=False)
        record = finder.refine(
            RangeTestResult(curve=result.curve, advice=ADVICE),
            one.loader,
            loader(points(32)),
            schedule="onecycle",
            total_steps=160,
            budget=0.6,
            progress=False,
        ).trials
        assert one.state() == before
        assert record is not None
        found.append((result.curve, record))
    (curve, record), (compiled_curve, compiled_record) = found
    assert compiled_curve.lrs[:20] == curve.lrs[:20]
    assert compiled_curve.losses[:20] == pytest.approx(curve.losses[:20], rel=1e-3)
    # Near the edge a sweep doubles its rounding errors with each step, so it may end a step sooner or later.
    assert abs(len(compiled_curve) - len(curve)) <= 3
    assert [trial.lr for trial in compiled_record.trials] == [trial.lr for trial in record.trials]
    losses = [trial.loss for trial in record.trials]
    assert [trial.loss for trial in compiled_record.trials] == pytest.approx(losses, rel=1e-2)


# --- the command line -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("device", "amp"),
    [("cpu", None), *(pytest.param("cuda", amp, marks=pytest.mark.gpu) for amp in (None, "bf16", "fp16"))],
)
def test_the_command_runs_on_the_device(device: str, amp: str | None, tmp_path: Path) -> None:
    from click.testing import CliRunner

    from lrfinder.cli import main

    arguments = ["run", "squeezenet1_1", "--device", device, "--image-size", "32", "--batch-size", "16"]
    arguments += ["--start-lr", "1e-4", "--end-lr", "1", "--num-iter", "12", "--workers", "0", "--json"]
    arguments += ["--out", str(tmp_path), *(["--amp", amp] if amp else [])]
    run = CliRunner().invoke(main, arguments)
    assert run.exit_code in (0, 1), run.output  # 1: a curve this short may carry no advice
    assert json.loads(run.stdout)
    assert {path.suffix for path in tmp_path.iterdir()} >= {".json", ".png"}
