"""Who runs the steps: the bare loop, our finder, and the others, each by its own package's calls.

Each takes what a user has and returns the call that is timed. Objects a user needs for training anyhow (model,
optimizer, loader; fastai's Learner, Lightning's Trainer and module, Ignite's engine) are built before the clock starts.
On the clock: copying the state, the steps, putting the state back, and whatever else the call of that package does
(each docstring says it). Early stopping never fires (each case ends below the edge, and where a rule has a threshold it
is infinite), and progress bars are off.
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import util
from typing import Any

import torch
from torch import Tensor

from overhead_bench.cases import START_LR, Task

__all__ = [
    "AGAIN",
    "BARE",
    "CONTESTANTS",
    "DEFAULT",
    "OURS",
    "Contestant",
    "Unable",
    "installed",
    "silenced",
]

BARE, AGAIN, OURS = "bare loop", "bare loop, again", "lrfinder"
DEFAULT = f"{OURS}, no range given"

Call = Callable[[], object]


class Unable(Exception):
    """What a contestant cannot do; the tables say it in its row."""


def prepare_bare(task: Task) -> Call:
    """The loop a user writes. It reads no loss and keeps nothing."""
    device, amp, on_gpu = task.device, task.case.amp, task.device.type != "cpu"

    def cycle() -> Iterator[Any]:
        while True:
            yield from task.loader

    def call() -> None:
        task.model.train()
        batches = cycle()
        for _ in range(task.steps):
            inputs, target = next(batches)
            if on_gpu:
                inputs, target = inputs.to(device, non_blocking=True), target.to(device, non_blocking=True)
            task.optimizer.zero_grad()
            if amp is None:
                loss = task.criterion(task.model(inputs), target)
            else:
                with torch.autocast(device.type, dtype=amp):
                    loss = task.criterion(task.model(inputs), target)
            loss.backward()
            task.optimizer.step()

    return call


def prepare_ours(task: Task, **options: Any) -> Call:
    """On the clock: LRFinder(...) and range_test. The advice is read when it is asked for, and nobody asks here."""
    from lrfinder import LRFinder

    given = {"start_lr": START_LR, "end_lr": task.case.end_lr, "num_iter": task.steps, "progress": False, **options}

    def call() -> object:
        finder = LRFinder(task.model, task.optimizer, task.criterion, amp_dtype=task.case.amp)
        return finder.range_test(task.loader, **given)

    return call


def prepare_default(task: Task) -> Call:
    """On the clock: range_test with no range given, which searches for one and takes as many steps as it needs (at
    most 100), and the advice."""
    search: Any = prepare_ours(task, start_lr=None, end_lr=None, num_iter=None)
    return lambda: search().advice


def prepare_torch_lr_finder(task: Task) -> Call:
    """On the clock: LRFinder(...), which copies the state, range_test and reset. It suggests nothing before plot()."""
    from torch_lr_finder import LRFinder, lr_finder
    from tqdm import tqdm

    lr_finder.tqdm = partial(tqdm, disable=True)  # it has no switch for its progress bar
    amp: dict[str, Any] = {}
    if task.case.amp is not None:
        amp = {
            "amp_backend": "torch",
            "amp_config": {"device_type": task.device.type, "dtype": task.case.amp},
            # It insists on a scaler, which bfloat16 does not need.
            "grad_scaler": torch.amp.GradScaler(task.device.type, enabled=False),
        }

    def call() -> None:
        finder = LRFinder(task.model, task.optimizer, task.criterion, device=task.device, **amp)
        finder.range_test(
            task.loader, start_lr=START_LR, end_lr=task.case.end_lr, num_iter=task.steps, diverge_th=math.inf
        )
        finder.reset()

    return call


def prepare_fastai(task: Task) -> Call:
    """On the clock: Learner.lr_find, with its suggestion ("valley") and the file it keeps the state in."""
    from fastai.data.core import DataLoaders
    from fastai.learner import Learner
    from fastai.optimizer import OptimWrapper
    from fastai.torch_core import default_device

    # lr_find and to_bf16 are patched into Learner by these.
    import fastai.callback.fp16  # noqa: F401
    import fastai.callback.schedule  # noqa: F401

    on_gpu = task.device.type == "cuda"
    default_device(on_gpu)
    learner = Learner(
        DataLoaders(task.loader, task.loader),
        task.model,
        loss_func=task.criterion,
        path=task.folder,
        model_dir=".",
    )
    learner.opt = OptimWrapper(opt=task.optimizer)  # given as opt_func, it would lose its state
    if task.case.amp == torch.bfloat16:
        if not on_gpu:
            raise Unable("its bfloat16 is for a GPU")
        learner.to_bf16()

    def call() -> None:
        with learner.no_bar():
            learner.lr_find(
                start_lr=START_LR, end_lr=task.case.end_lr, num_it=task.steps, stop_div=False, show_plot=False
            )

    return call


def prepare_lightning(task: Task) -> Call:
    """On the clock: Tuner.lr_find, with its suggestion, the set-up of the trainer it runs and its checkpoint file."""
    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch.tuner import Tuner

    class Module(LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = task.model
            self.lr = START_LR

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            inputs, target = batch
            loss: Tensor = task.criterion(self.model(inputs), target)
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return task.optimizer

    module = Module()
    trainer = Trainer(
        accelerator="gpu" if task.device.type == "cuda" else "cpu",
        devices=1,
        precision="32-true" if task.case.amp is None else "bf16-mixed",
        max_epochs=-1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=task.folder,
    )
    tuner = Tuner(trainer)

    def call() -> None:
        tuner.lr_find(
            module,
            task.loader,
            min_lr=START_LR,
            max_lr=task.case.end_lr,
            num_training=task.steps,
            early_stop_threshold=None,
        )

    return call


def prepare_ignite(task: Task) -> Call:
    """On the clock: FastaiLRFinder.attach, with the file it keeps the state in, and the run. It suggests nothing."""
    from ignite.engine import Engine, create_supervised_trainer
    from ignite.handlers import FastaiLRFinder

    device, amp = task.device, task.case.amp

    def update(engine: Engine, batch: Any) -> float:
        task.model.train()
        inputs, target = (part.to(device, non_blocking=True) for part in batch)
        task.optimizer.zero_grad()
        with torch.autocast(device.type, dtype=amp):
            loss = task.criterion(task.model(inputs), target)
        loss.backward()
        task.optimizer.step()
        return float(loss.item())

    if amp is None:
        trainer = create_supervised_trainer(
            task.model, task.optimizer, task.criterion, device=device, non_blocking=True
        )
    else:  # its own amp_mode is float16 only, but a user can hand it any step
        trainer = Engine(update)
    to_save = {"model": task.model, "optimizer": task.optimizer}

    def call() -> None:
        finder = FastaiLRFinder()
        with finder.attach(
            trainer, to_save, num_iter=task.steps, start_lr=START_LR, end_lr=task.case.end_lr, diverge_th=math.inf
        ) as sweep:
            # Without epoch_length it stops one update late.
            sweep.run(task.loader, epoch_length=task.steps)

    return call


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """Somebody who runs the steps.

    Args:
        package: what pip calls it.
        module: what Python calls it.
        prepare: takes a task and returns the call that is timed.
        rival: one of the other finders.
        keeps: where the state is meanwhile.
        on: devices it is for.
    """

    package: str
    module: str
    prepare: Callable[[Task], Call]
    rival: bool = False
    keeps: str = "nothing"
    on: tuple[str, ...] = ("cpu", "cuda")


CONTESTANTS = {
    BARE: Contestant(package="torch", module="torch", prepare=prepare_bare),
    AGAIN: Contestant(package="torch", module="torch", prepare=prepare_bare),
    OURS: Contestant(
        package="lrfinder", module="lrfinder", prepare=prepare_ours, keeps="a copy, on the device where there is room"
    ),
    DEFAULT: Contestant(package="lrfinder", module="lrfinder", prepare=prepare_default),
    "torch-lr-finder": Contestant(
        package="torch-lr-finder",
        module="torch_lr_finder",
        prepare=prepare_torch_lr_finder,
        rival=True,
        keeps="a copy on the device, for as long as the finder lives",
    ),
    "Ignite": Contestant(
        package="pytorch-ignite", module="ignite", prepare=prepare_ignite, rival=True, keeps="a temporary file"
    ),
    "fastai": Contestant(
        package="fastai", module="fastai", prepare=prepare_fastai, rival=True, keeps="a file in the model's folder"
    ),
    "Lightning": Contestant(
        package="lightning",
        module="lightning",
        prepare=prepare_lightning,
        rival=True,
        keeps="a checkpoint file in the trainer's folder",
    ),
}


def installed(name: str) -> bool:
    return util.find_spec(CONTESTANTS[name].module) is not None


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
