# Over 250 lines: four adapters of one form, which three benchmarks need in one place.
"""Adapters to the other learning-rate finders, each through the calls of its own package.

Three benchmarks use them. A finder is prepared, run, and asked for what it suggests:

    run = PEERS["fastai"].prepare(model, optimizer, criterion, loader, How(folder=folder))
    suggest = run()      # the whole range test, ending with the state restored; this is what is timed
    by_rule = suggest()  # learning rates by rule

``prepare`` builds what a user has for training anyhow: fastai's Learner, Lightning's Trainer and module, Ignite's
engine. Its arguments are the model and the optimizer (on one device), ``criterion(output, target) -> scalar``, a loader
of ``(inputs, target)`` and a :class:`How`.

Needs the ``bench`` extra; :func:`installed` tells whether a package is there.
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
from dataclasses import asdict, dataclass
from importlib import util
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook

__all__ = ["LOWEST", "PEERS", "RULES", "How", "Peer", "Sweep", "UnsupportedError", "installed", "silenced"]
__all__ += ["suggestions"]

Suggestions = dict[str, object]  # by rule: a learning rate, None, or the exception raised in its place
Run = Callable[[], Callable[[], Suggestions]]
Criterion = Callable[[Any, Any], Tensor]
STEPS = 100  # default of the other packages, given to Ignite too
LOWEST = 1e-7  # where the other finders begin, as in the README of torch-lr-finder


class UnsupportedError(Exception):
    """What a package cannot do, as a sentence for the tables."""


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Exactly ``num_iter`` steps from ``start_lr`` to ``end_lr``, without early stopping."""

    start_lr: float
    end_lr: float
    num_iter: int


@dataclass(frozen=True, kw_only=True)
class How:
    """How the finders run.

    Args:
        folder: exists; fastai and Lightning keep the state in it meanwhile.
        sweep: None leaves each package's own range, number of steps, early stopping and smoothing alone, with two
            exceptions: torch-lr-finder and Ignite start at the optimizer's learning rate, and Ignite makes 100
            steps, as the others do.
        bfloat16: mixed precision.
    """

    folder: str
    sweep: Sweep | None = None
    bfloat16: bool = False


def torch_lr_finder(model: nn.Module, optimizer: Optimizer, criterion: Criterion, loader: Any, how: How) -> Run:
    """The calls of its README. It suggests only when it plots: the learning rate that the plot marks."""
    from matplotlib.figure import Figure
    from torch_lr_finder import LRFinder, lr_finder
    from tqdm import tqdm

    lr_finder.tqdm = functools.partial(tqdm, disable=True)  # it has no switch for its progress bar
    options = {**asdict(how.sweep), "diverge_th": math.inf} if how.sweep else {"end_lr": 10, "num_iter": STEPS}
    device = _device(model)
    amp: dict[str, Any] = {}
    if how.bfloat16:  # it insists on a scaler, which bfloat16 does not need
        amp = {"amp_backend": "torch", "amp_config": {"device_type": device.type, "dtype": torch.bfloat16}}
        amp["grad_scaler"] = torch.amp.GradScaler(device.type, enabled=False)

    def run() -> Callable[[], Suggestions]:
        finder = LRFinder(model, optimizer, criterion, device=device, **amp)
        finder.range_test(loader, **options)
        finder.reset()
        # A figure that pyplot does not know needs no backend and no closing.
        return lambda: {"torch-lr-finder": finder.plot(ax=Figure().subplots(), suggest_lr=True)[1]}

    return run


def ignite(model: nn.Module, optimizer: Optimizer, criterion: Criterion, loader: Any, how: How) -> Run:
    """``FastaiLRFinder.attach`` of its documentation. Without a sweep it takes a step more if the loader has one."""
    from ignite.engine import Engine, create_supervised_trainer
    from ignite.handlers import FastaiLRFinder

    device = _device(model)

    def update(engine: Engine, batch: Any) -> float:
        model.train()
        inputs, target = (part.to(device, non_blocking=True) for part in batch)
        optimizer.zero_grad()
        with torch.autocast(device.type, dtype=torch.bfloat16):
            loss = criterion(model(inputs), target)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return float(loss.item())

    # Its own amp_mode is float16 only, but a user can give it any step.
    trainer = (
        Engine(update)
        if how.bfloat16
        else create_supervised_trainer(model, optimizer, criterion, device=device, non_blocking=True)
    )
    finder = FastaiLRFinder()
    state = {"model": model, "optimizer": optimizer}
    options = {**asdict(how.sweep), "diverge_th": math.inf} if how.sweep else {"num_iter": STEPS}
    length = how.sweep.num_iter if how.sweep else None  # without it a sweep stops one update late

    def run() -> Callable[[], Suggestions]:
        with finder.attach(trainer, state, **options) as engine:
            engine.run(loader, epoch_length=length)
        return lambda: {"Ignite": finder.lr_suggestion()}

    return run


def fastai(model: nn.Module, optimizer: Optimizer, criterion: Criterion, loader: Any, how: How) -> Run:
    """``Learner.lr_find``: one sweep and its four rules, or only the default rule if a sweep is given."""
    import fastai.callback.fp16  # noqa: F401  # patches to_bf16 into Learner
    from fastai.callback.schedule import minimum, slide, steep, valley  # patches lr_find into Learner
    from fastai.data.core import DataLoaders
    from fastai.learner import Learner
    from fastai.optimizer import OptimWrapper
    from fastai.torch_core import default_device

    if how.bfloat16 and _device(model).type != "cuda":
        raise UnsupportedError("its bfloat16 is for a GPU")
    default_device(_device(model).type == "cuda")
    learner = Learner(DataLoaders(loader, loader), model, loss_func=criterion, path=how.folder, model_dir=".")
    learner.opt = OptimWrapper(opt=optimizer)  # given as opt_func, it would lose its state
    if how.bfloat16:
        learner.to_bf16()
    errors: Suggestions = {}

    def guarded(rule: Callable[..., Any]) -> Callable[..., Any]:
        """A rule that fails does not take the others along."""

        @functools.wraps(rule)  # the name is read
        def call(*args: Any) -> Any:
            try:
                return rule(*args)
            except Exception as error:
                errors[rule.__name__] = error
                return math.nan, None

        return call

    options: dict[str, Any] = {"suggest_funcs": tuple(map(guarded, (valley, slide, minimum, steep)))}
    if sweep := how.sweep:
        options = {"start_lr": sweep.start_lr, "end_lr": sweep.end_lr, "num_it": sweep.num_iter, "stop_div": False}

    def run() -> Callable[[], Suggestions]:
        with learner.no_bar():
            found = learner.lr_find(show_plot=False, **options)
        return lambda: {f"fastai {name}": lr for name, lr in {**found._asdict(), **errors}.items()}

    return run


def lightning(model: nn.Module, optimizer: Optimizer, criterion: Criterion, loader: Any, how: How) -> Run:
    """``Tuner.lr_find``, which sets up the trainer that runs it and writes a checkpoint file."""
    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch.tuner.tuning import Tuner

    class Module(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = model
            self.lr = optimizer.param_groups[0]["lr"]

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            inputs, target = batch
            return criterion(self.model(inputs), target)

        def configure_optimizers(self) -> Optimizer:
            return optimizer

    names = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    quiet: dict[str, Any] = dict.fromkeys(names, False)
    trainer = Trainer(
        accelerator="gpu" if _device(model).type == "cuda" else "cpu",
        devices=1,
        precision="bf16-mixed" if how.bfloat16 else "32-true",
        max_epochs=-1,
        default_root_dir=how.folder,
        **quiet,
    )
    module = Module()
    options: dict[str, Any] = {}
    if sweep := how.sweep:
        options = {"min_lr": sweep.start_lr, "max_lr": sweep.end_lr, "num_training": sweep.num_iter}
        options["early_stop_threshold"] = None

    def run() -> Callable[[], Suggestions]:
        found = Tuner(trainer).lr_find(module, loader, **options)
        return lambda: {"Lightning": None if found is None else found.suggestion()}

    return run


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A package with a learning-rate finder.

    Args:
        prepare: one of the functions above; raises :class:`UnsupportedError`.
        package: its name for pip.
        module: its name for Python.
        rules: names of its suggestion rules, the package's default first.
    """

    prepare: Callable[..., Run]
    package: str
    module: str
    rules: tuple[str, ...]


PEERS: dict[str, Peer] = {
    "torch-lr-finder": Peer(
        prepare=torch_lr_finder,
        package="torch-lr-finder",
        module="torch_lr_finder",
        rules=("torch-lr-finder",),
    ),
    "Ignite": Peer(prepare=ignite, package="pytorch-ignite", module="ignite", rules=("Ignite",)),
    "fastai": Peer(
        prepare=fastai,
        package="fastai",
        module="fastai",
        rules=("fastai valley", "fastai slide", "fastai minimum", "fastai steep"),
    ),
    "Lightning": Peer(prepare=lightning, package="lightning", module="lightning", rules=("Lightning",)),
}
RULES: tuple[str, ...] = tuple(rule for peer in PEERS.values() for rule in peer.rules)


def installed(name: str) -> bool:
    return util.find_spec(PEERS[name].module) is not None


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Hide what the packages print, log and warn about."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
    finally:
        logging.disable(level)


def suggestions(build: Callable[[], tuple[nn.Module, Optimizer, Criterion, Any]]) -> dict[str, dict[str, Any]]:
    """Suggestions of every installed finder, each from its own package at that package's defaults, on the CPU.

    Args:
        build: makes model, optimizer (at :data:`LOWEST`), criterion and loader anew for each sweep, so that all of them
            start from the same weights and see the same batches. Only Lightning's are in another order from the second
            epoch on: it ends an epoch by the loader's length, and the sampler draws once more when it is run to its
            end.

    Returns:
        By rule, in the order of :data:`RULES`: ``lr``, None where the finder raises or suggests nothing finite;
        ``batches``, the optimizer steps of the sweep; ``why``, the reason for None, else empty.
    """
    rows: dict[str, dict[str, Any]] = {}
    for name in filter(installed, PEERS):
        peer, task = PEERS[name], build()
        steps: list[None] = []
        # The steps of every optimizer there is: fastai makes its own.
        counted = register_optimizer_step_post_hook(lambda optimizer, *_: steps.append(None))
        with tempfile.TemporaryDirectory() as folder, silenced(), counted:
            try:
                found = peer.prepare(*task, How(folder=folder))()()
            except Exception as error:
                found = dict.fromkeys(peer.rules, error)
        rows |= {rule: {**_reading(found[rule]), "batches": len(steps)} for rule in peer.rules}
    return rows


def _reading(suggestion: Any) -> dict[str, Any]:
    if isinstance(suggestion, Exception):
        return {"lr": None, "why": f"{type(suggestion).__name__}: {suggestion}".partition("\n")[0][:120]}
    if suggestion is None:
        return {"lr": None, "why": "no suggestion"}
    lr = float(suggestion[0] if isinstance(suggestion, list) else suggestion)  # of each parameter group
    return {"lr": lr, "why": ""} if math.isfinite(lr) else {"lr": None, "why": f"suggests {lr}"}
