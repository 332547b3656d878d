"""Loss on batches that are not trained on, in eval mode: which batches, and their loss."""

from __future__ import annotations

import contextlib
import itertools
import math
import re
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from lrfinder.checks import check_count
from lrfinder.errors import BatchError, ConfigError, SetupError
from lrfinder.param_groups import mode_switches
from lrfinder.tables.situations import PROBE
from lrfinder.training.batches import Batches, loader_length
from lrfinder.training.compiled import is_compiled
from lrfinder.training.contents import batch_size, move
from lrfinder.training.losses import check_scalar
from lrfinder.training.setup import TrainingSetup

__all__ = ["Validation", "check_probe", "hold_out", "probe_for", "validation_for"]

_NEEDS_GRAD = "requires?[_ ]grad"  # in what torch raises for a gradient that no_grad() has cut off
_HELD_OUT_PART, _MAX_HELD_OUT = 5, 16  # one batch in five of the loader is held out, 16 at most


def check_probe(val_batches: int | None, val_loader: object) -> None:
    """Refuse a bad number of probe batches before anything is trained.

    Raises:
        ConfigError: it is no count, or there is no loader to draw them from.
    """
    if val_batches is not None:
        check_count("val_batches", val_batches)
        if val_loader is None:
            raise ConfigError("val_batches needs a val_loader to draw them from; pass one, or leave it out.")


def validation_for(
    setup: TrainingSetup, train_loader: Iterable[Any], val_loader: Iterable[Any] | None, val_batches: int | None
) -> tuple[Validation, int]:
    """Validation that decides a trial search, and the number of training batches held out for it.

    Waits until every rank has its batches. All hold out as many, as a sharded model communicates in each forward pass.

    Args:
        setup: what is trained, and how.
        train_loader: its first batches are held out where there is no ``val_loader``.
        val_loader: batches to validate on.
        val_batches: number of them to keep as a fixed probe; None takes all.
    """
    if val_loader is not None:
        validation = Validation(setup, val_loader, val_batches)
        setup.ranks.settle()
        return validation, 0
    held_out = hold_out(train_loader)
    setup.ranks.settle()
    count = int(min(setup.ranks.gathered([len(held_out)]))[0])
    return Validation(setup, held_out, count), count


def hold_out(loader: Iterable[Any]) -> list[Any]:
    """First batches of a training loader, to validate on instead of training: a fifth of it, 16 at most.

    Raises:
        SetupError: the loader holds fewer than two batches.
    """
    length = loader_length(loader)
    most = 2 * _MAX_HELD_OUT if length is None else min(max(1, length // _HELD_OUT_PART), _MAX_HELD_OUT)
    batches = list(itertools.islice(loader, most))
    if length is None:  # some were drawn to see how many there are
        length = len(batches)
        batches = batches[: max(1, length // _HELD_OUT_PART)]
    if length < 2:
        raise SetupError(
            "the training loader has too few batches to keep one back for measuring. Pass val_loader: other batches, "
            "or the training batches themselves where there are no others, as for the points of an equation."
        )
    return batches


def probe_for(setup: TrainingSetup, batches: Batches) -> Validation | None:
    """Probe of the next batches, which are drawn and not trained on; None where their loss cannot be measured.

    That is so where too few batches come, and where the loss exists in training mode alone, as those of torchvision's
    detection models. Ranks that train together all have one, of as many batches each, or none has.
    """
    if setup.loss_fn is None:
        return None
    drawn = setup.ranks.attempt(partial(_probe_batches, batches, setup.ranks.size)) or []
    if not (count := int(min(setup.ranks.gathered([len(drawn)]))[0])):
        return None
    probe = Validation(setup, drawn, count, beside=True)

    def loss() -> Tensor:
        try:
            return probe.loss()
        except Exception:  # of any kind, as it comes from a model in a mode that the user may never use
            return torch.full((), math.nan, device=setup.device)

    return probe if math.isfinite(setup.ranks.mean(loss)) else None


def _probe_batches(batches: Batches, ranks: int) -> list[Any]:
    drawn: list[Any] = []
    most = min(PROBE.batches, max(1, (batches.length or 2 * PROBE.batches) // 2))
    try:
        while ranks * sum(batch_size(batch) or 1 for batch in drawn) < PROBE.samples and len(drawn) < most:
            drawn += batches.draw(1)
    except StopIteration:
        return []
    return drawn


class Validation:
    """Loss over a validation loader, or over a fixed probe of its first batches.

    Gradients are off, unless the loss turns out to need those of its inputs, as that of a physics-informed network
    does. Then they are on, and the graph of each batch is freed before the next.

    Args:
        setup: the model, whose ``training`` flags are restored after each pass, its loss function, and the optimizer,
            which is in eval mode during a pass where it has one.
        loader: iterable of batches.
        count: number of batches drawn once and kept as the probe; None goes through the whole loader each time.
        beside: the loss is recorded beside the training loss. BatchNorm layers in training mode then use the statistics
            of each batch: their running ones trail behind the updates of a sweep, and would show damage that is none.

    Raises:
        SetupError: ``loader`` is an iterator, and no probe is kept of it; or the training is a ``step_fn`` alone.
    """

    def __init__(
        self, setup: TrainingSetup, loader: Iterable[Any], count: int | None = None, *, beside: bool = False
    ) -> None:
        if setup.loss_fn is None:
            raise SetupError(
                "step_fn trains, so it cannot measure a validation loss. Pass loss_fn (or criterion) beside it: "
                "LRFinder(model, optimizer, step_fn=step, loss_fn=lambda model, batch: scalar)."
            )
        self.beside = beside
        self._setup, self._loss_fn = setup, setup.loss_fn
        self._loader = loader
        self._with_grad = False
        if count is not None:
            self._loader = [move(batch, setup.device) for batch in itertools.islice(loader, count)]
        elif isinstance(loader, Iterator):
            raise SetupError(
                "val_loader is an iterator, which can be gone through only once. Pass a DataLoader or a list, or set "
                "val_batches to keep its first batches as a probe."
            )

    def loss(self) -> Tensor:
        """Mean loss over the batches, each weighted by its number of samples; a scalar on the device.

        Raises:
            SetupError: the loader gave no batch.
        """
        device = self._setup.device
        total, samples = torch.zeros((), dtype=torch.float32, device=device), 0
        mode = _evaluating(self._setup, batch_statistics=self.beside)
        with mode, torch.no_grad(), self._setup.autocast():
            for batch in self._loader:
                size = 1 if (known := batch_size(batch)) is None else known
                loss = self._loss_of(move(batch, device)).reshape(()).float()  # of no sample nan, which counts 0 times
                total += loss * size if size else 0.0
                samples += size
        if not samples:
            raise SetupError("val_loader gave no batch at all. Check its data set, or leave val_loader out.")
        return total / samples

    def _loss_of(self, batch: Any) -> Tensor:
        """Detached, so that no graph outlives its batch."""
        if not self._with_grad:
            try:
                return self._scalar(batch)
            except (RuntimeError, BatchError) as error:
                if not re.search(_NEEDS_GRAD, str(error)):
                    raise
            self._with_grad = True
        with torch.enable_grad():
            return self._scalar(batch)

    def _scalar(self, batch: Any) -> Tensor:
        try:
            loss = self._loss_fn(self._setup.model, batch)
        except BatchError:  # its message names the cause
            raise
        except (AttributeError, KeyError, TypeError) as error:  # of the program: no weights raise them
            raise BatchError(
                "the loss of a validation batch, with the model in eval mode, could not be computed: "
                f"{type(error).__name__}: {error}. loss_fn has to take such a batch and return a loss in that mode too."
            ) from error
        check_scalar(loss, when=" in eval mode as well")
        return loss.detach()


@contextlib.contextmanager
def _evaluating(setup: TrainingSetup, *, batch_statistics: bool = False) -> Iterator[None]:
    """Context in eval mode, of the model and of an optimizer that has one; the modes are restored on the way out.

    ``batch_statistics``: BatchNorm layers in training mode stay in it, and leave their running statistics alone.
    """
    flags = [(module, module.training) for module in setup.model.modules()]
    modes = mode_switches(setup.optimizer)
    trains = modes is not None and any(group.get("train_mode", True) for group in setup.optimizer.param_groups)
    setup.model.eval()
    if modes is not None:
        modes[1]()
    norms = [each for each, training in flags if batch_statistics and training and isinstance(each, _BatchNorm)]
    momenta = [(norm, norm.momentum) for norm in norms]
    for norm, _ in momenta:
        norm.training, norm.momentum = True, 0.0
    try:
        # Nothing is compiled for a mode that the training does not use.
        uncompiled = batch_statistics and is_compiled(setup.model)
        with torch.compiler.set_stance("force_eager") if uncompiled else contextlib.nullcontext():
            yield
    finally:
        for norm, momentum in momenta:
            norm.momentum = momentum
        if modes is not None and trains:
            modes[0]()
        for module, training in flags:
            if module.training != training:
                module.train(training)  # its own, which undoes what eval() did, as adapters merge their weights then
                module.training = training
