"""A few training steps with few samples: time and memory of a step as functions of the number of samples."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import default_collate

from lrfinder.tasks.experiment import Experiment
from lrfinder.tasks.memory import usable_memory, used_memory
from lrfinder.training.contents import batch_size, move, size_in_bytes, tensors_in
from lrfinder.training.own_step import training_step

__all__ = ["FullError", "Line", "Probe"]

_AT_ONCE = 2.0  # largest tensors that a pass holds beside those it saves: what goes in, what comes out


class FullError(Exception):
    """The forward pass has saved more than there is memory."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """A quantity as a function of the number of samples: ``fixed + each * samples``.

    Example:
        >>> Line.through({2: 14.0, 8: 20.0}).at(64)
        76.0
    """

    fixed: float
    each: float

    def at(self, samples: float) -> float:
        """The quantity for that many samples."""
        return self.fixed + self.each * samples

    @classmethod
    def through(cls, values: dict[int, float]) -> Line:
        """The line through the values of the smallest and the largest number, neither part below 0."""
        few, more = min(values), max(values)
        each = (values[more] - values[few]) / (more - few) if more > few else values[few] / few
        each = min(max(each, 0.0), values[more] / more)
        return cls(fixed=max(values[more] - each * more, 0.0), each=each)


class SavedBytes:
    """Counts the memory that a forward pass saves for its backward pass, weights aside.

    Args:
        model: whose parameters and buffers are not counted.
        limit: raise FullError above so many bytes; None for no limit.
    """

    def __init__(self, model: torch.nn.Module, limit: int | None) -> None:
        self.total = self.largest = 0
        self._limit = limit
        self._met = {each.data_ptr() for each in (*model.parameters(), *model.buffers())}
        self._backward = False
        self.hooks = torch.autograd.graph.saved_tensors_hooks(self._pack, self._unpack)

    def _pack(self, tensor: Tensor) -> Tensor:
        if not self._backward and tensor.layout == torch.strided:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in self._met:
                self._met.add(storage.data_ptr())
                self.total += storage.nbytes()
                self.largest = max(self.largest, storage.nbytes())
        if self._limit is not None and self.total > self._limit:
            raise FullError
        return tensor

    def _unpack(self, tensor: Tensor) -> Tensor:
        self._backward = True  # what an optimizer with a closure computes after it is not held at the same time
        return tensor


class Probe:
    """Makes training steps with few samples. Changes model, optimizer, random states and data as training does.

    Args:
        experiment: whose model, loss, optimizer and data they use.
    """

    def __init__(self, experiment: Experiment) -> None:
        self._setup, self._loader = experiment.finder.setup, experiment.task.train_loader
        self._step = training_step(self._setup)
        self._drawn = experiment.settings.accumulation_steps
        self._held = used_memory(self._setup.device)
        self.usable = usable_memory(self._setup.device)
        self.seconds: dict[int, float] = {}
        self._saved: dict[int, float] = {}
        self._peaks: dict[int, float] = {}

    @property
    def saved(self) -> Line:
        """Bytes held for certain: what the process holds between steps, and what the forward pass saves."""
        line = Line.through(self._saved)
        return Line(fixed=self._held + line.fixed, each=line.each)

    @property
    def memory(self) -> Line:
        """Bytes at the peak."""
        line = Line.through(self._peaks)
        return line if self._setup.device.type == "cuda" else Line(fixed=self._held + line.fixed, each=line.each)

    def measure(self, sizes: list[int]) -> None:
        """Measure steps with so many samples each.

        Raises:
            FullError: a forward pass saves more than there is memory; what was measured until then is kept.
        """
        self._step.enter_training()
        self._made(sizes[0])  # the first step is slower
        self._held = used_memory(self._setup.device)  # gradients, optimizer state and the copy of the state included
        for size in sizes:
            self._made(size)

    def _made(self, samples: int) -> None:
        device, started = self._setup.device, time.perf_counter()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        batch, samples = self._batch(samples)
        loaded = time.perf_counter() - started
        placed = move(batch, device)
        saved = SavedBytes(self._setup.model, None if self.usable is None else self.usable - self._held)
        try:
            with saved.hooks:
                self._step.run([placed])
        finally:
            # Batches are drawn for a whole update.
            waiting = self._drawn * sum(map(size_in_bytes, tensors_in(batch)))
            self._saved[samples] = saved.total
            self._peaks[samples] = saved.total + _AT_ONCE * saved.largest + waiting
            self.seconds[samples] = 0.0
        _wait(device)
        stepped = time.perf_counter() - started - loaded
        workers = getattr(self._loader, "num_workers", 0)
        self.seconds[samples] = max(stepped, loaded / workers) if workers else stepped + loaded
        if device.type == "cuda":
            self._peaks[samples] = torch.cuda.max_memory_allocated(device)

    def _batch(self, samples: int) -> tuple[Any, int]:
        """A batch of the first samples that the sampler draws, and their number; of another loader its first batch."""
        sampler: Any = getattr(self._loader, "sampler", None)
        source: Any = getattr(self._loader, "dataset", None)
        if sampler is None or not hasattr(source, "__getitem__"):
            batch = next(iter(self._loader))
            return batch, batch_size(batch) or samples
        drawn = [source[place] for place in islice(sampler, samples)]
        collate = self._loader.collate_fn or default_collate
        return collate(drawn), len(drawn)


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        torch.get_device_module(device).synchronize()
