"""The loop of a range test, made again at lower learning rates where a chosen range turned out to start too high."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from typing import Any

from torch import Tensor

from lrfinder.analysis.diagnose import edge_at_start, unreadable
from lrfinder.analysis.regimes import read_curve
from lrfinder.analysis.series import FEWEST_POINTS
from lrfinder.errors import SetupError
from lrfinder.record.curve import LossCurve, StopReason, SweepConfig
from lrfinder.record.sweep import Sweep
from lrfinder.training.batches import Batches
from lrfinder.training.driver import SweepDriver
from lrfinder.training.failures import failure_name, is_divergence
from lrfinder.training.progress import Progress, progress_bar
from lrfinder.training.range_search import MOST_ITER, SweepRequest, find_range
from lrfinder.training.setup import TrainingSetup
from lrfinder.training.state import Snapshot
from lrfinder.training.step import TrainStep
from lrfinder.training.untrained import shown_by_training
from lrfinder.training.validation import Validation

__all__ = ["Step", "joint_sizes", "lower_range", "run_sweep", "run_sweeps"]

_LOWER = (10**-2.5, 10**0.5)  # the range of another sweep, as factors of the start that was too high
_LOWER_ITER = 37  # twelve per decade
_HIDDEN_PART = 0.5  # of the fall: where the first losses hold that much of it, the sweep started in its middle
_HIDDEN_NOISES = 5.0
_RISING = 6  # losses from before any update on; of a level start they have at most one inversion in 0.8 % of sweeps
_FINITE_START = 5  # losses that must have been recorded before an exception can be divergence

Step = Callable[[Sequence[Any]], tuple[Tensor, bool]]
"""``step(batches) -> (loss before the update, whether it updated)``: one optimizer step from its micro-batches."""


def joint_sizes(setup: TrainingSetup, batches: Batches) -> tuple[int | None, int | None, int | None] | None:
    """Samples and targets in a batch of all ranks together, and the mean length of their loaders; None on a single one.

    Waits until every rank has the batches of a first step, before any of them communicates. A size is None where a rank
    lacks it.

    Raises:
        SetupError: this rank has too few of them.
        RankError: another rank failed.
    """
    if not setup.ranks.together:
        return None
    try:
        batches.peek(setup.accumulation_steps)
    except StopIteration:
        raise SetupError(
            f"the loader of this rank gave fewer batches than accumulation_steps={setup.accumulation_steps} and cannot "
            "start again. Give every rank at least one step's batches."
        ) from None
    setup.ranks.settle()
    own = (batches.size, batches.targets, batches.length)
    rows = setup.ranks.gathered([number or math.nan for number in own])
    size, targets, length = (None if math.isnan(total) else round(total) for total in map(sum, zip(*rows, strict=True)))
    return size, targets, length and round(length / len(rows))


def run_sweeps(
    setup: TrainingSetup,
    step: TrainStep,
    batches: Batches,
    state: Snapshot,
    request: SweepRequest,
    validation: Validation | None,
    *,
    progress: bool,
    on_step: Callable[[int, float, float], object] | None,
    take: Callable[[SweepDriver], LossCurve],
) -> LossCurve:
    """Find the range, sweep it, and sweep a lower one where it started too high; the last curve that can be read.

    Args:
        setup: what is trained, and how.
        step: one iteration of it.
        batches: where the batches come from.
        state: snapshot that every sweep starts from.
        request: what the user gave.
        validation: measures the recorded loss, or a probe beside it; None for the training loss alone.
        progress: whether to show a bar.
        on_step: called with (step, LR, loss) for each loss that is read, a last one that is not finite included; steps
            count from 0 through all sweeps.
        take: called with each driver when its sweep has ended, also by an error; makes the curve.
    """
    curves: list[LossCurve] = []
    counter = itertools.count()
    ramp: tuple[SweepConfig, int] | None = find_range(
        setup, step, batches, state, request, lower=validation is not None and validation.beside
    )
    while ramp is not None:
        config, extend = ramp
        sweep = Sweep(config, measured="before" if validation is None or validation.beside else "after", extend=extend)
        with progress_bar(config.num_iter, "LR range test", shown=progress) as bar:
            driver = SweepDriver(setup, sweep, on_loss=partial(_report, counter, on_step, bar))
            try:
                run_sweep(driver, step.run, batches, validation, state)
            finally:
                driver.end(StopReason.INTERRUPTED)
                curves.append(take(driver))
        ramp = lower_range(curves[-1], request, sum(map(len, curves)))
        # Not after a first sweep that is followed by a lower one, which takes its batches from here on.
        if (ramp is None or len(curves) > 1) and _may_rise_by_itself(setup, curves[-1]):
            state.rewind()
            left = shown_by_training(step, partial(batches.draw, setup.accumulation_steps), curves)
            curves, ramp = left, ramp if len(left) == len(curves) else None
        if ramp is not None:
            state.rewind()
    if len(curves) == 1:
        return curves[0]
    return next((curve for curve in reversed(curves) if unreadable(curve, read_curve(curve)) is None), curves[-1])


def run_sweep(
    driver: SweepDriver,
    step: Step,
    batches: Batches,
    validation: Validation | None = None,
    state: Snapshot | None = None,
) -> None:
    """Train until the sweep is over or the data runs out.

    Args:
        driver: of the sweep.
        step: makes one optimizer step.
        batches: where its micro-batches come from, ``accumulation_steps`` of the driver's set-up at a time.
        validation: measures the loss that is recorded, or the probe beside it, after each update; None records the loss
            of the step alone.
        state: of the start, by which :mod:`lrfinder.training.failures` tells divergence from other exceptions; None
            raises every exception.
    """
    ranks, draw = driver.setup.ranks, partial(batches.draw, driver.setup.accumulation_steps)
    try:
        while not driver.done:
            driver.before_step()
            try:
                drawn = ranks.draw(draw)
            except StopIteration:
                driver.end(StopReason.DATA_EXHAUSTED)
                return
            measure = partial(_measured, driver, step, drawn, validation)
            try:
                loss, updated, beside = measure()
            except Exception as error:
                if not _ends_sweep(driver, error, measure, state):
                    raise
                driver.end(StopReason.ERROR, error=failure_name(error))
                return
            driver.after_step(loss, updated, beside=beside)
    except BaseException as error:
        driver.end(StopReason.INTERRUPTED)
        # Ignore errors raised after the sweep's end: the weights have diverged by then.
        if driver.sweep.stop is StopReason.INTERRUPTED or not isinstance(error, Exception):
            raise


def lower_range(curve: LossCurve, request: SweepRequest, spent: int) -> tuple[SweepConfig, int] | None:
    """Another sweep below one that started too high, and the iterations it may be extended by; None for no other.

    Args:
        curve: of the sweep before.
        request: what the user gave; a range of which any number was given stays.
        spent: iterations of all sweeps before; no more than 100 are made in all.
    """
    given = (request.start_lr, request.end_lr, request.num_iter)
    left = MOST_ITER - spent - _LOWER_ITER
    # A validation loss of a fresh network with BatchNorm rises at any learning rate.
    if any(number is not None for number in given) or request.mode != "exp" or curve.measured != "before" or left < 0:
        return None
    if not _starts_too_high(curve):
        return None
    low, high = (curve.config.start_lr * factor for factor in _LOWER)
    config = SweepConfig(start_lr=low, end_lr=high, num_iter=_LOWER_ITER, early_stop=request.early_stop)
    return config, left


@lru_cache(maxsize=1)  # asked twice of a sweep, and a reading takes a tenth of a short one
def _starts_too_high(curve: LossCurve) -> bool:
    if curve.stop in (StopReason.INTERRUPTED, StopReason.DATA_EXHAUSTED) or not curve.losses:
        return False
    reading = read_curve(curve)
    if len(reading.lrs) < FEWEST_POINTS:
        return True  # it ended early, so it diverged
    if edge_at_start(reading):
        return True
    if reading.probed or reading.onset_lr is not None:
        return False  # the losses below are not those of a probe
    # The very first loss is from before any update. Where a head starts at zero, the first update moves the head alone,
    # so that the line search allows far larger ones than the next updates do: every later loss is worse then.
    sign, edge = -1 if curve.maximized else 1, reading.edge_lr or math.inf
    later = [sign * loss for lr, loss in zip(curve.lrs, curve.losses, strict=True) if lr <= edge][1:]
    hidden = sign * curve.losses[0] - reading.level
    fall = hidden + reading.total_drop
    inversions = sum(sign * a >= sign * b for a, b in itertools.combinations(curve.losses[:_RISING], 2))
    worse = inversions <= 1 or all(sign * curve.losses[0] < loss for loss in later)
    return worse or hidden > max(_HIDDEN_PART * fall, _HIDDEN_NOISES * reading.noise_std)


def _may_rise_by_itself(setup: TrainingSetup, curve: LossCurve) -> bool:
    diverged = curve.stop is StopReason.DIVERGED and curve.measured == "before"
    return diverged and not setup.ranks.together and _starts_too_high(curve)


def _ends_sweep(driver: SweepDriver, error: Exception, again: Callable[[], object], state: Snapshot | None) -> bool:
    """Whether the sweep is over by the losses before the exception, or the exception is divergence."""
    driver.read_pending()
    # One rank alone cannot repeat a step.
    if driver.done or state is None or driver.setup.ranks.together or len(driver.sweep.losses) < _FINITE_START:
        return driver.done
    return is_divergence(error, again, state.rewind)


def _report(
    counter: Iterator[int], on_step: Callable[[int, float, float], object] | None, bar: Progress, lr: float, loss: float
) -> None:
    bar.record(lr, loss)
    if on_step is not None:
        on_step(next(counter), lr, loss)


def _measured(
    driver: SweepDriver, step: Step, batches: Sequence[Any], validation: Validation | None
) -> tuple[Tensor, bool, Tensor | None]:
    """The loss to record, whether the step updated, and the loss beside it: of the step, or of a probe."""
    loss, updated = step(batches)
    if validation is None or not updated:
        return loss, updated, None
    ranks = driver.setup.ranks
    if ranks.together and driver.read_every == 1 and ranks.has_stopped(loss):
        return loss, updated, None
    measured = ranks.measured(validation.loss)
    return (loss, updated, measured) if validation.beside else (measured, updated, loss)
