"""Range test with the process function of a PyTorch-Ignite engine: :func:`range_test`.

The process function is called with its engine, which has no handlers for that time and a state of its own, so nothing
is logged, saved, validated or scheduled. Functions that reach the engine by another name, as methods do by
``self.trainer``, meet that state too.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from lrfinder.checks import check_callable, check_count
from lrfinder.errors import BatchError, MissingDependencyError, SetupError
from lrfinder.finder import LRFinder
from lrfinder.result import RangeTestResult
from lrfinder.training.losses import LossFn
from lrfinder.training.state.reachable import Limits, reachable

try:
    from ignite.engine import Engine
except ImportError as error:
    raise MissingDependencyError("pytorch-ignite", "ignite") from error

__all__ = ["range_test"]

_LIMITS = Limits(entries=1000, objects=10_000)


def range_test(
    engine: Engine,
    loader: Iterable[Any],
    *,
    model: nn.Module,
    optimizer: Any,
    output_transform: Callable[[Any], Any] | None = None,
    accumulation_steps: int | None = None,
    loss_fn: LossFn | None = None,
    also: Sequence[Any] = (),
    pretrained: bool | None = None,
    **range_test_options: Any,
) -> RangeTestResult:
    """Range test by the engine's own process function, before ``engine.run(loader)`` or between two runs.

    Handlers are not called: a clipping, a scaler or a preparation of batches counts where the process function does it.
    Training after it is bit-identical to training without it, as after :meth:`lrfinder.LRFinder.range_test`.

    Args:
        engine: the trainer.
        loader: as for ``engine.run``.
        model: what the process function trains.
        optimizer: what it steps; a list where it steps several.
        output_transform: returns the loss before the update, a number or a tensor of one element, from what the
            process function returns, as ``lambda output: output["loss"]``; None takes that itself.
        accumulation_steps: calls per update, >= 1; None takes the number that ``create_supervised_trainer`` was given,
            and 1 for other process functions. Iterations count on from a multiple of it.
        loss_fn: ``loss_fn(model, batch) -> scalar``, for ``val_loader``.
        also: further objects to restore, as in :class:`lrfinder.LRFinder`.
        pretrained: as in :class:`lrfinder.LRFinder`.
        **range_test_options: of :meth:`lrfinder.LRFinder.range_test`, such as ``end_lr``.

    Raises:
        ConfigError: ``accumulation_steps`` below 1, or another argument out of its range.
        SetupError: no engine; a process function that makes no update, or makes it at another call.
        BatchError: the output transformed is no loss.

    Example:
        >>> import torch
        >>> from ignite.engine import create_supervised_trainer
        >>> _ = torch.manual_seed(0)
        >>> loader = [(torch.randn(32, 8), torch.randint(0, 3, (32,))) for _ in range(8)]
        >>> model = torch.nn.Linear(8, 3)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        >>> trainer = create_supervised_trainer(model, optimizer, torch.nn.CrossEntropyLoss())
        >>> result = range_test(trainer, loader, model=model, optimizer=optimizer)
        >>> result.curve.stop.name, trainer.state.iteration
        ('DIVERGED', 0)
    """
    if not isinstance(engine, Engine):
        raise SetupError(
            f"engine must be the trainer, an ignite.engine.Engine; got a {type(engine).__name__}. "
            "Write range_test(engine, loader, model=model, optimizer=optimizer)."
        )
    check_callable("output_transform", output_transform, "output_transform(output)")
    calls = _own_calls(engine) if accumulation_steps is None else check_count("accumulation_steps", accumulation_steps)
    with _apart(engine, loader, calls), _updates_counted(optimizer) as updates:
        process = partial(_processed, engine, output_transform or _same)
        step = _step(process, calls, updates, _scalers(engine))
        given: dict[str, Any] = {"step_fn": step, "loss_fn": loss_fn, "accumulation_steps": calls}
        finder = LRFinder(model, optimizer, also=also, pretrained=pretrained, **given)
        return finder.range_test(loader, **range_test_options)


def _step(
    process: Callable[[Any], Any], calls: int, updates: Callable[[], int] | None, scalers: list[Any]
) -> Callable[[Any], tuple[Any, bool]]:
    """``step_fn`` that calls the process function once for each batch of an update."""

    def step(drawn: Any) -> tuple[Any, bool]:
        scales = [scaler.get_scale() for scaler in scalers]
        losses, made = [], []
        for batch in [drawn] if calls == 1 else drawn:
            before = updates() if updates is not None else 0
            losses.append(process(batch))
            made.append(updates() - before if updates is not None else 1)
        skipped = any(scaler.get_scale() < scale for scaler, scale in zip(scalers, scales, strict=True))
        if updates is not None and not skipped and (any(made[:-1]) or not made[-1]):
            raise _no_such_update(made)
        return sum(losses[1:], losses[0]) / calls, not skipped

    vars(step)["form"] = "trainer"  # for the printed lines
    return step


def _scalers(engine: Engine) -> list[Any]:
    """The GradScalers that the process function refers to."""
    walked = reachable([engine._process_function, vars(engine.state)], _LIMITS, apart=(DataLoader, Dataset, Sampler))
    return [item for item in walked if issubclass(type(item), torch.amp.GradScaler)]


def _processed(engine: Engine, output_transform: Callable[[Any], Any], batch: Any) -> Any:
    """The loss that the process function returns, called as a run of the engine calls it."""
    state = engine.state
    state.iteration += 1
    if state.epoch_length:
        state.epoch = (state.iteration - 1) // state.epoch_length + 1
    state.batch, state.output = batch, None
    state.output = engine._process_function(engine, batch)
    return _checked(output_transform(state.output))


def _same(output: Any) -> Any:
    return output


def _checked(loss: Any) -> Any:
    if isinstance(loss, (float, int)) and not isinstance(loss, bool):
        return loss
    if isinstance(loss, Tensor) and loss.numel() == 1:
        return loss.detach().reshape(())
    shape = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else f"a {type(loss).__name__}"
    raise BatchError(
        f"the output of the engine's process function is {shape}, not the loss before the update. Give "
        'output_transform, which returns the loss from it: output_transform=lambda output: output["loss"].'
    )


def _no_such_update(made: list[int]) -> SetupError:
    """Error for a number of calls that makes no update, or makes it at another call than the last."""
    if not any(made):
        number = "one call" if len(made) == 1 else f"{len(made)} calls"
        return SetupError(
            f"the engine's process function made no update with this optimizer in {number}. Where it makes one at "
            "every n-th call, give accumulation_steps=n; else give the optimizer that it steps."
        )
    first = next(call for call, count in enumerate(made, 1) if count)
    return SetupError(
        f"accumulation_steps is {len(made)}, but the engine's process function made an update at call {first} of them. "
        f"Give accumulation_steps={first}."
    )


def _own_calls(engine: Engine) -> int:
    """Calls per update of a process function made by Ignite, which has it as a variable; 1 for others."""
    function = engine._process_function
    if not str(getattr(function, "__module__", "")).startswith("ignite."):
        return 1
    return int(inspect.getclosurevars(function).nonlocals.get("gradient_accumulation_steps", 1))


@contextlib.contextmanager
def _apart(engine: Engine, loader: Any, calls: int) -> Iterator[None]:
    """Context in which the engine has no handlers, and a state of its own as in a run that begins or goes on."""
    before, state = dict(vars(engine)), copy.copy(engine.state)
    for name, value in vars(engine.state).items():
        setattr(state, name, copy.copy(value) if type(value) in (dict, list, set) else value)
    unlimited = state.max_epochs is None and getattr(state, "max_iters", None) is None  # which 0.5.4 sets in a run
    if unlimited or engine._is_done(state):
        state.iteration, state.max_epochs = 0, state.max_epochs or 1
        state.epoch_length = engine._get_data_length(loader)
    state.iteration -= state.iteration % calls
    state.epoch, state.dataloader = max(state.epoch, 1), loader
    try:
        vars(engine).update(state=state, _event_handlers=defaultdict(list))
        yield
    finally:
        for name in vars(engine).keys() - before.keys():
            delattr(engine, name)
        vars(engine).update(before)


@contextlib.contextmanager
def _updates_counted(optimizer: Any) -> Iterator[Callable[[], int] | None]:
    """Context that yields a function returning the updates made in it; None for optimizers without torch's hooks."""
    parts = optimizer if isinstance(optimizer, (list, tuple)) else [optimizer]
    made = 0

    def count(*_: Any) -> None:
        nonlocal made
        made += 1

    with contextlib.ExitStack() as hooks:
        hooked = all(hasattr(part, "_optimizer_step_post_hooks") for part in parts)
        for part in parts if hooked else ():
            hooks.callback(part.register_step_post_hook(count).remove)
        yield (lambda: made) if hooked else None
