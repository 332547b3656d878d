"""The range test inside Lightning 2: :func:`range_test` and :class:`LRFinderCallback`.

Trainer and module are of the package ``lightning`` or both of ``pytorch_lightning``.

Lightning sets the training up, as ``trainer.fit`` does: data, strategy, precision, ``configure_optimizers``. The loop
of the sweep is ours, and each micro-batch goes through Lightning's ``advance``, so that all of its step is in it:
transfer of the batch, forward and backward by strategy and precision plugin, accumulation, clipping, the update, and
the hooks of the module from ``on_train_batch_start`` to ``on_train_batch_end``, also overridden ones. Before the first
one run the module's ``on_train_start`` and ``on_train_epoch_start``.

Left out are validation, the steps of schedulers, checkpoints, and the callbacks, loggers and profiler of the trainer,
whose set-up makes folders; ``module.log`` does nothing. Where a callback changes the training itself, as one that
freezes layers, :class:`LRFinderCallback` sweeps what it leaves. Of a ``GradientAccumulationScheduler`` the number of
the epoch that begins is taken. An update is made of ``accumulate_grad_batches`` batches of one epoch: a shorter update
at the end of an epoch is not swept. ``trainer.current_epoch`` does not rise.

Afterwards the module, the trainer with its loops, strategy and counters, the data module, the loaders and the random
states are as before, whatever was raised. Files that hooks of the module write are not undone.
"""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from lrfinder.checks import check_choice
from lrfinder.errors import ConfigError, SetupError
from lrfinder.integrations.lightning_checks import check, check_added_groups, check_outside, length
from lrfinder.integrations.lightning_muted import muted
from lrfinder.integrations.lightning_names import Callback, part
from lrfinder.integrations.lightning_step import Passes, Start, fit_until_start, kept, sweep
from lrfinder.recipes import Recipe, recipe
from lrfinder.result import RangeTestResult
from lrfinder.tables.kinds import KIND_TABLE, KINDS

__all__ = ["LRFinderCallback", "range_test"]


def range_test(
    trainer: Any,
    module: Any,
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
        trainer: not inside a running ``fit``; use :class:`LRFinderCallback` there.
        module: with automatic optimization and one optimizer.
        train_dataloaders, val_dataloaders, datamodule: as in ``trainer.fit``; validation data are not used.
        **options: of :meth:`lrfinder.LRFinder.range_test`, without validation; and ``also``, ``pretrained``.

    Returns:
        The result. ``recipe.code()`` of it are lines for ``configure_optimizers``, which then returns ``{"optimizer":
        optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": recipe.interval}}``.

    Raises:
        ConfigError: a number out of its range, a validation loader, or ``ckpt_path``.
        SetupError: a module or a strategy that cannot be swept here, a callback that freezes layers, or a trainer that
            fits, or would make no step.

    Example:
        >>> import warnings, torch, lightning
        >>> warnings.filterwarnings("ignore", module="lightning")  # advice for larger data
        >>> from lightning.pytorch.demos.boring_classes import BoringModel
        >>> _ = torch.manual_seed(0)
        >>> trainer = lightning.Trainer(max_epochs=1, accelerator="cpu", logger=False, enable_progress_bar=False)
        >>> result = range_test(trainer, BoringModel(), start_lr=1e-3, end_lr=1e3, num_iter=60)
        >>> result.curve.stop.name, trainer.global_step
        ('DIVERGED', 0)
    """
    inner = getattr(module, "_orig_mod", module)  # of torch.compile
    check(trainer, inner)
    check_outside(trainer, datamodule, options)
    fit = (module, train_dataloaders, val_dataloaders, datamodule)
    start = Start(options)
    with muted(trainer, [start]), kept(trainer, module, options, *fit):
        fit_until_start(trainer, inner, fit, start)
    if start.error is not None:
        raise start.error
    if start.result is None:
        raise SetupError(
            "trainer.fit would make no step: the loader or limit_train_batches is empty, or max_epochs or max_steps is "
            "reached already. Raise it, or make a new Trainer."
        )
    return start.result


class LRFinderCallback(Callback):  # type: ignore[misc]  # of either package
    """Sweep when a fit starts, and train with the advised learning rate in a schedule of that kind.

    The scheduler is made for the length of this fit (``trainer.estimated_stepping_batches``) and stepped after every
    batch or epoch, as its kind requires. One that ``configure_optimizers`` returns is replaced, with a warning.
    Checkpoints hold the recipe and the result: a fit that resumes from one trains on with them and does not sweep.
    Nothing is swept with ``fast_dev_run``. Lightning's own logger tells the learning rate.

    Args:
        kind: one of ``lrfinder.schedules.KINDS``.
        monitor: name of the logged metric that ``"plateau"`` follows.
        sweep: options of the range test, as for :func:`range_test`.
        **options: of the recipe, as in :func:`lrfinder.recipe`, among them ``peak_lr`` and ``epochs``, which has the
            scheduler step once per epoch.

    Raises:
        ConfigError: an unknown kind, or ``"plateau"`` without ``monitor``.
        SetupError: when the fit starts, for what :func:`range_test` refuses too, a callback that adds parameter groups
            beside a kind that takes none, a training without an end, or a checkpoint made without this callback.

    Example:
        >>> import warnings, torch, lightning
        >>> warnings.filterwarnings("ignore", module="lightning")  # advice for larger data
        >>> from lightning.pytorch.demos.boring_classes import BoringModel
        >>> class Model(BoringModel):
        ...     def configure_optimizers(self):
        ...         return torch.optim.SGD(self.parameters(), lr=0.1)
        >>> _ = torch.manual_seed(0)
        >>> finder = LRFinderCallback("cosine", peak_lr=0.01, warmup_steps=0)
        >>> trainer = lightning.Trainer(max_epochs=1, accelerator="cpu", barebones=True, callbacks=[finder])
        >>> trainer.fit(Model())
        >>> finder.recipe.total_steps, trainer.optimizers[0].param_groups[0]["lr"]
        (64, 0.0)
    """

    def __init__(
        self, kind: str, *, monitor: str | None = None, sweep: Mapping[str, Any] | None = None, **options: Any
    ) -> None:
        self.kind = check_choice("kind", kind, KINDS)
        if kind == "plateau" and monitor is None:
            raise ConfigError("'plateau' follows a logged metric: LRFinderCallback('plateau', monitor='val_loss').")
        self.result: RangeTestResult | None = None
        """Of the range test; None before it."""
        self.recipe: Recipe | None = None
        """Of the schedule that is trained with."""
        if not isinstance(sweep, (Mapping, type(None))):
            raise ConfigError(
                f"sweep must be a dictionary of options of the range test; got a {type(sweep).__name__}. "
                f"Write LRFinderCallback({kind!r}, sweep={{'num_iter': 60}})."
            )
        self._monitor, self._sweep, self._options = monitor, dict(sweep or {}), options
        self._resumed = False
        recipe(kind, **{"peak_lr": 1.0, **self._options_for(lambda: 10**9)})  # refuses what it cannot take

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """On resuming, put the scheduler in place, whose state Lightning is about to load."""
        if trainer.fast_dev_run:
            return
        check(trainer, pl_module)
        check_added_groups(trainer, self.kind)
        if trainer.lr_scheduler_configs:
            name = type(trainer.lr_scheduler_configs[0].scheduler).__name__
            warnings.warn(
                f"LRFinderCallback puts its {self.kind!r} schedule in place of the {name} that configure_optimizers "
                "returns. To keep that one, use range_test instead.",
                stacklevel=2,
            )
        self._resumed &= trainer.ckpt_path is not None  # the state may be from a checkpoint that was validated before
        if self._resumed:
            self._schedule(trainer)
        elif trainer.ckpt_path is not None:
            raise SetupError(
                "the checkpoint to resume from was made without LRFinderCallback and has no recipe to train on with. "
                "Resume without the callback, or start anew from the weights: load_from_checkpoint."
            )

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Sweep, unless resumed, and put the scheduler in place."""
        resumed, self._resumed = self._resumed, False
        if trainer.fast_dev_run or resumed:
            return
        with muted(trainer, []), kept(trainer, pl_module, self._sweep):
            self.result = sweep(trainer, self._sweep, Passes(copy.copy(trainer.fit_loop._combined_loader)))
        options = self._options_for(lambda: length(trainer))
        if not options.keys() & {"peak_lr", "total_steps"}:  # kinds without a length have an LR by it
            with contextlib.suppress(SetupError):  # where the training has no end
                options = {**options, "peak_lr": self.result.lr_for(self.kind, length(trainer))}
        self.recipe = self.result.recipe(self.kind, **options)
        told = f"Peak of {self.kind!r}: {self.recipe.peak_lr:.2g}."
        part(trainer, "utilities.rank_zero_info")(f"LRFinderCallback: {self.result.decision.text} {told}")
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

    def _options_for(self, updates: Callable[[], int]) -> dict[str, Any]:
        """The options of the recipe, with the length of the training where the kind needs it."""
        if self._options.keys() & {"total_steps", "epochs"} or not KIND_TABLE[self.kind].needs_length:
            return self._options
        return {**self._options, "total_steps": updates()}

    def _schedule(self, trainer: Any) -> None:
        assert self.recipe is not None
        config = part(trainer, "utilities.types.LRSchedulerConfig")(
            self.recipe.build(trainer.optimizers[0]),
            interval=self.recipe.interval,
            reduce_on_plateau=self.kind == "plateau",
            monitor=self._monitor,
        )
        trainer.strategy.lr_scheduler_configs = [config]
