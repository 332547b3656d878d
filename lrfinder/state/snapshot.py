"""One true copy of the training state, put back in place. The only module that copies state.

A range test trains for real, so everything a training step may touch is copied before and put back after:
parameters, every buffer (also non-persistent ones, which state dicts leave out), plain attributes that a model keeps
about itself, the optimizer's state and its groups' entries, pending gradients, ``training`` flags, a GradScaler, the
random states of Python, NumPy, torch and each device, and the generators of the loaders.

Values go back into the very objects they came from (``tensor.copy_``, ``dict.update``), so every alias stays valid:
DDP's buckets, compiled graphs, an EMA's references, a loop's own variables. Nothing goes through ``state_dict``:
``Optimizer.load_state_dict`` keeps tensors of the same dtype without copying them, so a state loaded twice may have
been trained on in between. Nothing is gathered over ranks: each restores its own.
"""

from __future__ import annotations

import logging
import os
import random
import signal
import tempfile
import threading
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lrfinder.errors import ConfigError, SetupError
from lrfinder.param_groups import optimizer_parameters
from lrfinder.setup import TrainingSetup

__all__ = ["STORAGES", "Snapshot", "capture_random", "preserved"]

STORAGES = ("auto", "device", "cpu", "disk")

_ALIGNED = 64  # bytes to which copies are aligned, as their originals are
_AMPLE = 0.25  # part of a device's free memory the copy may take under "auto": the activations of a step need the rest

# On a GPU torch copies lists of these, and refuses others, as the wider unsigned integers.
_COPIED_TOGETHER = frozenset(
    {
        torch.float64,
        torch.float32,
        torch.float16,
        torch.bfloat16,
        torch.complex64,
        torch.complex128,
        torch.int64,
        torch.int32,
        torch.int16,
        torch.int8,
        torch.uint8,
        torch.bool,
    }
)

# Nothing inside that could change; most of what an optimizer keeps about itself.
_ATOMS = frozenset({bool, int, float, str, type(None)})

_log = logging.getLogger("lrfinder")

# Puts one captured value back and returns the object that stands for it.
Restorer = Callable[[], Any]


@contextmanager
def preserved(setup: TrainingSetup, loaders: Iterable[object] = (), storage: str = "auto") -> Iterator[Snapshot]:
    """Context in which the training state may be changed at will; on the way out it is bit for bit what it was.

    Holds on any exception and on Ctrl-C; a second Ctrl-C waits until the state is whole again.

    Args:
        setup: the model, with its parameters, buffers, flags and own attributes, and the criterion where it is a
            module; the optimizer; the GradScaler.
        loaders: their generators and those of their samplers and data sets are kept; iteration inside the context
            starts fresh and never touches an iterator that is under way.
        storage: where the copy lives: ``"device"`` (beside the original), ``"cpu"`` (pinned where that helps),
            ``"disk"`` (memory-mapped temporary files), or ``"auto"``: the device if there is ample room, else the CPU,
            else disk, said in one log line.

    Raises:
        ConfigError: unknown ``storage``.
        SetupError: the model holds parameters that were never initialised.
    """
    snapshot = Snapshot(setup, loaders, storage)
    try:
        yield snapshot
    finally:
        with _interrupts_deferred():
            try:
                snapshot.restore()
            finally:
                snapshot.close()


class Snapshot:
    """The copy itself. See :func:`preserved`, which also guarantees that it is put back."""

    def __init__(self, setup: TrainingSetup, loaders: Iterable[object] = (), storage: str = "auto") -> None:
        if storage not in STORAGES:
            raise ConfigError(f"snapshot must be one of {', '.join(map(repr, STORAGES))}; got {storage!r}.")
        modules = list(dict.fromkeys(module for root in setup.modules for module in root.modules()))
        copies = _Copies()
        self._copies = copies
        self._state = [_capture_module(module, copies) for module in modules]
        # Parameters that only the optimizer knows are reached through its groups.
        self._state.append(_capture(setup.optimizer, copies))
        if setup.grad_scaler is not None:
            self._state.append(_capture(vars(setup.grad_scaler), copies))
        self._flags = [(module, module.training) for module in modules]
        parameters = dict.fromkeys(
            parameter
            for source in (*(module.parameters() for module in setup.modules), optimizer_parameters(setup.optimizer))
            for parameter in source
        )
        self._pending = _Copies()  # gradients: no rewind needs them, and they may be in memory that is gone by then
        self._grads = [(parameter, _capture(parameter.grad, self._pending)) for parameter in parameters]
        self._loaders = [_capture_loader(loader) for loader in loaders]
        self._random = capture_random()
        try:
            copies.take(storage)
            self._pending.take(storage)
        except BaseException:
            self.close()
            raise

    def rewind(self) -> None:
        """Put back what an update changes (weights, buffers, optimizer, scaler, random state), not the gradients."""
        with torch.no_grad():
            self._copies.put_back()
            for restore in self._state:
                restore()
        self.rewind_random()

    def rewind_random(self) -> None:
        """Put back the random states alone."""
        self._random()

    def rewind_loaders(self) -> None:
        """Put back the generators of the loaders: a fresh iterator gives the same batches again."""
        for rewind, _ in self._loaders:
            rewind()

    def restore(self) -> None:
        """Put everything back."""
        self.rewind()
        with torch.no_grad():
            self._pending.put_back()
        for parameter, restore in self._grads:
            parameter.grad = restore()
        for module, training in self._flags:
            if module.training != training:  # to set an attribute of a module is slow
                module.training = training
        for rewind, resume in self._loaders:
            rewind()
            resume()

    def close(self) -> None:
        """Free the copy."""
        self._copies.close()
        self._pending.close()


class _Copies:
    """The tensors to keep, each once however many names it has, and their copies.

    The copies of what is on a GPU lie one behind the other in one block of memory, and so do those on disk, so that
    there is one allocation of exactly their size; they are written and put back in as few calls as there are dtypes. To
    and from a GPU all of that is queued on the stream the training itself uses, and nobody waits: not beside it, as a
    forward pass may write parameters too (``max_norm`` of an embedding, a clamp in a loss function), and the copy has
    to be of before.
    """

    def __init__(self) -> None:
        # Containers already walked: two names of one list are one list, and a cycle ends.
        self.walked: dict[int, Restorer] = {}
        self._originals: dict[int, Tensor] = {}
        self._groups: list[tuple[list[Tensor], list[Tensor]]] = []
        self._others: list[tuple[Tensor, Tensor]] = []
        self._instead: dict[int, Tensor] = {}  # of originals that are gone
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._pinned: Tensor | None = None

    def keep(self, tensor: Tensor) -> None:
        if torch.nn.parameter.is_lazy(tensor):
            raise SetupError(
                "the model holds a parameter that was never initialised (a lazy module). "
                "Run one batch through the model, and build the optimizer after that."
            )
        self._originals.setdefault(id(tensor), tensor)

    def take(self, storage: str) -> None:
        self.walked.clear()  # which leads back here: what stays in a circle keeps the model alive for a while
        if not self._originals:
            return
        originals = [tensor for tensor in self._originals.values() if _writable(tensor)]
        plain = [tensor for tensor in originals if _plain(tensor) and _there(tensor)]
        if storage == "auto":
            storage = _roomy_storage(originals)
        with torch.no_grad():
            self._others = [(tensor, tensor.clone()) for tensor in originals if not _plain(tensor)]
            groups: dict[tuple[torch.device, torch.dtype], tuple[list[Tensor], list[Tensor]]] = {}
            for tensor, copy in zip(plain, self._allocate(plain, storage), strict=True):
                group = groups.setdefault((tensor.device, tensor.dtype), ([], []))
                group[0].append(tensor)
                group[1].append(copy)
            self._groups = list(groups.values())
            for tensors, copies in self._groups:
                _copy_all(copies, tensors)

    def put_back(self) -> None:
        for tensors, copies in self._groups:
            if all(map(_there, tensors)):
                _copy_all(tensors, copies)
                continue
            for tensor, copy in zip(tensors, copies, strict=True):
                if _there(tensor):
                    tensor.copy_(copy, non_blocking=True)
                else:
                    self._instead[id(tensor)] = copy.to(tensor.device, copy=True)
        for tensor, copy in self._others:
            tensor.copy_(copy)

    def restored(self, tensor: Tensor) -> Tensor:
        """The tensor itself with its contents of before, or one of the same contents where its memory is gone."""
        return self._instead.get(id(tensor), tensor)

    def close(self) -> None:
        # What was queued still reads from the host, and torch watches only over memory that it has pinned itself.
        pairs = [(tensors[0], copies[0]) for tensors, copies in self._groups]  # each group is of one device
        for device in {tensor.device for tensor, copy in pairs if tensor.is_cuda and not copy.is_cuda}:
            torch.cuda.current_stream(device).record_event().synchronize()
        if self._pinned is not None:
            _cudart().cudaHostUnregister(self._pinned.data_ptr())
            self._pinned = None
        self._groups.clear()
        self._others.clear()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def _allocate(self, originals: list[Tensor], storage: str) -> list[Tensor]:
        try:
            return self._room(originals, storage)
        except (MemoryError, RuntimeError) as error:
            if storage == "disk":
                raise
            following = {"device": "cpu", "cpu": "disk"}[storage]
            _log.warning("no room for the snapshot on the %s (%s): trying %s", storage, error, following)
        return self._allocate(originals, following)

    def _room(self, originals: list[Tensor], storage: str) -> list[Tensor]:
        room: dict[int, Tensor] = {}
        blocks: dict[torch.device, list[Tensor]] = {}
        for tensor in originals:
            if storage != "disk" and tensor.device.type == "cpu":
                # What earlier passes have left serves for these; a large block would be new, page by page.
                room[id(tensor)] = torch.empty_like(tensor)
            else:
                blocks.setdefault(tensor.device if storage == "device" else torch.device("cpu"), []).append(tensor)
        for device, tensors in blocks.items():
            starts, size = _lay_out(tensors)
            block = self._block(size, device, storage)
            on_gpu = [tensor.device for tensor in tensors if tensor.is_cuda and tensor.nbytes]
            if storage == "cpu" and on_gpu:
                self._pin(block, on_gpu[0])
            room |= {id(t): _view(block, start, t) for t, start in zip(tensors, starts, strict=True)}
        return [room[id(tensor)] for tensor in originals]

    def _block(self, size: int, device: torch.device, storage: str) -> Tensor:
        if storage != "disk" or size == 0:
            return torch.empty(size, dtype=torch.uint8, device=device)
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="lrfinder-")
        handle, path = tempfile.mkstemp(dir=self._folder.name)
        os.close(handle)
        return torch.from_file(path, shared=True, size=size, dtype=torch.uint8)

    def _pin(self, block: Tensor, device: torch.device) -> None:
        # Torch's own pinned memory comes in powers of two, and is kept for ever.
        self._pinned = block
        status = _cudart().cudaHostRegister(block.data_ptr(), block.nbytes, 1)
        if int(status) == 0:
            return
        self._pinned = None
        _log.info("the snapshot's memory could not be pinned (%s), so the CPU waits for each copy", status)
        # The runtime keeps the error for whoever asks next, and a kernel that has nothing to do with it would.
        with suppress(RuntimeError):
            torch.ones(1, device=device)


def _copy_all(targets: list[Tensor], sources: list[Tensor]) -> None:
    """Copy tensors of one dtype, queued on a GPU's stream."""
    if sources[0].dtype in _COPIED_TOGETHER:
        torch._foreach_copy_(targets, sources, non_blocking=True)
        return
    for target, source in zip(targets, sources, strict=True):
        target.copy_(source, non_blocking=True)


def _cudart() -> Any:
    return torch.cuda.cudart()  # type: ignore[no-untyped-call]


def _plain(tensor: Tensor) -> bool:
    """Is it no more than numbers in memory? Sparse, quantized and distributed tensors are cloned where they are."""
    kind = type(tensor) in (Tensor, nn.Parameter)
    return kind and tensor.layout == torch.strided and not (tensor.is_quantized or tensor.is_conj() or tensor.is_neg())


def _lay_out(tensors: list[Tensor]) -> tuple[list[int], int]:
    """Where each starts in a block of bytes that holds them one behind the other, and the size of the block."""
    starts, size = [], 0
    for tensor in tensors:
        starts.append(size)
        size += -(-tensor.nbytes // _ALIGNED) * _ALIGNED
    return starts, size


def _view(block: Tensor, start: int, tensor: Tensor) -> Tensor:
    """The part of the block from there on as a tensor like this one."""
    view = block[start : start + tensor.nbytes].view(tensor.dtype)
    if tensor.is_contiguous():
        return view.view(tensor.shape)
    # Of the same strides, or copying between devices would need room for a rearranged one.
    return view.as_strided(tensor.shape, torch.empty_like(tensor, device="meta").stride())


def _writable(tensor: Tensor) -> bool:
    # An expanded tensor holds one value in many places: nobody can write into it, so nobody can change it either.
    return (
        tensor.layout != torch.strided
        or tensor.is_contiguous()
        or not any(stride == 0 and size > 1 for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    )


def _there(tensor: Tensor) -> bool:
    """Is it still in memory? What a model compiled with CUDA graphs has made is lost when the next pass begins."""
    try:
        tensor.data_ptr()
    except RuntimeError:
        return False
    return True


def _roomy_storage(tensors: list[Tensor]) -> str:
    on_device: dict[torch.device, int] = {}
    for tensor in tensors:
        if tensor.is_cuda:
            on_device[tensor.device] = on_device.get(tensor.device, 0) + tensor.nbytes
    for device, needed in on_device.items():
        free, _ = torch.cuda.mem_get_info(device)
        if needed > _AMPLE * free:
            _log.info("the snapshot (%.0f MB) stays on the CPU: %s has %.0f MB free", needed / 1e6, device, free / 1e6)
            return "cpu"
    return "device"


def _capture(value: Any, copies: _Copies) -> Restorer:
    """Copy a value that may hold tensors anywhere; the restorer gives back the same objects with the same contents.

    Containers are walked; tensors are registered with ``copies`` and go back by :meth:`_Copies.put_back`. What is
    neither (numbers, functions, foreign objects) is kept by reference.
    """
    if isinstance(value, Tensor):
        copies.keep(value)
        return lambda: copies.restored(value)
    if isinstance(value, np.ndarray):
        return _capture_array(value)
    if _is_optimizer_like(value):
        _capture_container(vars(value), copies)
        restore_attributes = copies.walked[id(vars(value))]

        def restore_object() -> Any:
            restore_attributes()
            return value

        return restore_object
    return _capture_container(value, copies)


def _capture_container(value: Any, copies: _Copies) -> Restorer:
    # Exact types: a subclass may do anything when it is cleared.
    kind = type(value)
    if kind not in (dict, OrderedDict, defaultdict, list, deque, set, tuple):
        return lambda: value
    if id(value) not in copies.walked:
        copies.walked[id(value)] = lambda: value
        if kind in (dict, OrderedDict, defaultdict):
            contents = dict(value)
            parts = {key: _capture(item, copies) for key, item in value.items() if type(item) not in _ATOMS}
            copies.walked[id(value)] = lambda: _refill(value, contents | {key: part() for key, part in parts.items()})
        elif kind is set:
            members = set(value)
            copies.walked[id(value)] = lambda: _refill(value, members)
        else:
            items = [_capture(item, copies) for item in value]
            copies.walked[id(value)] = lambda: _refill(value, [item() for item in items])
    return copies.walked[id(value)]


def _refill(target: Any, contents: Any) -> Any:
    """Give a container its contents back; a tuple cannot change, only what it holds."""
    if isinstance(target, (dict, set)):
        target.clear()
        target.update(contents)
    elif not isinstance(target, tuple):
        target.clear()
        target.extend(contents)
    return target


def _capture_array(array: np.ndarray[Any, Any]) -> Restorer:
    saved = array.copy()

    def restore() -> Any:
        if array.flags.writeable:
            np.copyto(array, saved)
        return array

    return restore


def _is_optimizer_like(value: Any) -> bool:
    return hasattr(value, "param_groups") and hasattr(value, "step") and hasattr(value, "__dict__")


def _capture_module(module: nn.Module, copies: _Copies) -> Restorer:
    """Parameters and buffers of one module (not of its children), and the attributes its author keeps on it."""
    attributes = vars(module)
    parts = {name: _capture(attributes[name], copies) for name in ("_parameters", "_buffers")}
    if type(module).__module__.partition(".")[0] == "torch":
        # torch's own modules keep nothing else that a step changes, but wrappers (DDP, compiled modules) keep
        # bookkeeping that has to move on with the objects it describes.
        def restore_tensors() -> None:
            for part in parts.values():
                part()

        return restore_tensors
    registries = {name for name in vars(nn.Module()) if name not in parts}
    parts |= {name: _capture(item, copies) for name, item in attributes.items() if name not in registries | set(parts)}

    def restore() -> None:
        for name in [name for name in attributes if name not in parts and name not in registries]:
            del attributes[name]
        attributes.update({name: part() for name, part in parts.items()})

    return restore


def capture_random() -> Restorer:
    """Random states of Python, NumPy, torch and every device in use; called, the restorer puts them back."""
    python, legacy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    cuda = None
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        cuda = torch.cuda.get_rng_state_all()
    mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None

    def restore() -> None:
        random.setstate(python)
        np.random.set_state(legacy)
        torch.set_rng_state(cpu)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)
        if mps is not None:
            torch.mps.set_rng_state(mps)

    return restore


def _capture_loader(loader: object) -> tuple[Restorer, Restorer]:
    """Generators that a loader, its samplers and its data set draw from, and a persistent iterator under way.

    The first restorer starts the loader afresh, the second takes up what was under way.
    """
    batch_sampler = getattr(loader, "batch_sampler", None)
    owners = (
        loader,
        getattr(loader, "sampler", None),
        batch_sampler,
        getattr(batch_sampler, "sampler", None),
        getattr(loader, "dataset", None),
    )
    generators = {id(item): item for owner in owners for item in getattr(owner, "__dict__", {}).values()}
    restorers = [restorer for item in generators.values() if (restorer := _capture_generator(item)) is not None]
    # With persistent workers the loader hands out one iterator again and again. The sweep must not move it on.
    persistent = isinstance(loader, torch.utils.data.DataLoader) and loader.persistent_workers
    under_way = getattr(loader, "_iterator", None) if persistent else None

    def set_iterator(iterator: object) -> None:
        if persistent:
            loader._iterator = iterator  # type: ignore[attr-defined]

    def rewind() -> None:
        # Fresh workers too: those that ran on would draw other random numbers.
        set_iterator(None)
        for restorer in restorers:
            restorer()

    set_iterator(None)
    return rewind, lambda: set_iterator(under_way)


def _capture_generator(item: object) -> Restorer | None:
    if isinstance(item, torch.Generator):
        state = item.get_state()
        return lambda: item.set_state(state)
    if isinstance(item, np.random.Generator):
        bits = item.bit_generator
        bits_state = bits.state
        return lambda: setattr(bits, "state", bits_state)
    if isinstance(item, np.random.RandomState):
        legacy = item.get_state()
        return lambda: item.set_state(legacy)
    if isinstance(item, random.Random):
        python = item.getstate()
        return lambda: item.setstate(python)
    return None


@contextmanager
def _interrupts_deferred() -> Iterator[None]:
    """Hold back Ctrl-C until the block is done, then deliver it."""
    # Python delivers signals to the main thread only; None is a handler that was not set from Python.
    previous = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or previous is None:
        yield
        return
    pending: list[tuple[int, FrameType | None]] = []
    signal.signal(signal.SIGINT, lambda number, frame: pending.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
        if pending and callable(previous):
            previous(*pending[0])
