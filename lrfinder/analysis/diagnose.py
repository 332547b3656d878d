"""Findings about unusual curves. No torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import median

import numpy as np

from lrfinder.analysis.finding import Finding
from lrfinder.analysis.plateau import half_fallen, may_be_bounded
from lrfinder.analysis.regimes import Reading
from lrfinder.analysis.repeats import repeat_period
from lrfinder.analysis.series import FEWEST_POINTS
from lrfinder.analysis.smoothing import noise, scale_of, smooth
from lrfinder.analysis.stability import BLURRED
from lrfinder.analysis.unusual_training import TRAINING_CHECKS
from lrfinder.numbers import clamp_lr
from lrfinder.record.curve import LossCurve, StopReason

__all__ = ["diagnose", "edge_at_start", "unreadable"]

_NOISY = 5.0  # a smaller drop, in noises, caps the grade
_EARLY_DECADES = 0.3  # from the start to an edge that is too close to it
_FIRST = 5  # losses whose median is the level at the start
_CLEAR_NOISES = 2.5  # a flat training loss shows such a fall by chance in 1 % of sweeps
_LAG_PART = 0.3  # of the fall of the training loss: a smaller fall of the validation loss says nothing of the LR
_LATE_POINTS = 5  # an edge so close to the end was seen only in part
_FALLING_DECADES = 0.2  # a lowest point so close to the end is still falling
_SPIKE_PART = 0.3  # of the drop: the smallest temporary rise that is reported
_SPIKE_NOISES = 4.0


def unreadable(curve: LossCurve, reading: Reading) -> Finding | None:
    """Why no learning rate can be read from this curve; None where one can be."""
    points, stop = len(reading.lrs), curve.stop.value
    if points < FEWEST_POINTS:
        nonfinite = curve.stop is StopReason.NONFINITE
        code = "nonfinite_early" if nonfinite else "too_few_points"
        lr = curve.nonfinite_lr if nonfinite else None
        return Finding(code=code, lr=lr, values=(points, FEWEST_POINTS), detail=stop, caps_grade="none")
    if reading.edge_lr is None and reading.onset_lr is None:
        ends = (reading.lrs[0], reading.lrs[-1], curve.config.end_lr)
        return Finding(code="flat", values=ends, detail=stop, caps_grade="none")
    return None


def edge_at_start(reading: Reading) -> bool:
    """Whether the edge is so close to the start that the sweep shows nothing below it: ``start_lr`` was too high."""
    return reading.edge_lr is not None and math.log10(reading.edge_lr / reading.lrs[0]) < _EARLY_DECADES


def diagnose(curve: LossCurve, reading: Reading) -> tuple[Finding, ...]:
    """Everything unusual about a readable curve and its training, in the order in which it is reported."""
    found = (check(curve, reading) for check in _CHECKS)
    return tuple(finding for finding in found if finding is not None)


def _ended_early(curve: LossCurve, reading: Reading) -> Finding | None:
    if curve.stop not in (StopReason.INTERRUPTED, StopReason.DATA_EXHAUSTED):
        return None
    return Finding(code="ended_early", detail=curve.stop.value, caps_grade="medium" if reading.edge_lr else "low")


def _edge_position(curve: LossCurve, reading: Reading) -> Finding | None:
    lrs, edge = reading.lrs, reading.edge_lr
    if edge is None:
        falling = reading.lowest_lr is not None and math.log10(lrs[-1] / reading.lowest_lr) < _FALLING_DECADES
        detail = "plateau" if half_fallen(reading) is not None else "falling" if falling else "level"
        return Finding(code="never_turned", lr=lrs[-1], detail=detail, caps_grade="low")
    if edge_at_start(reading):
        values = (clamp_lr(edge / 1000),)
        return Finding(code="edge_at_start", lr=lrs[0], values=values, detail=curve.measured, caps_grade="low")
    if may_be_bounded(reading):
        return Finding(code="may_be_bounded", lr=lrs[-1], caps_grade="low")
    if curve.stop is StopReason.COMPLETED and edge >= lrs[-min(_LATE_POINTS, len(lrs))]:
        return Finding(code="edge_at_end", lr=lrs[-1], caps_grade="medium")
    return None


def _dead(curve: LossCurve, reading: Reading) -> Finding | None:
    return None if reading.dead_lr is None else Finding(code="dead", lr=reading.dead_lr, caps_grade="low")


def _blurred_edge(curve: LossCurve, reading: Reading) -> Finding | None:
    interval = reading.edge_interval
    if interval is None or interval[1] <= BLURRED * interval[0]:
        return None
    return Finding(code="blurred_edge", values=interval, caps_grade="medium")


def _weak_fall(curve: LossCurve, reading: Reading) -> Finding | None:
    if reading.edge_lr is not None and reading.onset_lr is None:
        before = [loss for lr, loss in zip(reading.lrs, reading.losses, strict=True) if lr < reading.edge_lr]
        around_zero = min(before, default=1.0) <= 0.0 <= max(before, default=-1.0)
        return Finding(code="around_zero" if around_zero else "only_rises", caps_grade="low")
    if reading.noise_std > 0 and reading.total_drop < _NOISY * reading.noise_std:
        return Finding(code="noisy", values=(reading.total_drop / reading.noise_std,), caps_grade="medium")
    return None


def _validation_lags(curve: LossCurve, reading: Reading) -> Finding | None:
    """Whether the training loss fell far more than the validation loss, as running statistics trail behind."""
    layers = curve.facts.norm_layers if curve.facts is not None else None
    if not any("BatchNorm" in name for name, _ in layers or ()):
        return None
    losses = np.asarray(curve.train_losses) * (-1 if curve.maximized else 1)
    if len(losses) < FEWEST_POINTS:
        return None
    losses = losses * (scale := scale_of(losses))
    fall = median(losses[:_FIRST].tolist()) - float(smooth(losses, reading.width).min())
    if fall <= _CLEAR_NOISES * noise(losses) or reading.total_drop * scale > _LAG_PART * fall:
        return None
    return Finding(code="validation_lags", values=(reading.total_drop * scale / fall,), caps_grade="low")


def _periodic(curve: LossCurve, reading: Reading) -> Finding | None:
    if reading.noise_std <= 1e-3 * reading.total_drop:
        return None
    period = repeat_period(np.asarray(reading.losses[: _readable_part(reading)]))
    return Finding(code="periodic", values=(period,), caps_grade="medium") if period else None


def _spiked(curve: LossCurve, reading: Reading) -> Finding | None:
    lr = _spike(reading)
    return None if lr is None else Finding(code="spike", lr=lr, caps_grade="medium")


def _scaler_skips(curve: LossCurve, reading: Reading) -> Finding | None:
    cap = "high" if curve.skipped < len(reading.lrs) / 10 else "medium"
    return Finding(code="scaler_skips", values=(curve.skipped,), caps_grade=cap) if curve.skipped else None


def _nonfinite(curve: LossCurve, reading: Reading) -> Finding | None:
    if not curve.stop.is_failure or curve.nonfinite_lr is None:
        return None
    detail = curve.error or "an exception" if curve.stop is StopReason.ERROR else ""
    return Finding(code="nonfinite", lr=curve.nonfinite_lr, detail=detail)


_CHECKS: tuple[Callable[[LossCurve, Reading], Finding | None], ...] = (
    _ended_early,
    _edge_position,
    _dead,
    _blurred_edge,
    _weak_fall,
    _validation_lags,
    _periodic,
    _spiked,
    _scaler_skips,
    _nonfinite,
    *TRAINING_CHECKS,
)


def _readable_part(reading: Reading) -> int:
    """Points before the edge, where the loss is not blowing up."""
    return len(reading.lrs) if reading.edge_lr is None else int(np.searchsorted(reading.lrs, reading.edge_lr))


def _spike(reading: Reading) -> float | None:
    """LR of the largest rise that came back, where there is one."""
    end = _readable_part(reading)
    if end < FEWEST_POINTS:
        return None
    smoothed = np.asarray(reading.smooth[:end])
    scale = scale_of(smoothed)
    smoothed = smoothed * scale
    # What the loss comes back to later counts: a rise that stays is no spike.
    later = np.minimum.accumulate(smoothed[::-1])[::-1]
    height = smoothed - np.maximum(np.minimum.accumulate(smoothed), later)
    top = int(height.argmax())
    high = max(_SPIKE_PART * reading.total_drop, _SPIKE_NOISES * reading.noise_std)
    return reading.lrs[top] if height[top] > high * scale else None
