"""Ignite: trainings with the range test before them are those without it, and its curve is the trainer's own loss."""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lrfinder.errors import BatchError, ConfigError, MissingDependencyError, SetupError

pytest.importorskip("ignite")
from ignite.engine import Engine, Events, create_supervised_trainer  # noqa: E402
from ignite.handlers import Checkpoint, DiskSaver, LRScheduler  # noqa: E402
from ignite.metrics import RunningAverage  # noqa: E402

from lrfinder.integrations.ignite import range_test  # noqa: E402

SWEEP = {"start_lr": 1e-3, "end_lr": 3.0, "num_iter": 10, "progress": False}

pytestmark = pytest.mark.filterwarnings("ignore:CUDA is not available or torch_xla is imported:UserWarning")


@dataclass
class Training:
    """A trainer with handlers, and what they record."""

    engine: Any
    model: nn.Module
    optimizer: Any
    loader: Any
    scaler: Any = None
    extras: dict[str, Any] = field(default_factory=dict)
    seen: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        engine = self.engine
        RunningAverage(output_transform=lambda output: loss_of(output)).attach(engine, "average")
        scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, 3, gamma=0.9)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.record)
        engine.add_event_handler(Events.EPOCH_COMPLETED, LRScheduler(scheduler))

    def record(self, engine: Engine) -> None:
        state, lr = engine.state, self.optimizer.param_groups[0]["lr"]
        inputs = float(state.batch[0].sum())
        self.seen.append((state.iteration, state.epoch, inputs, loss_of(state.output), state.metrics["average"], lr))

    def sweep(self, **options: Any) -> Any:
        options = {"model": self.model, "optimizer": self.optimizer, **self.extras, **SWEEP, **options}
        return range_test(self.engine, self.loader, **options)

    def state(self) -> dict[str, Any]:
        """All that a sweep could leave changed, by value or by identity."""
        values = vars(self.engine)
        return {
            "engine": {name: id(value) for name, value in values.items()},
            "handlers": {event: len(handlers) for event, handlers in values["_event_handlers"].items()},
            "last event": self.engine.last_event_name,
            "state": {name: repr(value) for name, value in vars(self.engine.state).items()},
            "weights": {name: value.tolist() for name, value in self.model.state_dict().items()},
            "modes": [module.training for module in self.model.modules()],
            "gradients": [None if each.grad is None else each.grad.tolist() for each in self.model.parameters()],
            "optimizer": repr(self.optimizer.state_dict()),
            "hooks": [dict(value) for name, value in vars(self.optimizer).items() if "hooks" in name],
            "scaler": self.scaler and self.scaler.state_dict(),
            "random": torch.get_rng_state().tolist(),
        }


def loss_of(output: Any) -> float:
    return float(output["loss"] if isinstance(output, dict) else output)


def batches(samples: int = 64) -> DataLoader[Any]:
    data = TensorDataset(torch.randn(samples, 6), torch.randint(3, (samples,)))
    return DataLoader(data, batch_size=8, shuffle=True)


def parts(double: bool = False) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), nn.Dropout(0.2), nn.ReLU(), nn.Linear(12, 3))
    model = model.double() if double else model
    return model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


def supervised(samples: int = 64, **options: Any) -> Training:
    model, optimizer = parts()
    engine = create_supervised_trainer(model, optimizer, nn.CrossEntropyLoss(), **options)
    scaler = options.get("scaler") or None
    return Training(engine, model, optimizer, batches(samples), scaler)


def scaled(scale: float, steps: int = 1) -> Training:
    scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=5)
    return supervised(amp_mode="amp", scaler=scaler, gradient_accumulation_steps=steps)


def own_function(every: int = 1) -> Training:
    """A process function of one's own, which reads and writes the engine's state, and clips."""
    model, optimizer = parts()

    def process(engine: Engine, batch: Any) -> dict[str, Any]:
        model.train()
        state = engine.state
        assert state.batch is batch
        assert state.output is None
        assert state.dataloader is world.loader
        assert (state.epoch, state.epoch_length) == ((state.iteration - 1) // 8 + 1, 8)
        loss = nn.functional.cross_entropy(model(batch[0]), batch[1]) / every
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        if state.iteration % every == 0:
            optimizer.step()
            optimizer.zero_grad()
        state.metrics["calls"] = state.metrics.get("calls", 0) + 1
        return {"loss": (loss * every).detach(), "calls": state.metrics["calls"]}

    extras = {"output_transform": lambda output: output["loss"], "accumulation_steps": every}
    world = Training(Engine(process), model, optimizer, batches(), None, extras)
    return world


class Method:
    """A process function that is a method, and reaches the engine by an attribute."""

    def __init__(self, model: nn.Module, optimizer: Any) -> None:
        self.model, self.optimizer, self.calls = model, optimizer, 0
        self.trainer = Engine(self.process)

    def process(self, _: Engine, batch: Any) -> Tensor:
        self.calls += 1
        assert self.trainer.state.iteration == self.calls
        self.trainer.fire_event(Events.EXCEPTION_RAISED)  # any event: its handlers are not called
        self.optimizer.zero_grad()
        loss = nn.functional.cross_entropy(self.model(batch[0]), batch[1])
        loss.backward()
        self.optimizer.step()
        return loss.detach()


def method() -> Training:
    model, optimizer = parts()
    return Training(Method(model, optimizer).trainer, model, optimizer, batches())


def closure() -> Training:
    """An optimizer with a closure, and state that the process function puts on the engine."""
    model, _ = parts()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=2)

    def process(engine: Engine, batch: Any) -> float:
        losses = []
        engine.state.total = getattr(engine.state, "total", torch.zeros(())) + 1

        def compute() -> Tensor:
            optimizer.zero_grad()
            losses.append(nn.functional.cross_entropy(model(batch[0]), batch[1]))
            losses[-1].backward()
            return losses[-1]

        optimizer.step(compute)
        if engine.state.total > 9:
            engine.terminate_epoch()
        return losses[0].item()

    return Training(Engine(process), model, optimizer, batches())


def deterministic() -> Training:
    return supervised(deterministic=True)


WORLDS: dict[str, Callable[[], Training]] = {
    "supervised": supervised,
    "accumulated": lambda: supervised(gradient_accumulation_steps=4),
    "scaled": lambda: scaled(2.0**10, 2),
    "overflow": lambda: scaled(3.3e38),
    "own function": own_function,
    "own accumulation": lambda: own_function(2),
    "method": method,
    "closure": closure,
    "deterministic": deterministic,
}
CHOSEN = {"start_lr": None, "end_lr": None, "num_iter": None}  # the range is searched for, which takes more steps


# --- no trace ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WORLDS)
def test_a_training_with_the_range_test_before_it_is_bit_identical(name: str) -> None:
    without = WORLDS[name]()
    without.engine.run(without.loader, max_epochs=2)
    world = WORLDS[name]()
    before = world.state()
    assert len(world.sweep(**(CHOSEN if name in ("supervised", "accumulated", "own function") else {})).curve) >= 10
    assert world.state() == before
    assert world.seen == []
    world.engine.run(world.loader, max_epochs=2)
    assert world.seen == without.seen
    after, expected = world.state(), without.state()
    for part in ("weights", "optimizer", "scaler", "modes", "random", "last event"):
        assert after[part] == expected[part], part


@pytest.mark.parametrize("name", ["supervised", "scaled", "own accumulation"])
def test_between_runs_and_within_one_it_leaves_no_trace(name: str) -> None:
    without = WORLDS[name]()
    without.engine.run(without.loader, max_epochs=2)
    world = WORLDS[name]()

    def within() -> None:
        before = world.state()
        world.sweep()
        assert world.state() == before

    world.engine.add_event_handler(Events.STARTED, within)
    world.engine.add_event_handler(Events.ITERATION_COMPLETED(once=3), within)  # between the batches of an update
    world.engine.add_event_handler(Events.EPOCH_COMPLETED, within)
    world.engine.run(world.loader, max_epochs=2)
    within()
    assert world.seen == without.seen
    assert world.state()["weights"] == without.state()["weights"]


def test_a_run_that_is_resumed_goes_on_as_it_would(tmp_path: Any) -> None:
    def resumed(sweep: bool) -> Training:
        world = supervised(gradient_accumulation_steps=2)
        world.engine.load_state_dict({"iteration": 11, "epoch_length": 8, "max_epochs": 3})
        if sweep:
            before = world.state()
            world.sweep()
            assert world.state() == before
        world.engine.run(world.loader)
        return world

    assert resumed(True).seen == resumed(False).seen


def test_checkpoints_are_written_by_the_run_alone(tmp_path: Any) -> None:
    files = []
    for name, sweep in (("with", True), ("without", False)):
        world = supervised()
        keep = Checkpoint({"model": world.model, "trainer": world.engine}, DiskSaver(str(tmp_path / name)), n_saved=9)
        world.engine.add_event_handler(Events.ITERATION_COMPLETED(every=5), keep)
        if sweep:
            world.sweep()
            assert list((tmp_path / name).iterdir()) == []
        world.engine.run(world.loader, max_epochs=2)
        saved = sorted((tmp_path / name).iterdir())
        files.append([(path.name, repr(torch.load(path, weights_only=False))) for path in saved])
    assert files[0] == files[1]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
@pytest.mark.parametrize("at", [1, 2, 9])
def test_an_exception_in_the_process_function_leaves_no_trace(error: type[BaseException], at: int) -> None:
    model, optimizer = parts()
    criterion = nn.CrossEntropyLoss()
    calls = 0

    def failing(output: Tensor, target: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == at:
            raise error("in the sweep")
        return criterion(output, target)

    world = Training(create_supervised_trainer(model, optimizer, failing), model, optimizer, batches())
    before = world.state()
    with pytest.raises(error):
        world.sweep()
    assert world.state() == before


# --- the curve --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["supervised", "scaled", "accumulated", "own function", "own accumulation"])
def test_the_curve_is_the_loss_of_the_trainer_to_the_last_bit(name: str) -> None:
    world = WORLDS[name]()
    curve = world.sweep(early_stop=False).curve
    count = curve.batches // len(curve)
    assert count == {"supervised": 1, "own function": 1, "accumulated": 4}.get(name, 2)

    @world.engine.on(Events.ITERATION_STARTED)
    def set_lr(engine: Engine) -> None:  # of the sweep, in the trainer's own loop
        world.optimizer.param_groups[0]["lr"] = curve.lrs[min((engine.state.iteration - 1) // count, len(curve) - 1)]

    world.engine.run(world.loader, max_epochs=math.ceil(len(curve) * count / 8))
    own = [seen[3] for seen in world.seen]
    dtype = torch.float32 if name == "own accumulation" else torch.float64  # tensors, or numbers
    own = [torch.tensor(own[i : i + count], dtype=dtype).mean().item() for i in range(0, len(curve) * count, count)]
    assert tuple(own) == curve.losses


def test_losses_in_double_precision_keep_it() -> None:
    model, optimizer = parts(double=True)
    data = [(torch.randn(8, 6, dtype=torch.float64), torch.randint(3, (8,))) for _ in range(4)]
    engine = create_supervised_trainer(model, optimizer, nn.CrossEntropyLoss())
    result = range_test(engine, data, model=model, optimizer=optimizer, **SWEEP)
    engine.run(data, max_epochs=1, epoch_length=1)
    assert engine.state.output == result.curve.losses[0]


def test_updates_that_the_scaler_skips_are_counted() -> None:
    curve = scaled(3.3e38).sweep().curve
    assert curve.skipped > 0
    assert len(curve) >= 10


def test_a_state_without_a_number_of_iterations_is_swept() -> None:
    with_it, without = supervised(), supervised()
    vars(without.engine.state).pop("max_iters")  # up to Ignite 0.5.4, before the first run
    assert without.sweep().curve == with_it.sweep().curve
    assert not hasattr(without.engine.state, "max_iters")


def test_two_optimizers_are_swept_together() -> None:
    model, _ = parts()
    assert isinstance(model, nn.Sequential)
    first, second = torch.optim.SGD(model[:2].parameters(), lr=0.1), torch.optim.AdamW(model[2:].parameters(), lr=0.01)

    def process(_: Engine, batch: Any) -> float:
        model.zero_grad()
        loss = nn.functional.cross_entropy(model(batch[0]), batch[1])
        loss.backward()
        first.step()
        second.step()
        return loss.item()

    result = range_test(Engine(process), batches(), model=model, optimizer=[first, second], **SWEEP)
    assert len(result.curve.group_scales) == 2
    assert (first.param_groups[0]["lr"], second.param_groups[0]["lr"]) == (0.1, 0.01)


def test_a_validation_loss_can_be_swept() -> None:
    world = supervised()
    criterion = nn.CrossEntropyLoss()
    val = [next(iter(batches(8)))]
    before = world.state()
    curve = world.sweep(val_loader=val, loss_fn=lambda model, batch: criterion(model(batch[0]), batch[1])).curve
    assert curve.measured == "after"
    assert world.state() == before


# --- bad input --------------------------------------------------------------------------------------------------------


def test_an_output_that_is_no_loss_is_refused() -> None:
    world = own_function()
    world.extras.clear()
    before = world.state()
    with pytest.raises(BatchError, match=r"is a dict, not the loss .* output_transform=lambda output: output\["):
        world.sweep()
    assert world.state() == before


def test_a_transform_that_cannot_be_called_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"output_transform must be a function, called as output_transform\(output\)"):
        supervised().sweep(output_transform="loss")


@pytest.mark.parametrize("given", [1, 3])
def test_a_wrong_number_of_calls_per_update_is_refused(given: int) -> None:
    message = {1: "no update with this optimizer in one call", 3: "an update at call 2 of them. Give .*=2"}[given]
    with pytest.raises(SetupError, match=message):
        own_function(2).sweep(accumulation_steps=given)


def test_the_wrong_optimizer_is_refused() -> None:
    world = supervised()
    other = torch.optim.SGD(world.model.parameters(), lr=0.1)
    with pytest.raises(SetupError, match="made no update with this optimizer"):
        world.sweep(optimizer=other)


def test_something_else_than_an_engine_is_refused() -> None:
    model, optimizer = parts()
    with pytest.raises(SetupError, match="engine must be the trainer, an ignite.engine.Engine; got a Linear"):
        range_test(nn.Linear(2, 1), [], model=model, optimizer=optimizer)  # type: ignore[arg-type]


def test_a_number_of_calls_below_one_is_refused() -> None:
    with pytest.raises(ConfigError, match="accumulation_steps"):
        supervised().sweep(accumulation_steps=0)


def test_without_ignite_the_error_has_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "lrfinder.integrations.ignite")
    monkeypatch.setitem(sys.modules, "ignite.engine", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "lrfinder\[ignite\]"'):
        importlib.import_module("lrfinder.integrations.ignite")


def test_the_printed_lines_leave_the_loop_to_the_engine() -> None:
    result = WORLDS["supervised"]().sweep(**CHOSEN)
    lines = result.recipe("cosine", peak_lr=0.1, total_steps=9).code()
    assert "trainer: have it call scheduler.step()" in lines and "step_fn" not in lines
