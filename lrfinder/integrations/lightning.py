"""The range test inside Lightning 2: :func:`range_test` and :class:`LRFinderCallback`.

Lightning sets the training up, as ``trainer.fit`` does: data, strategy, precision, ``configure_optimizers``. The loop of
the sweep is ours, and each micro-batch goes through Lightning's ``advance``, so that all of its step is in it: transfer
of the batch, forward and backward by strategy and precision plugin, accumulation, clipping, the update, and the hooks of
the module from ``on_train_batch_start`` to ``on_train_batch_end``, also overridden ones. Before the first one run the
module's ``on_train_start`` and ``on_train_epoch_start``.

Left out are validation, the steps of schedulers, checkpoints, and the callbacks and loggers of the trainer, whose set-up
makes folders; ``module.log`` does nothing. Where a callback changes the training itself, as one that freezes layers,
:class:`LRFinderCallback` sweeps what it leaves. An update is made of ``accumulate_grad_batches`` batches of one epoch: a
shorter update at the end of an epoch is not swept. ``trainer.current_epoch`` does not rise.

Afterwards the module, the trainer with its loops, strategy and counters, the data module, the loaders and the random
states are as before, whatever was raised. Files that the module's own hooks write are not undone.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import math
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lrfinder.checks import check_choice
from lrfinder.errors import BatchError, ConfigError, MissingDependencyError, SetupError
from lrfinder.finder import LRFinder
from lrfinder.recipes import Recipe
from lrfinder.result import RangeTestResult
from lrfinder.tables.kinds import KINDS
from lrfinder.training.setup import TrainingSetup, needs_closure
from lrfinder.training.state import preserved

try:
    import lightning.pytorch  # noqa: F401
except ImportError as error:
    raise MissingDependencyError("lightning", "lightning") from error

from lightning.fabric.utilities.apply_func import apply_to_collection
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.core.optimizer import _MockOptimizer
from lightning.pytorch.loggers.logger import DummyLogger
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher
from lightning.pytorch.trainer import call
from lightning.pytorch.utilities.exceptions import _TunerExitException
from lightning.pytorch.utilities.model_helpers import is_overridden
from lightning.pytorch.utilities.signature_utils import is_param_in_hook_signature
from lightning.pytorch.utilities.types import LRSchedulerConfig

__all__ = ["LRFinderCallback", "range_test"]

_BY_HAND = "Sweep such a training by a step of its own: LRFinder(module, [optimizer, ...], step_fn=step)."
_MIXED = {"16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}


def range_test(
    trainer: Trainer,
    module: LightningModule,
    train_dataloaders: Any = None,
    val_dataloaders: Any = None,
    datamodule: Any = None,
    **options: Any,
) -> RangeTestResult:
    """Sweep the training that ``trainer.fit`` with the same arguments would make, and leave no trace of it.

    The loss of each step is the one that Lightning computes, to the last bit; a batch for which ``training_step``
    returns None counts as a loss of nan. A scheduler from ``configure_optimizers`` is not stepped. The state is copied
    twice: as it is now, and as it is when the training starts.

    Args:
        trainer: not used by a running ``fit``.
        module: with automatic optimization and one optimizer.
        train_dataloaders, val_dataloaders, datamodule: as in ``trainer.fit``; validation data are not used.
        **options: of :meth:`lrfinder.LRFinder.range_test`, without validation; and ``also``, ``pretrained``.

    Raises:
        ConfigError: a number out of its range, or a validation loader.
        SetupError: a module or a strategy that cannot be swept here, or a trainer that would make no step.

    Example:
        >>> import torch, lightning
        >>> from lightning.pytorch.demos.boring_classes import BoringModel
        >>> _ = torch.manual_seed(0)
        >>> trainer = lightning.Trainer(max_epochs=1, accelerator="cpu", logger=False, enable_progress_bar=False)
        >>> result = range_test(trainer, BoringModel(), start_lr=1e-3, end_lr=1e3, num_iter=60)
        >>> result.curve.stop.name, trainer.global_step
        ('DIVERGED', 0)
    """
    _check(trainer, module)
    if isinstance(trainer.strategy.launcher, _MultiProcessingLauncher):
        raise SetupError(
            "this strategy starts its processes inside trainer.fit, from which no result comes back. "
            "Use strategy='ddp' or one device, or LRFinderCallback."
        )
    start = _Start(options)
    fit = (module, train_dataloaders, val_dataloaders, datamodule)
    with _muted(trainer, [start]), preserved(_everything(trainer, *fit), (), options.get("snapshot", "auto")):
        trainer.num_sanity_val_steps = trainer.limit_val_batches = 0
        getattr(module, "_orig_mod", module).configure_callbacks = list
        handler = signal.getsignal(signal.SIGINT)
        try:
            with warnings.catch_warnings():
                # Refused with a sentence of ours.
                warnings.filterwarnings("ignore", message=".*configure_optimizers. returned .None.")
                trainer.fit(*fit)
        except SystemExit as end:  # into which Lightning turns Ctrl-C
            if not isinstance(end.__context__, KeyboardInterrupt):
                raise
            start.error = end.__context__
        finally:
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGINT, handler)
    if start.error is not None:
        raise start.error
    if start.result is None:
        raise SetupError(
            "trainer.fit would make no step: the loader or limit_train_batches is empty, or max_epochs or max_steps is "
            "reached already. Raise it, or make a new Trainer."
        )
    return start.result


class LRFinderCallback(Callback):
    """Sweep when a fit starts, and train with the advised learning rate in a schedule of that kind.

    The scheduler is made for the length of this fit (``trainer.estimated_stepping_batches``) and stepped after every
    batch or epoch, as its kind requires. Checkpoints hold the recipe and the result: a fit that resumes from one trains
    on with them and does not sweep. Nothing is swept with ``fast_dev_run``.

    Args:
        kind: one of ``lrfinder.schedules.KINDS``.
        monitor: name of the logged metric that ``"plateau"`` follows.
        sweep: options of the range test, as for :func:`range_test`.
        **options: of the recipe, as in :func:`lrfinder.recipe`, among them ``peak_lr`` and ``epochs``, which has the
            scheduler step once per epoch.

    Raises:
        ConfigError: an unknown kind, or ``"plateau"`` without ``monitor``.
        SetupError: when the fit starts, for what :func:`range_test` refuses too, a module with a scheduler of its own,
            a training without an end, or a checkpoint made without this callback.

    Example:
        >>> import torch, lightning
        >>> from lightning.pytorch.demos.boring_classes import BoringModel
        >>> class Model(BoringModel):
        ...     def configure_optimizers(self):
        ...         return torch.optim.SGD(self.parameters(), lr=0.1)
        >>> _ = torch.manual_seed(0)
        >>> finder = LRFinderCallback("cosine", peak_lr=0.01, warmup_steps=0)
        >>> quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        >>> trainer = lightning.Trainer(max_epochs=1, accelerator="cpu", callbacks=[finder], **quiet)
        >>> trainer.fit(Model())
        >>> finder.recipe.total_steps, trainer.optimizers[0].param_groups[0]["lr"]
        (64, 0.0)
    """

    def __init__(
        self, kind: str, *, monitor: str | None = None, sweep: Mapping[str, Any] | None = None, **options: Any
    ) -> None:
        self.kind = check_choice("kind", kind, KINDS)
        if kind == "plateau" and monitor is None:
            raise ConfigError("'plateau' follows a logged metric: write LRFinderCallback('plateau', monitor='val_loss').")
        self.monitor, self.options, self.sweep = monitor, options, dict(sweep or {})
        self.result: RangeTestResult | None = None
        """Of the range test; None before it."""
        self.recipe: Recipe | None = None
        """Of the schedule that is trained with."""
        self._resumed = False

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """On resuming, put the scheduler in place, whose state Lightning is about to load."""
        if trainer.fast_dev_run:
            return
        _check(trainer, pl_module)
        if trainer.lr_scheduler_configs:
            name = type(trainer.lr_scheduler_configs[0].scheduler).__name__
            raise SetupError(
                f"configure_optimizers returns a scheduler ({name}), in whose place LRFinderCallback puts its own. "
                "Return the optimizer alone."
            )
        if self._resumed:
            self._schedule(trainer)
        elif trainer.ckpt_path is not None:
            raise SetupError(
                "the checkpoint to resume from was made without LRFinderCallback, so it has no recipe to train on with. "
                "Resume without the callback, or start anew from the weights: load_from_checkpoint."
            )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Sweep, unless resumed, and put the scheduler in place."""
        resumed, self._resumed = self._resumed, False
        if trainer.fast_dev_run or resumed:
            return
        with _muted(trainer, []), preserved(_everything(trainer, pl_module), (), self.sweep.get("snapshot", "auto")):
            # A copy, as the iterator that the trainer is about to use is kept in the loader.
            self.result = _sweep(trainer, self.sweep, _Passes(copy.copy(trainer.fit_loop._combined_loader)))
        options = dict(self.options)
        if not options.keys() & {"total_steps", "epochs"} and self.kind not in ("constant", "plateau"):
            options["total_steps"] = _length(trainer)
        self.recipe = self.result.recipe(self.kind, **options)
        self._schedule(trainer)

    def state_dict(self) -> dict[str, Any]:
        """Recipe and result, for the checkpoint."""
        if self.recipe is None or self.result is None:
            return {}
        return {"recipe": self.recipe.to_dict(), "result": self.result.to_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Recipe and result of a checkpoint, which the fit that resumes from it trains on with."""
        self.recipe = Recipe.from_dict(state_dict["recipe"])
        self.result = RangeTestResult.from_dict(state_dict["result"])
        self._resumed = True

    def _schedule(self, trainer: Trainer) -> None:
        assert self.recipe is not None
        config = LRSchedulerConfig(
            self.recipe.build(trainer.optimizers[0]),
            interval=self.recipe.interval,
            reduce_on_plateau=self.kind == "plateau",
            monitor=self.monitor,
        )
        trainer.strategy.lr_scheduler_configs = [config]


class _Start(Callback):  # type: ignore[misc]
    """Sweeps where the training would start, and ends the fit there."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.result: RangeTestResult | None = None
        self.error: BaseException | None = None
        self._options = options

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        loop = trainer.fit_loop
        # All is put back after the fit, so its own iterator may be used up: it gives the batches of the training. What
        # the trainer refers to is rewound in the sweep, an iterator must not be.
        live, loop._data_fetcher = loop._data_fetcher, None
        loop._combined_loader = copy.copy(loop._combined_loader)
        try:
            self.result = _sweep(trainer, self._options, _Passes(live.combined_loader, live))
        except BaseException as error:  # raised where the fit was called: Lightning would exit on Ctrl-C
            self.error = error
        live.teardown()
        raise _TunerExitException


class _Losses(Callback):  # type: ignore[misc]
    """Keeps the losses of the micro-batches, each divided by their number, as they are accumulated."""

    def __init__(self) -> None:
        self.losses: list[Tensor] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *batch: Any) -> None:
        if outputs:
            self.losses.append(outputs["loss"])


class _Given:
    """A data fetcher of one batch."""

    done = False

    def __init__(self, batch: Any) -> None:
        self._batch = batch

    def __next__(self) -> tuple[Any, int, int]:
        return self._batch, 0, 0


class _Passes:
    """Iterable over the batches of an epoch, without those of a last incomplete update.

    Args:
        loader: Lightning's combined one, which gives (batch, index, index of the loader).
        live: iterator to use for the first pass.
    """

    def __init__(self, loader: Any, live: Iterator[Any] | None = None) -> None:
        self.length = math.inf
        self._loader, self._live = loader, live

    def __iter__(self) -> Iterator[Any]:
        source, self._live = self._live, None
        source = iter(self._loader) if source is None else source
        for _ in itertools.count() if self.length == math.inf else range(int(self.length)):
            try:
                batch, *_ = next(source)
            except StopIteration:
                return
            yield batch


def _sweep(trainer: Trainer, options: Mapping[str, Any], passes: _Passes) -> RangeTestResult:
    """Sweep a training that is set up; what is changed on the way to its first step is not put back."""
    module, loop, recorder = trainer.lightning_module, trainer.fit_loop, _Losses()
    _check_optimizer(trainer)
    if options.get("val_loader") is not None:
        raise ConfigError("val_loader cannot be swept in a Lightning training, whose own step gives the training loss.")
    trainer.callbacks = [recorder]
    module.log = module.log_dict = loop.epoch_loop.update_lr_schedulers = _nothing
    modes = [] if module.training else [(each, each.training) for each in module.modules()]
    call._call_lightning_module_hook(trainer, "on_train_start")
    call._call_strategy_hook(trainer, "on_train_start")
    loop.epoch_loop.reset()
    loop.on_advance_start()
    optimizer = trainer.optimizers[0]
    for group in optimizer.param_groups:  # a scheduler's warm-up may have set it to 0
        group["lr"] = group.get("initial_lr", group["lr"])
    count = int(min(trainer.accumulate_grad_batches, loop.max_batches))
    passes.length = loop.max_batches if loop.max_batches == math.inf else loop.max_batches // count * count
    by_norm = trainer.gradient_clip_algorithm in (None, "norm")
    finder = LRFinder(
        module,
        optimizer,
        step_fn=_step(trainer, recorder, modes, count, passes.length),
        amp_dtype=_MIXED.get(trainer.precision),
        grad_scaler=getattr(trainer.precision_plugin, "scaler", None),
        clip_grad_norm=float(trainer.gradient_clip_val) if trainer.gradient_clip_val and by_norm else None,
        accumulation_steps=count,
        **{name: options[name] for name in ("also", "pretrained") if name in options},
    )
    rest = {name: value for name, value in options.items() if name not in ("also", "pretrained")}
    return finder.range_test(passes, **rest)


def _step(
    trainer: Trainer, recorder: _Losses, modes: list[tuple[nn.Module, bool]], count: int, length: float
) -> Callable[[Any], Tensor | float]:
    """One update by Lightning's own step; returns the sum of the parts of the loss."""
    loop = trainer.fit_loop.epoch_loop

    def step(batches: Any) -> Tensor | float:
        for each, mode in modes:  # Lightning leaves a module in eval mode as it is
            each.training = mode
        progress = loop.batch_progress.current
        if progress.ready + count > length:
            progress.reset()
        recorder.losses.clear()
        try:
            for batch in batches if count > 1 else [batches]:
                # A copy: the range search repeats a batch, and steps may take entries out of it or write into it.
                loop.advance(_Given(apply_to_collection(batch, Tensor, Tensor.clone)))
        except StopIteration:
            raise BatchError("on_train_batch_start returned -1, which ends the epoch: no loss can be measured.") from None
        return sum(recorder.losses) if recorder.losses else math.nan

    return step


def _nothing(*arguments: Any, **options: Any) -> None:
    """Stands for a method that is mute."""


@contextlib.contextmanager
def _muted(trainer: Trainer, callbacks: list[Callback]) -> Iterator[None]:
    """Context without the trainer's own callbacks, loggers and profiler, which write files.

    They are taken out before the state is copied, so that what runs in them meanwhile, as a writer's thread, goes on.
    """
    before = trainer.callbacks, trainer.loggers, trainer.profiler
    try:
        trainer.callbacks, trainer.profiler = callbacks, PassThroughProfiler()
        trainer.loggers = [DummyLogger() for _ in trainer.loggers]
        yield
    finally:
        trainer.callbacks, trainer.loggers, trainer.profiler = before


def _everything(trainer: Trainer, module: nn.Module, *data: Any) -> TrainingSetup:
    """All that a fit may change, as one set-up to preserve: the module may have no parameters before it."""
    whole = nn.Module()
    whole.module, whole.trainer, whole.data = module, trainer, data
    whole.spare = nn.Parameter(torch.zeros(()))
    return TrainingSetup.of(whole, torch.optim.SGD([whole.spare], lr=0.0), step_fn=_nothing)


def _length(trainer: Trainer) -> int:
    length = trainer.estimated_stepping_batches
    if not 0 < length < math.inf:
        raise SetupError(
            "the training has no end for the schedule to be made for: max_epochs=-1, or a loader without a length. "
            "Set max_steps of the Trainer, or LRFinderCallback(..., total_steps=...)."
        )
    return int(length)


def _check(trainer: Any, module: Any) -> None:
    """Refuse what cannot be swept, before anything is set up."""
    for name, value, kind in (("trainer", trainer, Trainer), ("module", module, (LightningModule, nn.Module))):
        if not isinstance(value, kind):
            raise SetupError(
                f"{name} must be one of the package lightning; got a {type(value).__module__}.{type(value).__name__}. "
                "Import it from lightning.pytorch."
            )
    if not getattr(module, "automatic_optimization", True):
        raise SetupError(
            f"{type(module).__name__} has automatic_optimization=False: its training_step makes the updates itself, so "
            f"their number and order are not known here. {_BY_HAND}"
        )
    if isinstance(module, LightningModule) and not is_overridden("configure_optimizers", module):
        raise SetupError(f"{type(module).__name__} has no configure_optimizers, so there is no learning rate to sweep.")
    if not isinstance(trainer.strategy, (SingleDeviceStrategy, DDPStrategy)):
        raise SetupError(
            f"{type(trainer.strategy).__name__} shards the training or steps it itself, which is not put back here. "
            "Use one device or strategy='ddp', or LRFinder on the model wrapped by FSDP2."
        )
    if is_param_in_hook_signature(getattr(module, "training_step", _nothing), "dataloader_iter", explicit=True):
        raise SetupError("training_step(dataloader_iter) draws its batches itself. Take (batch, batch_idx) instead.")


def _check_optimizer(trainer: Trainer) -> None:
    name = type(trainer.lightning_module).__name__
    optimizers = trainer.optimizers
    if not optimizers or isinstance(optimizers[0], _MockOptimizer):
        raise SetupError(f"configure_optimizers of {name} returned no optimizer, so there is no learning rate to sweep.")
    if needs_closure(optimizers[0]):
        raise SetupError(
            f"{type(optimizers[0]).__name__} computes the loss several times per step, of which Lightning reports the "
            "last. Use LRFinder(model, optimizer, criterion)."
        )
