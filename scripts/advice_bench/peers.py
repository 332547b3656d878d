"""What the other finders suggest for a cell, each from its own package and at that package's defaults.

Default range, number of steps, early stop, smoothing and suggestion rule are left alone, with two exceptions:
torch-lr-finder and Ignite start at the optimizer's learning rate, which is 1e-7 here, as in torch-lr-finder's README;
and Ignite, which spreads its sweep over the whole run, gets 100 steps, like the others. Everything runs on the CPU.

Each sweep has a task of its own, built afresh, so all of them start from the same weights and see the same batches.
Only Lightning's are in another order from the second epoch on: it ends an epoch by the loader's length, and the sampler
draws once more when it is run to its end. fastai makes one sweep, on which its four rules are read.

Needs the ``bench`` extra; a package that is missing is left out.
"""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import math
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import util
from pathlib import Path
from typing import Any

from advice_bench.tasks import Cell, Task, build
from torch import Tensor
from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook

__all__ = ["PEERS", "suggest"]

PEERS = ("torch-lr-finder", "Ignite", "fastai valley", "fastai slide", "fastai minimum", "fastai steep", "Lightning")

_LOW = 1e-7  # where a sweep starts that starts at the optimizer's learning rate
_STEPS = 100

# A finder takes a task and a folder for its files and returns, by rule, a suggestion or the error in its place.
Found = dict[str, object]


def _torch_lr_finder(task: Task, folder: str) -> Found:
    """The call of its README; the suggestion is the one that its plot marks."""
    from matplotlib.figure import Figure
    from torch_lr_finder import LRFinder

    finder = LRFinder(task.model, task.optimizer, task.cell.loss)
    finder.range_test(task.loader, end_lr=10, num_iter=_STEPS)
    # A figure that pyplot does not know needs no backend and no closing.
    _, lr = finder.plot(ax=Figure().subplots(), suggest_lr=True)
    return {"torch-lr-finder": lr}


def _ignite(task: Task, folder: str) -> Found:
    """The call of its docs, with ``num_iter``; it adds the epochs it needs, and a step if the loader has one more."""
    from ignite.engine import create_supervised_trainer
    from ignite.handlers import FastaiLRFinder

    trainer = create_supervised_trainer(task.model, task.optimizer, task.cell.loss)
    finder = FastaiLRFinder()
    with finder.attach(trainer, {"model": task.model, "optimizer": task.optimizer}, num_iter=_STEPS) as sweep:
        sweep.run(task.loader)
    return {"Ignite": finder.lr_suggestion()}


def _fastai(task: Task, folder: str) -> Found:
    """One sweep with torch's optimizer instead of fastai's own; a rule that fails does not take the others along."""
    from fastai.callback.schedule import minimum, slide, steep, valley  # also patches lr_find into Learner
    from fastai.data.core import DataLoaders
    from fastai.learner import Learner
    from fastai.optimizer import OptimWrapper
    from fastai.torch_core import default_device, trainable_params

    default_device(False)
    learner = Learner(
        DataLoaders(task.loader, task.loader),
        task.model,
        loss_func=task.cell.loss,
        opt_func=functools.partial(OptimWrapper, opt=type(task.optimizer), **dict(task.cell.options)),
        splitter=trainable_params,
        path=folder,
        model_dir=".",
    )
    errors: Found = {}

    def guarded(rule: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(rule)  # the name is read
        def call(*args: Any) -> Any:
            try:
                return rule(*args)
            except Exception as error:
                errors[rule.__name__] = error
                return math.nan, None

        return call

    with learner.no_bar():
        found = learner.lr_find(show_plot=False, suggest_funcs=tuple(map(guarded, (valley, slide, minimum, steep))))
    return {f"fastai {name}": lr for name, lr in {**found._asdict(), **errors}.items()}


def _lightning(task: Task, folder: str) -> Found:
    """``Tuner.lr_find``, which sets the optimizer's learning rate to its own lowest."""
    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch.tuner import Tuner

    class Module(LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = task.model
            self.lr = _LOW

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            inputs, target = batch
            return task.cell.loss(self.model(inputs), target)

        def configure_optimizers(self) -> Optimizer:
            return task.optimizer

    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=-1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    return {"Lightning": Tuner(trainer).lr_find(Module(), train_dataloaders=task.loader).suggestion()}


@dataclass(frozen=True, kw_only=True)
class Finder:
    """A package that sweeps, by the name Python has for it, and the rules it reads a curve with."""

    module: str
    rules: tuple[str, ...]
    sweep: Callable[[Task, str], Found]


_FINDERS = (
    Finder(module="torch_lr_finder", rules=PEERS[:1], sweep=_torch_lr_finder),
    Finder(module="ignite", rules=PEERS[1:2], sweep=_ignite),
    Finder(module="fastai", rules=PEERS[2:6], sweep=_fastai),
    Finder(module="lightning", rules=PEERS[6:], sweep=_lightning),
)


def suggest(cell: Cell, seed: int, *, cache: Path, folder: str) -> dict[str, dict[str, Any]]:
    """Every installed peer's suggestion.

    Args:
        cell: what would be trained.
        seed: decides weights and order of the data, as in a training.
        cache: where first trainings are kept, for :func:`build`.
        folder: exists; peers keep files in it while they run.

    Returns:
        By rule, in the order of :data:`PEERS`: ``lr``, None where the peer raises or suggests nothing finite;
        ``batches``, the optimizer steps of the sweep; ``why``, the reason for None, else empty.
    """
    rows: dict[str, dict[str, Any]] = {}
    for finder in _FINDERS:
        if util.find_spec(finder.module) is None:
            continue
        task = build(cell, seed, lr=_LOW, cache=cache)
        with tempfile.TemporaryDirectory(dir=folder) as own, _silenced(), _counted() as count:
            try:
                found = finder.sweep(task, own)
            except Exception as error:
                found = dict.fromkeys(finder.rules, error)
        for rule in finder.rules:
            lr, why = _reading(found[rule])
            rows[rule] = {"lr": lr, "batches": count(), "why": why}
    return rows


def _reading(suggestion: Any) -> tuple[float | None, str]:
    if isinstance(suggestion, Exception):
        return None, f"{type(suggestion).__name__}: {suggestion}".partition("\n")[0][:120]
    if suggestion is None:
        return None, "no suggestion"
    lr = float(suggestion)
    return (lr, "") if math.isfinite(lr) else (None, f"suggests {lr}")


@contextlib.contextmanager
def _counted() -> Iterator[Callable[[], int]]:
    """Counts the steps of every optimizer there is: fastai makes its own."""
    steps = 0

    def count(*_: object) -> None:
        nonlocal steps
        steps += 1

    handle = register_optimizer_step_post_hook(count)
    try:
        yield lambda: steps
    finally:
        handle.remove()


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
    finally:
        logging.disable(level)
