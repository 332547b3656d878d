"""The state machine of a range test: the next learning rate, and when to stop.

It uses neither torch nor a clock nor files. Every loop, and every rank of a distributed run, drives this one machine,
so the rule for "next" and the rule for "stop" are here and nowhere else.
"""

from __future__ import annotations

import bisect
import dataclasses
import math
from collections.abc import Sequence
from statistics import median

from lrfinder.record.curve import LossCurve, StopReason, SweepConfig

__all__ = ["Sweep", "losses_until_diverged"]

_BETA = 0.8  # weight on the past of the stopping average: it trails by 4 iterations, at 12 per decade a third of one
_LEVEL = 5  # iterations whose median is the level the sweep started from
_MEDIAN_STEP = 0.6745 * math.sqrt(2)  # median distance of neighbours, in standard deviations of normal noise
_NOISE_RISE = 16.0  # a rise must be this many standard deviations of the noise: near the edge, SGD oscillates stably
_DIVERGED_PART = 0.8  # part of the drop lost again that is divergence: a dead network stays at its initial loss
_TURNED_PART = 0.1  # part of the drop that must be lost again for the curve to count as turned


class Sweep:
    """A range test in progress. Until ``done``: read ``lr``, train one iteration with it, ``record`` the loss.

    Every decision compares differences of losses with other differences of losses, so adding a constant to the loss
    or scaling it changes nothing, and losses may be negative.

    Args:
        config: the learning rates to visit.
        measured: ``"before"`` or ``"after"`` the update; see :class:`LossCurve`.
        extend: iterations that may be added past ``config.num_iter``, at the same spacing, while the curve has not
            turned.

    Example:
        >>> sweep = Sweep(SweepConfig(start_lr=0.01, end_lr=10.0, num_iter=40))
        >>> weight = 1.0  # gradient descent on weight**2, stable below lr 1
        >>> while not sweep.done:
        ...     sweep.record(weight**2)
        ...     weight -= sweep.last_lr * 2 * weight
        >>> sweep.stop.name
        'DIVERGED'
    """

    def __init__(self, config: SweepConfig, *, measured: str = "before", extend: int = 0) -> None:
        self.config = config
        self.measured = measured
        self.losses: list[float] = []
        self.maximize = False
        """Whether the training raises the loss; to be set before the first loss."""
        self.stop: StopReason | None = None
        self.nonfinite_lr: float | None = None
        self._end = config.num_iter
        self._extend = extend
        self._average = math.nan
        self._lowest = math.inf
        self._levels: list[float] = []  # the losses, with their sign turned where the training raises them
        self._steps: list[float] = []  # distances of neighbouring losses that differ, sorted
        self._compared = 1  # losses whose distances are in that list

    @property
    def done(self) -> bool:
        return self.stop is not None

    @property
    def lr(self) -> float:
        """Learning rate of the iteration whose loss is recorded next."""
        return self.config.lr_at(len(self.losses))

    def lr_ahead(self, count: int) -> float | None:
        """Learning rate of the iteration ``count`` after the next, for a driver that reads its losses late.

        None where the sweep ends before that iteration, whatever the pending losses are.

        Args:
            count: iterations that were run and whose losses are not recorded yet; >= 0.
        """
        ahead = len(self.losses) + count
        return self.config.lr_at(ahead) if ahead < self._end + self._extend else None

    @property
    def last_lr(self) -> float:
        """Learning rate of the iteration whose loss was recorded last."""
        return self.config.lr_at(len(self.losses) - 1)

    def record(self, loss: float) -> None:
        """Record the loss of the iteration run with :attr:`lr`; afterwards :attr:`stop` may be set.

        Args:
            loss: raw loss; nan and infinity end the sweep, they are not errors.
        """
        if self.stop is not None:
            raise RuntimeError("the sweep is over; no more losses can be recorded.")
        if not math.isfinite(loss):
            self.end(StopReason.NONFINITE)
            return
        self.losses.append(loss)
        self._levels.append(-loss if self.maximize else loss)
        self._take_average()
        if self.config.early_stop and self._rose(_DIVERGED_PART):
            self.stop = StopReason.DIVERGED
        elif len(self.losses) >= self._end:
            self._end_or_extend()

    def end(self, reason: StopReason) -> None:
        """End the sweep for a reason outside it, such as exhausted data or Ctrl-C. A finished sweep stays unchanged."""
        if self.done:
            return
        self.stop = reason
        if not reason.is_failure:
            return
        if self.measured == "after":
            self.nonfinite_lr = self.lr
        elif self.losses:
            self.nonfinite_lr = self.last_lr

    def curve(self, **fields: object) -> LossCurve:
        """The curve recorded so far; ``fields`` are those of :class:`LossCurve` from outside the sweep."""
        config = self.config
        if self._end != config.num_iter:
            config = dataclasses.replace(config, end_lr=self.config.lr_at(self._end - 1), num_iter=self._end)
        return LossCurve(
            lrs=tuple(map(self.config.lr_at, range(len(self.losses)))),
            losses=tuple(self.losses),
            stop=self.stop or StopReason.INTERRUPTED,
            config=config,
            measured=self.measured,
            nonfinite_lr=self.nonfinite_lr,
            **fields,  # type: ignore[arg-type]
        )

    def _end_or_extend(self) -> None:
        if self._extend > 0 and not self._rose(_TURNED_PART):
            self._extend -= 1
            self._end += 1
        else:
            self.stop = StopReason.COMPLETED

    def _take_average(self) -> None:
        """Bring the running average and its lowest level up to the last loss."""
        if len(self.losses) < 3:
            return
        # A median of three first, so that one bad batch is never taken for divergence; from the third loss on, so that
        # a bad batch among the first is not either.
        value = sorted(self._levels[-3:])[1]
        self._average = value if len(self.losses) == 3 else _BETA * self._average + (1 - _BETA) * value
        self._lowest = min(self._lowest, self._average)

    def _rose(self, part_of_drop: float) -> bool:
        """True where the running average rose above its lowest level by that part of the drop, and above the noise."""
        if len(self.losses) <= 2 * _LEVEL:
            return False
        rise = self._average - self._lowest
        if rise <= 0:  # the usual case, decided without a median
            return False
        drop = median(self._levels[:_LEVEL]) - self._lowest
        return rise > part_of_drop * drop and rise > _NOISE_RISE * self._noise()

    def _noise(self) -> float:
        """Standard deviation of the batch noise, from the distances of neighbouring losses; infinite without any.

        Their median is used, as a divergence at the end does not change it. Equal neighbours do not count: where most
        are equal, the loss changes by rounding errors alone, and these are the noise.
        """
        for i in range(self._compared, len(self._levels)):
            if self._levels[i] != self._levels[i - 1]:
                bisect.insort(self._steps, abs(self._levels[i] - self._levels[i - 1]))
        self._compared = len(self.losses)
        steps, count = self._steps, len(self._steps)
        return (steps[(count - 1) // 2] + steps[count // 2]) / 2 / _MEDIAN_STEP if count else math.inf


def losses_until_diverged(losses: Sequence[float], *, maximize: bool = False) -> int | None:
    """Number of these losses that a sweep with early stop would have recorded; None where it would not have stopped.

    Args:
        losses: raw and finite, in the order of rising learning rates.
        maximize: whether the training raises them.

    Example:
        >>> losses_until_diverged([2.0 - i / 10 for i in range(12)] + [3.0, 9.0, 27.0, 81.0, 243.0])
        15
    """
    # The decision does not depend on the learning rates.
    sweep = Sweep(SweepConfig(start_lr=1.0, end_lr=2.0, num_iter=len(losses) + 2))
    sweep.maximize = maximize
    for loss in losses:
        sweep.record(loss)
        if sweep.done:
            return len(sweep.losses)
    return None
