"""What of a Lightning training cannot be swept, each with the reason and what to do."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from lrfinder.errors import ConfigError, SetupError
from lrfinder.integrations.lightning_names import package_of, part
from lrfinder.training.setup import needs_closure

__all__ = [
    "BY_HAND",
    "accumulation_by_epoch",
    "check",
    "check_added_groups",
    "check_optimizer",
    "check_outside",
    "length",
]

BY_HAND = "Sweep such a training by a step of its own: LRFinder(module, [optimizer, ...], step_fn=step)."
_ADDING = {"unfreeze_and_add_param_group", "add_param_group"}
_FIXED_GROUPS = ("onecycle", "cyclic", "restarts", "wsd")  # torch: one entry per group, made when they are built


def check(trainer: Any, module: Any) -> None:
    """Refuse what cannot be swept, before anything is set up.

    Raises:
        SetupError: it cannot.
    """
    for name, value, kind in (("trainer", trainer, "Trainer"), ("module", module, "LightningModule")):
        if not isinstance(value, part(trainer, kind)):
            raise SetupError(
                f"{name} must be a {package_of(trainer)}.{kind}; got a {type(value).__module__}."
                f"{type(value).__name__}. Write range_test(trainer, module, ...), in this order, with both from one "
                "package: the classes of lightning and pytorch_lightning are not the same."
            )
    if not module.automatic_optimization:
        raise SetupError(
            f"{type(module).__name__} has automatic_optimization=False: its training_step makes the updates itself, so "
            f"their number and order are not known here. {BY_HAND}"
        )
    if not part(trainer, "utilities.model_helpers.is_overridden")("configure_optimizers", module):
        raise SetupError(f"{type(module).__name__} has no configure_optimizers, so there is no learning rate to sweep.")
    strategies = part(trainer, "strategies")
    if not isinstance(trainer.strategy, (strategies.SingleDeviceStrategy, strategies.DDPStrategy)):
        raise SetupError(
            f"{type(trainer.strategy).__name__} shards the training or steps it itself, which is not put back here. "
            "Use one device or strategy='ddp', or LRFinder on the model wrapped by FSDP2."
        )
    taken = part(trainer, "utilities.signature_utils.is_param_in_hook_signature")
    if taken(module.training_step, "dataloader_iter", explicit=True):
        raise SetupError("training_step(dataloader_iter) draws its batches itself. Take (batch, batch_idx) instead.")


def check_added_groups(trainer: Any, kind: str) -> None:
    """Refuse a kind whose scheduler would fail many epochs later, when a callback unfreezes layers."""
    adding = (each for each in trainer.callbacks if isinstance(each, part(trainer, "callbacks.BaseFinetuning")))
    adds = next((each for each in adding if _names(each.finetune_function) & _ADDING), None)
    if adds is not None and kind in _FIXED_GROUPS:
        raise SetupError(
            f"{type(adds).__name__} adds parameter groups while it trains, which the torch scheduler of {kind!r} does "
            "not take. Use LRFinderCallback('cosine'), or freeze the layers for the whole training."
        )


def _names(method: Any) -> set[str]:
    """What a method written in Python refers to."""
    code = getattr(method, "__code__", None)
    return set(code.co_names) if code is not None else set()


def check_outside(trainer: Any, datamodule: Any, options: Mapping[str, Any]) -> None:
    """Refuse a trainer whose ``fit`` cannot be called, gives no result back or trains less than is swept here."""
    if "ckpt_path" in options:
        raise ConfigError(
            "range_test takes no ckpt_path: it sweeps from the weights that the module has. Give it those of the "
            "checkpoint first, module = MyModule.load_from_checkpoint(path)."
        )
    if not isinstance(datamodule, (part(trainer, "LightningDataModule"), type(None))):
        raise SetupError(
            f"datamodule must be a {package_of(trainer)}.LightningDataModule; got a {type(datamodule).__name__}. "
            "Give loaders as train_dataloaders."
        )
    freezing = part(trainer, "callbacks.BaseFinetuning")
    freezes = next((each for each in trainer.callbacks if isinstance(each, freezing)), None)
    if freezes is not None:
        name = type(freezes).__name__
        raise SetupError(
            f"{name} freezes layers when the fit starts, and range_test sweeps without callbacks, so it would sweep "
            f"all of them. Use Trainer(callbacks=[{name}(...), LRFinderCallback(...)]), which sweeps what is trained."
        )
    if trainer.state.status == "running":
        raise SetupError("the trainer is running: call range_test before trainer.fit, or use LRFinderCallback in it.")
    if isinstance(trainer.strategy.launcher, part(trainer, "strategies.launchers._MultiProcessingLauncher")):
        raise SetupError(
            "this strategy starts its processes inside trainer.fit, from which no result comes back. "
            "Use strategy='ddp' or one device, or LRFinderCallback."
        )


def accumulation_by_epoch(trainer: Any) -> Any:
    """The callback that sets the batches per update of each epoch, or None."""
    kind = part(trainer, "callbacks.GradientAccumulationScheduler")
    return next((each for each in trainer.callbacks if isinstance(each, kind)), None)


def length(trainer: Any) -> int:
    """Updates that this fit makes, after those of earlier fits of the trainer.

    Raises:
        SetupError: it has no end.
    """
    updates = trainer.estimated_stepping_batches
    if not 0 < updates < math.inf:
        raise SetupError(
            "the training has no end for the schedule to be made for: max_epochs=-1, or a loader without a length. "
            "Set max_steps of the Trainer, or LRFinderCallback(..., total_steps=...)."
        )
    by_epoch = accumulation_by_epoch(trainer)
    batches = trainer.num_training_batches
    if by_epoch is not None and batches < math.inf and trainer.max_epochs != -1:
        counts = (by_epoch.get_accumulate_grad_batches(epoch) for epoch in range(trainer.max_epochs))
        updates = sum(-(-int(batches) // count) for count in counts)
        updates = updates if trainer.max_steps == -1 else min(updates, trainer.max_steps)
    return int(updates - trainer.global_step)


def check_optimizer(trainer: Any) -> None:
    optimizers = trainer.optimizers
    if not optimizers or isinstance(optimizers[0], part(trainer, "core.optimizer._MockOptimizer")):
        name = type(trainer.lightning_module).__name__
        raise SetupError(f"configure_optimizers of {name} returned no optimizer: there is no learning rate to sweep.")
    if needs_closure(optimizers[0]):
        raise SetupError(
            f"{type(optimizers[0]).__name__} computes the loss several times per step, of which Lightning reports the "
            "last. Use LRFinder(model, optimizer, criterion)."
        )
