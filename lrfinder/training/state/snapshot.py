"""One true copy of the training state, restored in place.

A range test trains for real, so everything a training step may touch is copied before and restored after:
parameters, every buffer (also non-persistent ones, which state dicts leave out), plain attributes that a model keeps
about itself, the optimizer's state and its groups' entries, pending gradients, ``training`` flags, a GradScaler, the
random states of Python, NumPy, torch and each device, the loaders with their data sets, and what the loss function,
hooks and attributes refer to (:mod:`lrfinder.training.state.beside`).

Values go back into the very objects they came from (``tensor.copy_``, ``dict.update``), so every alias stays valid:
DDP's buckets, compiled graphs, an EMA's references, a loop's own variables. Nothing goes through ``state_dict``:
``Optimizer.load_state_dict`` keeps tensors of the same dtype without copying them, so a state loaded twice may have
been trained on in between. Nothing is gathered over ranks: each restores its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch

from lrfinder.errors import ConfigError
from lrfinder.param_groups import optimizer_parameters
from lrfinder.training.setup import TrainingSetup
from lrfinder.training.state.beside import Beside
from lrfinder.training.state.capture import Capture
from lrfinder.training.state.interrupts import interrupts_deferred
from lrfinder.training.state.loaders import LoaderState
from lrfinder.training.state.randomness import capture_random
from lrfinder.training.state.storage import STORAGES, TensorCopies

__all__ = ["Snapshot", "preserved"]


@contextmanager
def preserved(setup: TrainingSetup, loaders: Iterable[object] = (), storage: str = "auto") -> Iterator[Snapshot]:
    """Context in which the training state may be changed at will; on the way out it is bit for bit what it was.

    Holds on any exception and on Ctrl-C; a second Ctrl-C waits until the state is whole again.

    Args:
        setup: the model, with its parameters, buffers, flags and own attributes; the loss function or criterion; the
            optimizer; the GradScaler; what these refer to; and ``also``.
        loaders: restored with their samplers, data sets and transforms. Iterating inside the context starts afresh and
            never advances an iterator in use.
        storage: where the copy is kept: ``"device"`` (beside the original), ``"cpu"`` (pinned where that helps),
            ``"disk"`` (memory-mapped temporary files), or ``"auto"``: the device if there is ample room, else the CPU,
            else disk, reported in one log line.

    Raises:
        ConfigError: unknown ``storage``.
        SetupError: the model holds parameters that were never initialised.
    """
    snapshot = Snapshot(setup, loaders, storage)
    try:
        yield snapshot
    finally:
        with interrupts_deferred():
            try:
                snapshot.restore()
            finally:
                snapshot.close()


class Snapshot:
    """The copy itself. See :func:`preserved`, which takes the same arguments and guarantees that it is restored."""

    def __init__(self, setup: TrainingSetup, loaders: Iterable[object] = (), storage: str = "auto") -> None:
        if storage not in STORAGES:
            raise ConfigError(f"snapshot must be one of {', '.join(map(repr, STORAGES))}; got {storage!r}.")
        beside = Beside(setup)
        own = [module for root in setup.modules for module in root.modules()]
        modules = list(dict.fromkeys([*own, *beside.modules]))
        optimizers = beside.optimizers
        self._copies = TensorCopies()
        capture = Capture(self._copies)
        self._state = [capture.module(module) for module in modules]
        # Parameters outside the model are reached through the optimizer's groups.
        self._state += [capture.value(optimizer) for optimizer in optimizers]
        if setup.grad_scaler is not None:
            self._state.append(capture.value(vars(setup.grad_scaler)))
        self._state += beside.captured(self._copies)
        self._flags = [(module, module.training) for module in modules]
        # Gradients apart: no rewind needs them, and their memory may be gone by then.
        self._gradients = TensorCopies()
        pending = Capture(self._gradients)
        parameters = [parameter for module in modules for parameter in module.parameters(recurse=False)]
        parameters += [parameter for optimizer in optimizers for parameter in optimizer_parameters(optimizer)]
        self._grads = [(parameter, pending.value(parameter.grad)) for parameter in dict.fromkeys(parameters)]
        self._loaders = [LoaderState(each, known=(*modules, *optimizers)) for each in (*loaders, *beside.data)]
        self._restore_random = capture_random()
        try:
            self._copies.take(storage)
            self._gradients.take(storage)
        except BaseException:
            self.close()
            raise

    def rewind(self) -> None:
        """Restore what an update changes (weights, buffers, optimizer, scaler, random state), not the gradients."""
        with torch.no_grad():
            self._copies.restore()
            for restore in self._state:
                restore()
        self.rewind_random()

    def rewind_random(self) -> None:
        """Restore the random states alone."""
        self._restore_random()

    def rewind_loaders(self) -> None:
        """Restore the loaders and their data: a fresh iterator gives the same batches again."""
        for loader in self._loaders:
            loader.rewind()

    def restore(self) -> None:
        """Restore everything."""
        self.rewind()
        with torch.no_grad():
            self._gradients.restore()
        for parameter, restored in self._grads:
            parameter.grad = restored()
        for module, training in self._flags:
            if module.training != training:  # setting an attribute of a module is slow
                module.training = training
        for loader in self._loaders:
            loader.restore()

    def close(self) -> None:
        """Free the copy."""
        self._copies.close()
        self._gradients.close()
