"""One true copy of the training state, restored in place.

A range test trains for real, so everything a training step may touch is copied before and restored after:
parameters, every buffer (also non-persistent ones, which state dicts leave out), the hooks and children of modules and
the attributes that a model keeps about itself, ``requires_grad``, attributes and hooks of parameters, the optimizer's
state and its groups' entries, pending gradients, ``training`` flags, a GradScaler, the random states of Python, NumPy,
torch and each device, generators that the model owns, the loaders with their data sets, and what the loss function,
hooks and attributes refer to. Which objects these are, and what is left out, is said in
:mod:`lrfinder.training.state.training_objects`; what is put back of each, in :mod:`lrfinder.training.state.captured`.

Values go back into the very objects they came from (``tensor.copy_``, ``dict.update``), so every alias stays valid:
DDP's buckets, compiled graphs, an EMA's references, a loop's own variables. A tensor that was resized, or pointed to
other memory, is pointed back first. Nothing goes through ``state_dict``: ``Optimizer.load_state_dict`` keeps tensors of
the same dtype without copying them, so a state loaded twice may have been trained on in between. Nothing is gathered
over ranks: each restores its own.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lrfinder.errors import ConfigError, RestoreError
from lrfinder.training.setup import TrainingSetup
from lrfinder.training.state.interrupts import InterruptGate
from lrfinder.training.state.loaders import LoaderState
from lrfinder.training.state.memory import STORAGES
from lrfinder.training.state.modes import capture_modes
from lrfinder.training.state.randomness import capture_random
from lrfinder.training.state.storage import TensorCopies
from lrfinder.training.state.training_objects import TrainingObjects

__all__ = ["Preservation", "Snapshot", "preserved"]


def preserved(setup: TrainingSetup, loaders: Sequence[object] = (), storage: str = "auto") -> Preservation:
    """Context in which the training state may be changed at will; on the way out it is bit for bit what it was.

    Holds on any exception and on Ctrl-C, from the moment the copy is taken until all is restored: an interrupt on the
    way out waits. Every tensor and every object is restored on its own.

    Args:
        setup: the model, with its parameters, buffers, flags and own attributes; the loss function or criterion; the
            optimizer; the GradScaler; what these refer to; and ``also``.
        loaders: restored with their samplers, data sets and transforms. Iterating inside the context starts afresh and
            never advances an iterator in use.
        storage: where the copy is kept: ``"device"`` (beside the original), ``"cpu"`` (pinned where that helps),
            ``"disk"`` (a memory-mapped temporary file), or ``"auto"``: the device if there is ample room, else the
            CPU, else disk, reported in one log line.

    Raises:
        ConfigError: unknown ``storage``.
        SetupError: the model holds parameters that were never initialised, or the copy does not fit anywhere.
        RestoreError: on the way out, where a part of the state could not be restored; a warning instead where another
            exception is on its way.
    """
    return Preservation(setup, loaders, storage)


class Preservation:
    """Context manager of :func:`preserved`.

    It may be entered twice, as in ``with state, state:``. Then whatever is raised between the end of the inner block
    and its first instruction on the way out is met by the outer one, which restores what is not restored yet.
    """

    def __init__(self, setup: TrainingSetup, loaders: Sequence[object], storage: str) -> None:
        self._copy: Callable[[], Snapshot] = partial(Snapshot, setup, loaders, storage)
        self._snapshot: Snapshot | None = None
        self._gate = InterruptGate(Preservation.__exit__)
        self._failures: list[str] = []
        self._restore_modes = capture_modes(setup.device.type)

    def __enter__(self) -> Snapshot:
        if self._snapshot is not None:
            return self._snapshot
        try:
            self._gate.install()
            snapshot = self._snapshot = self._copy()
            self._gate.open()
            return snapshot
        except BaseException:
            self._leave()
            raise

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._gate.closed = True
        try:
            self._leave()
        except BaseException:  # an exception that no signal handler holds back; what is restored twice is as good
            self._leave()
            raise
        failures, self._failures = self._failures, []
        if not failures:
            return
        if error is None:
            raise RestoreError(_report(failures))
        warnings.warn(_report(failures), RuntimeWarning, stacklevel=2)

    def _leave(self) -> None:
        """Restore, free the copy, and let interrupts through again; whatever is done already is not done again."""
        self._gate.closed = True
        if self._snapshot is not None:
            try:
                self._snapshot.restore()
            except RestoreError:
                self._failures = self._snapshot.failures
            self._snapshot.close()
            self._snapshot = None
        self._restore_modes()
        self._gate.remove()


class Snapshot:
    """The copy itself. See :func:`preserved`, which takes the same arguments and guarantees that it is restored."""

    def __init__(self, setup: TrainingSetup, loaders: Sequence[object] = (), storage: str = "auto") -> None:
        if storage not in STORAGES:
            raise ConfigError(f"snapshot must be one of {', '.join(map(repr, STORAGES))}; got {storage!r}.")
        self.failures: list[str] = []
        """What the last :meth:`rewind` or :meth:`restore` could not restore."""
        drawn = [loader for loader in loaders if isinstance(loader, DataLoader)]  # or prepared
        # A rewind must not touch a loader in use, whose place may be in its attributes. LoaderState restores it.
        objects = TrainingObjects(setup, [*drawn, *(loader.dataset for loader in drawn)])
        self._copies = TensorCopies()
        self._restorers = objects.captured(self._copies)
        moded = [module for module in objects.modules if hasattr(module, "training")]  # not a frozen scripted one
        self._flags = [(module, module.training) for module in moded]
        # Gradients apart: no rewind needs them, and their memory may be gone by then.
        self._gradients = TensorCopies()
        self._grads = [(leaf, leaf.grad) for leaf in self._copies.leaves]
        self._loaders: list[LoaderState] = []
        self._restore_random = capture_random()
        try:
            for _, gradient in self._grads:
                if gradient is not None:
                    self._gradients.keep(gradient)
            self._copies.take(storage)
            self._gradients.take(storage)
            # Last, since they put the iterators in use aside.
            known = (*objects.modules, *objects.optimizers)
            self._loaders.extend(LoaderState(each, known=known) for each in (*loaders, *objects.data))
        except BaseException:
            for state in reversed(self._loaders):
                state.restore()
            self.close()
            raise

    def rewind(self) -> None:
        """Restore what an update changes (weights, buffers, optimizer, scaler, random state), not the gradients.

        Raises:
            RestoreError: a part could not be restored; all others are.
        """
        self.failures = []
        self._rewind()
        self._raise_failures()

    def rewind_random(self) -> None:
        """Restore the random states alone."""
        self._restore_random()

    def rewind_loaders(self) -> None:
        """Restore the loaders and their data: a fresh iterator gives the same batches again."""
        for loader in self._loaders:
            loader.rewind()

    def restore(self) -> None:
        """Restore everything.

        Raises:
            RestoreError: a part could not be restored; all others are.
        """
        self.failures = []
        self._rewind()
        with torch.no_grad():
            self._gradients.restore(self.failures)
        for leaf, gradient in self._grads:
            self._attempt(partial(_set_gradient, leaf, gradient, self._gradients))
        for module, training in self._flags:
            if module.training != training:  # setting an attribute of a module is slow
                module.training = training
        for loader in reversed(self._loaders):  # the last copy of one met twice was taken with its iterator aside
            self._attempt(loader.restore)
        self._raise_failures()

    def close(self) -> None:
        """Free the copy."""
        self._copies.close()
        self._gradients.close()

    def _rewind(self) -> None:
        with torch.no_grad():
            self._copies.restore(self.failures)
            for name, restore in self._restorers:
                self._attempt(restore, f"{name}: ")
        self._attempt(self.rewind_random)

    def _attempt(self, restore: Callable[[], Any], name: str = "") -> None:
        try:
            restore()
        except Exception as error:  # whatever it is, the rest is restored
            self.failures.append(f"{name}{type(error).__name__}: {error}")

    def _raise_failures(self) -> None:
        if self.failures:
            raise RestoreError(_report(self.failures))


def _set_gradient(leaf: Tensor, gradient: Tensor | None, copies: TensorCopies) -> None:
    leaf.grad = gradient if gradient is None else copies.restored(gradient)


def _report(failures: list[str]) -> str:
    named = "; ".join(failures[:3]) + (f"; and {len(failures) - 3} more" if len(failures) > 3 else "")
    return (
        f"a part of the training state could not be restored: {named}. Everything else is as it was before. "
        "Build the model and the optimizer anew before training."
    )
