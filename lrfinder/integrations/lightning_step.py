"""Lightning's own step in the loop of a sweep, and what of its trainer is put back after it.

For :mod:`lrfinder.integrations.lightning`, which is what users import. Trainers are of the type ``Any`` here, since
most of what is used of them is set where no type checker looks.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import math
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor, nn

from lrfinder.errors import BatchError, ConfigError, SetupError
from lrfinder.finder import LRFinder
from lrfinder.integrations.lightning_checks import BY_HAND, check_optimizer
from lrfinder.integrations.lightning_muted import mute
from lrfinder.integrations.lightning_names import Callback, part
from lrfinder.result import RangeTestResult
from lrfinder.training.setup import TrainingSetup
from lrfinder.training.state import preserved

__all__ = ["Passes", "Start", "fit_until_start", "kept", "sweep"]

_MIXED = {"16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}
_OF_FINDER = ("also", "pretrained")


class Passes:
    """Iterable over the batches of an epoch, without those of a last incomplete update.

    Args:
        loader: Lightning's combined one, which gives (batch, index, index of the loader). It keeps its iterator, so it
            must not be the one that the trainer refers to, whose attributes are rewound in a sweep.
        live: iterator to use for the first pass.
    """

    def __init__(self, loader: Any, live: Iterator[Any] | None = None) -> None:
        self.length = math.inf
        """Batches of an epoch to give; infinity where the number is not known."""
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


class _Losses(Callback):  # type: ignore[misc]  # of either package
    """Keeps the losses of the micro-batches, each divided by their number, as they are accumulated."""

    def __init__(self) -> None:
        self.losses: list[Tensor] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if outputs:
            self.losses.append(outputs["loss"])


class _Given:
    """A data fetcher of one batch."""

    done = False

    def __init__(self, batch: Any) -> None:
        self._batch = batch

    def __next__(self) -> tuple[Any, int, int]:
        return self._batch, 0, 0


def sweep(trainer: Any, options: Mapping[str, Any], passes: Passes) -> RangeTestResult:
    """Sweep a training that is set up and about to start; what changes on the way to its first step stays changed.

    Args:
        trainer: muted, with all that it refers to in a context of :func:`kept`.
        options: of :meth:`LRFinder.range_test`, and ``also`` and ``pretrained`` of :class:`LRFinder`.
        passes: over the batches.
    """
    module, loop, recorder = trainer.lightning_module, trainer.fit_loop, _Losses()
    check_optimizer(trainer)
    if options.get("val_loader") is not None:
        raise ConfigError("val_loader cannot be swept in a Lightning training, whose own step gives the training loss.")
    trainer.callbacks = [recorder]
    module.log = module.log_dict = loop.epoch_loop.update_lr_schedulers = mute
    modes = [] if module.training else [(each, each.training) for each in module.modules()]
    call = part(trainer, "trainer.call")
    call._call_lightning_module_hook(trainer, "on_train_start")
    call._call_strategy_hook(trainer, "on_train_start")
    loop.epoch_loop.reset()
    loop.on_advance_start()
    count = int(min(trainer.accumulate_grad_batches, loop.max_batches))
    passes.length = loop.max_batches if loop.max_batches == math.inf else loop.max_batches // count * count
    by_norm = trainer.gradient_clip_algorithm in (None, "norm")
    finder = LRFinder(
        trainer.strategy.model,  # with the wrapper in which the ranks train it
        trainer.optimizers[0],
        loss_fn=partial(_loss_in_eval_mode, trainer),
        step_fn=_step(trainer, recorder, modes, count, passes.length),
        amp_dtype=_MIXED.get(trainer.precision),
        grad_scaler=getattr(trainer.precision_plugin, "scaler", None),
        clip_grad_norm=float(trainer.gradient_clip_val) if trainer.gradient_clip_val and by_norm else None,
        accumulation_steps=count,
        **{name: options[name] for name in _OF_FINDER if name in options},
    )
    return finder.range_test(passes, **{name: value for name, value in options.items() if name not in _OF_FINDER})


def _step(
    trainer: Any, recorder: _Losses, modes: Sequence[tuple[nn.Module, bool]], count: int, in_pass: float
) -> Callable[[Any], Tensor | float]:
    """One update by Lightning's own step; returns the sum of the parts of the loss."""
    loop = trainer.fit_loop.epoch_loop

    def step(batches: Any) -> Tensor | float:
        for each, mode in modes:  # Lightning leaves a module in eval mode as it is
            each.training = mode
        progress = loop.batch_progress.current
        if progress.ready + count > in_pass:
            progress.reset()
        recorder.losses.clear()
        try:
            for batch in batches if count > 1 else [batches]:
                # A copy: the range search repeats a batch, and steps may take entries out of it or write into it.
                loop.advance(_Given(apply_to_collection(batch, Tensor, Tensor.clone)))
        except StopIteration:
            raise BatchError("on_train_batch_start returned -1, which ends the epoch, so there is no loss.") from None
        return sum(recorder.losses[1:], recorder.losses[0]) if recorder.losses else math.nan

    vars(step)["form"] = "trainer"  # for the printed lines
    return step


def _loss_in_eval_mode(trainer: Any, model: nn.Module, batch: Any) -> Tensor:
    """The loss of samples that are not trained on, where the weights are trained already.

    It counts as no step: numbers that the module keeps about itself, as a count of its steps, stay.
    """
    own, call = vars(trainer.lightning_module), part(trainer, "trainer.call")
    numbers = {name: value for name, value in own.items() if isinstance(value, (int, float))}
    batch = trainer.precision_plugin.convert_input(apply_to_collection(batch, Tensor, Tensor.clone))
    batch = trainer.lightning_module._on_before_batch_transfer(batch, dataloader_idx=0)
    batch = call._call_strategy_hook(trainer, "batch_to_device", batch, dataloader_idx=0)
    arguments = trainer.fit_loop.epoch_loop._build_kwargs({}, batch, 0).values()
    try:
        output = call._call_strategy_hook(trainer, "training_step", *arguments)
    finally:
        own |= numbers
    loss: Tensor = output["loss"] if isinstance(output, Mapping) else output
    return loss


def kept(
    trainer: Any, module: nn.Module, options: Mapping[str, Any], *data: Any
) -> contextlib.AbstractContextManager[Any]:
    """Context after which the module, the trainer and the data are as before.

    Args:
        trainer: with its loops, strategy and connectors.
        module: may be without parameters, which a hook is about to make.
        options: of the range test, for the storage of the copy.
        data: loaders and data modules.
    """
    whole: Any = nn.Module()
    whole.module, whole.trainer, whole.data = module, trainer, data
    whole.spare = nn.Parameter(torch.zeros(()))
    setup = TrainingSetup(whole, torch.optim.SGD([whole.spare], lr=0.0), step_fn=mute)
    return preserved(setup, (), options.get("snapshot", "auto"))


class Start(Callback):  # type: ignore[misc]  # of either package
    """Sweeps where the training would start, and ends the fit there."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.result: RangeTestResult | None = None
        self.error: BaseException | None = None
        self._options = options

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        loop = trainer.fit_loop
        # All is put back after the fit, so its own iterator may be used up: it gives the batches of the training. What
        # the trainer refers to is rewound in the sweep, which an iterator must not be.
        live, loop._data_fetcher = loop._data_fetcher, None
        loop._combined_loader = copy.copy(loop._combined_loader)
        try:
            self.result = sweep(trainer, self._options, Passes(live.combined_loader, live))
        except BaseException as error:  # raised where the fit was called: Lightning would exit on Ctrl-C
            self.error = error
        live.teardown()
        raise part(trainer, "utilities.exceptions._TunerExitException")


def fit_until_start(trainer: Any, module: Any, fit: tuple[Any, ...], start: Start) -> None:
    """Call ``fit``, which ``start`` ends."""
    trainer.num_sanity_val_steps = trainer.limit_val_batches = 0
    module.configure_callbacks = list
    handler = signal.getsignal(signal.SIGINT)
    try:
        with warnings.catch_warnings():
            # Refused with a sentence of ours.
            warnings.filterwarnings("ignore", message=".*configure_optimizers. returned .None.")
            trainer.fit(*fit)
    except RuntimeError as error:
        if "multiple optimizers" not in str(error):
            raise
        name = type(module).__name__
        raise SetupError(f"{name} has several optimizers, of which Lightning steps only one. {BY_HAND}") from None
    except SystemExit as end:  # into which Lightning turns Ctrl-C
        if not isinstance(end.__context__, KeyboardInterrupt):
            raise
        start.error = end.__context__
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)
