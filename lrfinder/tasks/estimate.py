"""Time and memory of a range test, estimated before it starts from steps with few samples, which leave no trace."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import Any

import torch

from lrfinder.advice.search import plan_search
from lrfinder.advice.situation import needs_probe
from lrfinder.errors import SetupError
from lrfinder.tables.situations import PROBE
from lrfinder.tasks.estimate_steps import FullError, Line, Probe
from lrfinder.tasks.experiment import Experiment
from lrfinder.tasks.memory import peak_memory
from lrfinder.tasks.user_code import is_reference
from lrfinder.training.model_facts import take_facts
from lrfinder.training.range_search import SweepRequest, choose_range
from lrfinder.training.state import preserved

__all__ = ["Estimate", "Meter", "estimate"]

_FEW, _MORE = 2, 8  # samples of the steps: BatchNorm takes no single one; two sizes tell what grows with the batch
_FORWARD = 1 / 3  # of a step: a backward pass computes two products for each of the forward pass
_SEARCHED = 1 + 16 * _FORWARD  # steps of the search for a range: one backward pass and about 16 forward passes
_HELD_OUT = 16  # batches at most that are held out where there is no validation part
_LONG = 300.0  # seconds that are more than minutes
_ROOM = 0.8  # part of the memory that an advised batch may take
_GRID = 32  # advised image sizes are multiples of it, as most models need
_LEAST_SIZE = 64
_ONE_SIZE = ("inception_v3", "maxvit_", "mvit_", "s3d", "ssd")  # beginnings of models that take no such size


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a range test takes.

    Args:
        steps: training steps, passes without an update counted as parts of one.
        step: seconds of one pass over a batch.
        memory: bytes at the peak.
        saved: bytes that are needed for certain: what the process held, and what the forward pass saves.
        usable: bytes that there are; None where the system does not tell.
        batch_size, accumulation_steps: of the training.
        image_size: pixels on a side; None where it is not one number that the user may choose.

    Example:
        >>> line = Line(fixed=1e9, each=1e8)
        >>> taken = Estimate(
        ...     steps=50, step=Line(fixed=0.1, each=0.05), memory=line, saved=line, usable=5 * 10**9, batch_size=64
        ... )
        >>> print(taken.words)
        About 3 minutes and 7 GB.
        More than the 5 GB that are free: use `batch_size` 16 with `accumulation_steps` 4, which takes about 3 GB.
    """

    steps: float
    step: Line
    memory: Line
    saved: Line
    usable: int | None
    batch_size: int
    accumulation_steps: int = 1
    image_size: int | None = None

    @property
    def seconds(self) -> float:
        """Time from the first batch to the end of the last sweep or trial."""
        return self.steps * self.accumulation_steps * self.step.at(self.batch_size)

    @property
    def bytes(self) -> int:
        """Memory at the peak: of the process, or on a GPU of the tensors there."""
        return round(self.memory.at(self.batch_size))

    @property
    def words(self) -> str:
        """Time and memory in a line, and what to do where it is more than there is or than minutes, in another."""
        return "\n".join((f"About {_time(self.seconds)} and {_size(self.bytes)}.", *self._remedies()))

    def to_dict(self) -> dict[str, Any]:
        """The two numbers, JSON-ready."""
        return {"seconds": round(self.seconds, 1), "bytes": self.bytes}

    def check(self) -> None:
        """Refuse a range test that certainly does not fit.

        Raises:
            SetupError: the forward pass alone saves more than there is memory.
        """
        if self.usable is not None and self.saved.at(self.batch_size) > self.usable:
            raise SetupError(
                f"this takes about {_size(self.bytes)} of memory; {_size(self.usable)} are free. {self._memory_hint()}"
            )

    def smaller_batch(self) -> Estimate | None:
        """With the largest batch that fits and divides this one, accumulated to the same; None where none fits."""
        for count in range(2, self.batch_size + 1):
            size = self.batch_size // count
            if self.batch_size % count == 0 and (size >= _FEW or self.batch_size <= _FEW):
                smaller = replace(self, batch_size=size, accumulation_steps=self.accumulation_steps * count)
                if smaller._fits():
                    return smaller
        return None

    def smaller_images(self, most_seconds: float = math.inf) -> Estimate | None:
        """With the largest images that fit in memory and time, by the number of pixels; None where there are none."""
        for size in range((self.image_size or 0) // _GRID * _GRID, _LEAST_SIZE - 1, -_GRID):
            part = (size / (self.image_size or size)) ** 2
            lines = {"step": self.step, "memory": self.memory, "saved": self.saved}
            scaled: dict[str, Any] = {name: replace(line, each=line.each * part) for name, line in lines.items()}
            smaller = replace(self, image_size=size, **scaled)
            if part < 1 and smaller._fits() and smaller.seconds <= most_seconds:
                return smaller
        return None

    def _fits(self) -> bool:
        return self.usable is None or self.bytes <= _ROOM * self.usable

    def _remedies(self) -> list[str]:
        found = []
        if self.usable is not None and self.bytes > self.usable:
            hint = self._memory_hint()
            found.append(f"More than the {_size(self.usable)} that are free: {hint[0].lower()}{hint[1:]}")
        if self.seconds > _LONG:
            smaller = self.smaller_images(_LONG)
            if smaller is not None:
                found.append(f"`image_size` {smaller.image_size} takes about {_time(smaller.seconds)}.")
            else:
                found.append("Fewer `num_iter`, a smaller `image_size` or a GPU make it shorter.")
        return found

    def _memory_hint(self) -> str:
        smaller = self.smaller_batch()
        if smaller is not None:
            options = f"`batch_size` {smaller.batch_size} with `accumulation_steps` {smaller.accumulation_steps}"
            return f"Use {options}, which takes about {_size(smaller.bytes)}."
        smaller = self.smaller_images()
        if smaller is not None:
            return f"Use `image_size` {smaller.image_size}, which takes about {_size(smaller.bytes)}."
        return "Use a smaller model or a machine with more memory."


class Meter:
    """Measures what a range test takes, beside its estimate, from now on.

    Args:
        device: of the training.
        expected: the estimate, if there is one.
    """

    def __init__(self, device: torch.device, expected: Estimate | None) -> None:
        self._device, self._expected, self._started = device, expected, time.perf_counter()

    def to_dict(self) -> dict[str, Any]:
        """Estimate and measurement up to now, JSON-ready; the bytes are of the whole process, on a GPU of tensors."""
        seconds = round(time.perf_counter() - self._started, 1)
        return {
            "estimate": None if self._expected is None else self._expected.to_dict(),
            "took": {"seconds": seconds, "bytes": peak_memory(self._device)},
        }


def estimate(experiment: Experiment, *, epochs: int = 1, budget: float | None = None) -> Estimate | None:
    """Estimate time and memory of an experiment from three steps with two to eight samples, which leave no trace.

    Args:
        experiment: that was prepared.
        epochs, budget: of a refinement, as in :meth:`Experiment.refine`; no budget stands for none.

    Returns:
        The estimate; None where the steps fail, as the range test then says why.

    Example:
        >>> from lrfinder.tasks.experiment import prepare
        >>> from lrfinder.tasks.settings import Settings
        >>> estimate(prepare(Settings(model="squeezenet1_1", batch_size=8))).batch_size
        8
    """
    chosen, task = experiment.settings, experiment.task
    size = chosen.batch_size or 1
    probe = Probe(experiment)
    try:
        steps = _planned(experiment, epochs, budget)
        with preserved(experiment.finder.setup, (task.train_loader, task.val_loader)):
            probe.measure(sorted({min(_FEW, size), min(_MORE, size)}))
    except FullError:
        pass
    except Exception:  # the range test meets it again, and explains it
        return None
    image_size, model = task.facts.get("image_size"), task.facts["model"]
    fixed = chosen.weights is not None or is_reference(chosen.data) or model.startswith(_ONE_SIZE)
    return Estimate(
        steps=steps,
        step=Line.through(probe.seconds),
        memory=probe.memory,
        saved=probe.saved,
        usable=probe.usable,
        batch_size=size,
        accumulation_steps=chosen.accumulation_steps,
        image_size=image_size if isinstance(image_size, int) and not fixed else None,
    )


def _planned(experiment: Experiment, epochs: int, budget: float | None) -> float:
    """Training steps of the range test and its refinement, with passes without an update as parts of one."""
    chosen, task = experiment.settings, experiment.task
    setup = experiment.finder.setup
    given = {name: getattr(chosen, name) for name in ("start_lr", "end_lr", "num_iter", "mode")}
    probed = task.val_loader is None and needs_probe(take_facts(setup), setup.update_rule)
    config, _ = choose_range(1.0, SweepRequest(**given), rule=setup.update_rule, lower=probed)
    forward = _FORWARD / chosen.accumulation_steps
    validated = 0.0 if task.val_loader is None else min(chosen.val_batches, len(task.val_loader)) * forward
    beside = min(PROBE.batches, math.ceil(PROBE.samples / (chosen.batch_size or 1))) * forward if probed else validated
    steps = config.num_iter * (1 + beside)
    if chosen.start_lr is None or chosen.end_lr is None:
        steps += _SEARCHED
    if budget is None:
        return steps
    total = epochs * experiment.steps_per_epoch
    stages = plan_search(int(budget * total), total, probed=probed).values()
    validated = validated or min(_HELD_OUT, len(task.train_loader) // 5) * forward
    return steps + sum(stage.trials * (stage.steps + validated) for stage in stages)


def _time(seconds: float) -> str:
    for unit, length in (("hour", 3600), ("minute", 60)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.0f} {unit}s"
    return f"{max(seconds, 1):.0f} seconds" if seconds >= 1.5 else "1 second"


def _size(count: float) -> str:
    return f"{count / 1e9:.0f} GB" if count >= 1.5e9 else f"{count / 1e9:.1f} GB"
