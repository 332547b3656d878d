"""Prepared objects of Accelerate go straight into the finder, and real trainings with it are those without it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from lrfinder import LRFinder
from lrfinder.errors import ConfigError, SetupError

accelerate = pytest.importorskip("accelerate")
from accelerate.state import AcceleratorState, GradientState, PartialState  # noqa: E402
from accelerate.utils import DataLoaderConfiguration  # noqa: E402

SWEEP = {"start_lr": 1e-3, "end_lr": 3.0, "num_iter": 12, "progress": False}
CLIP = 0.5


def forget_all() -> None:
    AcceleratorState._reset_state(True)
    GradientState._reset_state()


@pytest.fixture(autouse=True)
def no_state_of_other_tests() -> Iterator[None]:
    forget_all()
    yield
    forget_all()


# --- a training -------------------------------------------------------------------------------------------------------


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), nn.Dropout(0.2), nn.ReLU(), nn.Linear(12, 3))


@dataclass
class Training:
    """A real training with Accelerate, and everything that it records."""

    accelerator: Any
    model: Any
    optimizer: Any
    loader: Any
    scheduler: Any
    clip: float | None = None
    criterion: Any = field(default_factory=nn.CrossEntropyLoss)
    seen: list[Any] = field(default_factory=list)
    losses: list[Tensor] = field(default_factory=list)

    def step(self, inputs: Tensor, target: Tensor) -> None:
        accelerator = self.accelerator
        with accelerator.accumulate(self.model):
            loss = self.criterion(self.model(inputs), target)
            accelerator.backward(loss)
            if accelerator.sync_gradients and self.clip is not None:
                accelerator.clip_grad_norm_(self.model.parameters(), self.clip)
            self.optimizer.step()
            self.scheduler.step()
            self.optimizer.zero_grad()
        self.losses.append(loss.detach())
        flags = accelerator.gradient_state
        skipped, lr = self.optimizer.step_was_skipped, self.optimizer.param_groups[0]["lr"]
        epoch = (self.loader.iteration, flags.end_of_dataloader, flags.remainder, accelerator.sync_gradients)
        self.seen.append((float(inputs.sum()), loss.item(), skipped, lr, *epoch))

    def run(self, epochs: int) -> None:
        for _ in range(epochs):
            for inputs, target in self.loader:
                self.step(inputs, target)

    def finder(self, **options: Any) -> LRFinder:
        return LRFinder(self.model, self.optimizer, self.criterion, clip_grad_norm=self.clip, **options)

    def state(self) -> dict[str, Any]:
        """All that a sweep could leave changed, by value."""
        inner = self.optimizer.optimizer
        sampler = getattr(self.loader.batch_sampler, "sampler", None)
        generator = getattr(sampler, "generator", None)
        flags = dict(vars(self.accelerator.gradient_state))
        loaders = [ref and id(ref()) for ref in flags.pop("_dataloader_references_ref")]
        return {
            "weights": {name: value.tolist() for name, value in self.model.state_dict().items()},
            "gradients": [None if each.grad is None else each.grad.tolist() for each in self.model.parameters()],
            "optimizer": repr(inner.state_dict()),
            "wrapper": plain(self.optimizer),
            "scaler": self.optimizer.scaler and self.optimizer.scaler.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "loader": plain(self.loader),
            "base": plain(self.loader.base_dataloader),
            "sampler": {name: plain(sampler).get(name) for name in ("epoch", "initial_seed", "replacement")},
            "generator": None if generator is None else generator.get_state().tolist(),
            "flags": {**flags, "plugin_kwargs": dict(flags["plugin_kwargs"])},
            "loaders": loaders,
            "accelerator": plain(self.accelerator),
            "random": torch.get_rng_state().tolist(),
        }


def plain(item: Any) -> dict[str, Any]:
    """Attributes of an object: numbers and text by value, others by identity."""
    kinds, own = (bool, int, float, str, type(None)), getattr(item, "__dict__", {})
    return {name: value if isinstance(value, kinds) else id(value) for name, value in own.items()}


class Stream(IterableDataset[Any]):
    """Other samples in each pass."""

    def __init__(self, samples: int) -> None:
        self.samples, self.passes = samples, 0

    def __iter__(self) -> Iterator[Any]:
        generator = torch.Generator().manual_seed(self.passes)
        self.passes += 1
        for _ in range(self.samples):
            yield torch.randn(6, generator=generator), torch.randint(3, (), generator=generator)


def training(
    steps: int = 1,
    *,
    clip: float | None = None,
    precision: str = "no",
    samples: int = 64,
    scale: float | None = None,
    stream: bool = False,
    **loading: bool,
) -> Training:
    forget_all()
    torch.manual_seed(0)
    config = DataLoaderConfiguration(**loading)
    accelerator = accelerate.Accelerator(
        cpu=True, mixed_precision=precision, gradient_accumulation_steps=steps, dataloader_config=config
    )
    model, data = network(), TensorDataset(torch.randn(samples, 6), torch.randint(3, (samples,)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 3, gamma=0.9)
    if scale is not None:  # as a GPU's float16 has; Accelerate makes none on a CPU
        accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=5)
    loader: Any = DataLoader(data, batch_size=8, shuffle=True)
    if stream:
        loader = DataLoader(Stream(samples), batch_size=8)
    world = Training(accelerator, *accelerator.prepare(model, optimizer, loader, scheduler), clip=clip)
    if scale is not None:
        world.criterion = lambda output, target: 3 * nn.functional.cross_entropy(output, target)  # 3.3e38 overflows
    return world


KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "seedable": {"use_seedable_sampler": True},
    "dispatcher": {"dispatch_batches": True, "use_seedable_sampler": True},
    "split": {"split_batches": True},
    "stream": {"stream": True, "steps": 2},
    "accumulated": {"steps": 4},
    "uneven": {"steps": 3, "samples": 61, "use_seedable_sampler": True},
    "clipped": {"steps": 4, "clip": CLIP},
    "bfloat16": {"precision": "bf16", "steps": 2, "clip": CLIP},
    "scaled": {"scale": 2.0**10, "steps": 2},
    "overflow": {"scale": 3.3e38},
}
kinds = pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)


# --- no trace ---------------------------------------------------------------------------------------------------------


@kinds
def test_a_training_with_the_finder_before_it_is_bit_identical(options: dict[str, Any]) -> None:
    without = training(**options)
    without.run(2)
    expected = without.state()
    with_finder = training(**options)
    before = with_finder.state()
    sweep = {"progress": False} if len(options) == 1 else SWEEP  # the range is searched for, or given
    assert len(with_finder.finder().range_test(with_finder.loader, **sweep).curve) >= 10
    assert with_finder.state() == before
    with_finder.run(2)
    assert any(seen[2] for seen in without.seen) == (options.get("scale") == 3.3e38)  # updates that were skipped
    assert with_finder.seen == without.seen
    after = with_finder.state()
    for part in ("weights", "optimizer", "scaler", "scheduler", "sampler", "generator", "flags", "random"):
        assert after[part] == expected[part], part
    assert with_finder.accelerator.step == without.accelerator.step


@kinds
def test_between_epochs_and_after_an_update_it_leaves_no_trace(options: dict[str, Any]) -> None:
    without = training(**options)
    without.run(2)
    world, count = training(**options), options.get("steps", 1)
    for _ in range(2):
        world.finder().range_test(world.loader, **SWEEP)
        for number, batch in enumerate(world.loader, 1):
            world.step(*batch)
            if number in (count, 8):  # the last update of an epoch may have fewer batches
                before = world.state()
                world.finder().range_test(world.loader, **SWEEP)
                assert world.state() == before
    assert world.seen == without.seen


class Failing(nn.CrossEntropyLoss):
    """Raises in one call of many."""

    def __init__(self, error: type[BaseException], at: int) -> None:
        super().__init__()
        self.calls, self.error, self.at = 0, error, at

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        self.calls += 1
        if self.calls == self.at:
            raise self.error("in the sweep")
        return super().forward(output, target)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, MemoryError])
@pytest.mark.parametrize("at", [1, 2, 11])
def test_an_exception_in_the_sweep_leaves_no_trace(error: type[BaseException], at: int) -> None:
    without = training(4, use_seedable_sampler=True)
    without.run(2)
    world = training(4, use_seedable_sampler=True)
    world.criterion, before = Failing(error, at), world.state()
    with pytest.raises((error, Exception)):
        world.finder().range_test(world.loader, **SWEEP)
    assert world.state() == before
    world.criterion = nn.CrossEntropyLoss()
    world.run(2)
    assert world.seen == without.seen


def test_a_step_of_ones_own_may_accumulate_with_the_accelerator() -> None:
    without = training(4, use_seedable_sampler=True)
    without.run(2)
    world = training(4, use_seedable_sampler=True)
    accelerator, model, optimizer = world.accelerator, world.model, world.optimizer

    def step(batches: list[Any]) -> Tensor:
        losses = []
        for inputs, target in batches:
            with accelerator.accumulate(model):
                losses.append(nn.functional.cross_entropy(model(inputs), target))
                accelerator.backward(losses[-1])
                optimizer.step()
                optimizer.zero_grad()
        return torch.stack(losses).mean()

    before = world.state()
    curve = LRFinder(model, optimizer, step_fn=step, accumulation_steps=4).range_test(world.loader, **SWEEP).curve
    assert curve.batches == 4 * len(curve)
    assert world.state() == before
    world.run(2)
    assert world.seen == without.seen


def test_a_step_of_ones_own_that_makes_no_update_is_refused_with_the_mend() -> None:
    world = training(4, use_seedable_sampler=True)

    def step(batch: Any) -> Tensor:
        with world.accelerator.accumulate(world.model):
            loss = nn.functional.cross_entropy(world.model(batch[0]), batch[1])
            world.accelerator.backward(loss)
            world.optimizer.step()
            world.optimizer.zero_grad()
        return loss

    with pytest.raises(SetupError, match="step_fn made no update.* Set accumulation_steps=4"):
        LRFinder(world.model, world.optimizer, step_fn=step).range_test(world.loader, **SWEEP)


def test_refining_leaves_no_trace() -> None:
    world = training(2, samples=96, use_seedable_sampler=True)
    world.run(1)
    finder, before = world.finder(), world.state()
    result = finder.range_test(world.loader, progress=False)
    refined = finder.refine(result, world.loader, schedule="cosine", total_steps=200, progress=False)
    assert refined.trials is None or refined.trials.spent <= 50
    assert world.state() == before


# --- the curve --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["plain", "dispatcher", "accumulated", "clipped", "bfloat16", "scaled"])
def test_the_curve_is_the_loss_of_the_training_to_the_last_bit(name: str) -> None:
    world = training(**KINDS[name])
    curve = world.finder().range_test(world.loader, early_stop=False, **SWEEP).curve
    count = KINDS[name].get("steps", 1)
    assert curve.batches == count * len(curve)
    own, lrs = [], iter(curve.lrs)
    while len(own) < len(curve):  # their own loop, at the learning rates of the sweep
        for batch in world.loader:
            if world.accelerator.step % count == 0:
                lr = next(lrs, 0.0)
            world.optimizer.param_groups[0]["lr"] = lr
            world.step(*batch)
            if world.accelerator.sync_gradients:
                parts = [loss / count for loss in world.losses[-count:]]
                own.append(sum(parts[1:], parts[0]).item())
    assert tuple(own[: len(curve)]) == curve.losses


def test_updates_that_the_scaler_skips_are_counted_and_repeated() -> None:
    world = training(scale=3.3e38)
    curve = world.finder().range_test(world.loader, **SWEEP).curve
    assert curve.skipped > 0
    assert len(curve) >= 10
    assert not world.optimizer.step_was_skipped


def test_several_prepared_optimizers_are_swept_together() -> None:
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=2)
    torch.manual_seed(0)
    model = network()
    first, second = torch.optim.SGD(model[:2].parameters(), lr=0.1), torch.optim.AdamW(model[2:].parameters(), lr=0.01)
    data = DataLoader(TensorDataset(torch.randn(64, 6), torch.randint(3, (64,))), batch_size=8)
    model, first, second, loader = accelerator.prepare(model, first, second, data)
    result = LRFinder(model, [first, second], nn.CrossEntropyLoss()).range_test(loader, **SWEEP)
    assert result.curve.batches == 2 * len(result.curve)
    assert (first.param_groups[0]["lr"], second.param_groups[0]["lr"]) == (0.1, 0.01)


# --- bad input --------------------------------------------------------------------------------------------------------


def test_between_the_batches_of_one_update_it_is_refused() -> None:
    world = training(4)
    finder = world.finder()
    result = finder.range_test(world.loader, progress=False)
    for number, batch in enumerate(world.loader, 1):
        world.step(*batch)
        before = world.state()
        if number % 4 == 0:
            finder.range_test(world.loader, **SWEEP)
        else:
            for call in (
                lambda: finder.range_test(world.loader, **SWEEP),
                lambda: finder.refine(result, world.loader, schedule="cosine", total_steps=200),
            ):
                with pytest.raises(SetupError, match="between two of the 4 batches of one update"):
                    call()
        assert world.state() == before


def test_another_number_of_batches_than_prepared_is_refused() -> None:
    with pytest.raises(ConfigError, match="accumulation_steps is 3, .* prepared for 4 batches per update"):
        training(4).finder(accumulation_steps=3)
    assert training(4).finder(accumulation_steps=4).setup.accumulation_steps == 4


def test_a_loop_that_accumulates_by_itself_may_say_so() -> None:
    world = training(1)
    curve = world.finder(accumulation_steps=2).range_test(world.loader, **SWEEP).curve
    assert curve.batches == 2 * len(curve)


def test_a_model_that_makes_its_own_updates_is_refused() -> None:
    class Engine(nn.Linear):
        def backward(self, loss: Tensor) -> None:
            loss.backward()

        def step(self) -> None:
            pass

    accelerator = accelerate.Accelerator(cpu=True)
    model = Engine(2, 1)
    optimizer = accelerator.prepare(torch.optim.SGD(model.parameters(), lr=0.1))
    with pytest.raises(SetupError, match="the model, a Engine, makes its own backward passes and updates.*step_fn"):
        LRFinder(model, optimizer, nn.MSELoss())


# --- the scheduler ----------------------------------------------------------------------------------------------------


def test_a_prepared_scheduler_of_ours_takes_a_step_per_update() -> None:
    world = training(2, samples=64)
    result = world.finder().range_test(world.loader, progress=False)
    peak = result.recipe("cosine", total_steps=4).peak_lr
    world.scheduler = world.accelerator.prepare(result.scheduler("cosine", world.optimizer, total_steps=4))
    world.run(1)
    rates = [seen[3] for seen in world.seen[1::2]]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] < peak
    assert rates[-1] == pytest.approx(0.0, abs=1e-3 * peak)


def test_a_prepared_scheduler_steps_once_per_process() -> None:
    # As README warns: with two processes a schedule of the right length would be over in its middle.
    world = training(1)
    scheduler = world.accelerator.prepare(torch.optim.lr_scheduler.StepLR(world.optimizer, 1, gamma=0.5))
    world.optimizer.step()
    PartialState().num_processes = 2
    scheduler.step()
    assert world.optimizer.param_groups[0]["lr"] == 0.1 * 0.5**2
