"""What to do with a curve: learning rates per schedule, how sure they are, and why, in words.

:mod:`lrfinder.edges` says what the curve shows; this module is the only one with an opinion about it. It knows the
usual learning rate of each optimizer, how schedules compare, and every oddity a curve can have together with its mend.
No torch.

The rule. No point of a curve is a constant factor away from the best LR: the best one depends on the schedule and the
length of the training, and the curve contains neither. What a sweep measures well is where training breaks. So the
usual LR of the optimizer is taken and held inside the window that the sweep leaves: below half of the stability edge,
and not far below that.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from lrfinder.curve import LossCurve, StopReason
from lrfinder.edges import BLURRED, Reading, read_curve
from lrfinder.errors import ConfigError, FileFormatError, NoAdviceError
from lrfinder.schedules import check_count, check_kind

__all__ = ["GRADES", "Advice", "advise"]

GRADES = ("high", "medium", "low", "none")

# The calibration: every number that is an opinion, each with its reason. All of it is a first guess from theory,
# common practice and a few digit classifiers.
_EDGE_PART = 0.5  # highest advised part of the edge: the edge itself is known to a factor of about 1.3, and it sinks
#                   in training as the curvature rises; Smith (arXiv:1506.01186) puts the best LR within 2 of it
_EDGE_FLOOR = 0.05  # lowest advised part: best LRs lay at 0.1 to 0.5 of the edge, rarely below 0.05
_UNKNOWN_PART = 0.2  # of the edge, for an optimizer whose usual LR is not known: the middle of that range
_ONSET_PART = 0.01  # of the edge: min_lr where the curve shows no onset of its own
_SPREAD = {"high": 4.0, "medium": 5.0, "low": 10.0}  # the best LR is expected within this factor, and below the edge
_USUAL = {  # usual peak LR from scratch, small and medium nets, cosine
    "sgd": 0.5,  # plain; with momentum mu no more than 1 - mu, as the steps add up to 1 / (1 - mu): 0.1 at 0.9
    "asgd": 0.5,  # averaged plain SGD
    "adam": 1e-3,
    "adamw": 1e-3,  # large transformers 3e-4, fine-tuning 1e-4 and less
    "nadam": 1e-3,
    "radam": 1e-3,
    "adamax": 2e-3,  # its infinity norm makes smaller steps; torch's default
    "sparseadam": 1e-3,
    "rmsprop": 3e-4,  # no bias correction: its first steps are larger than Adam's
    "adagrad": 1e-2,  # its steps shrink as squared gradients add up
    "adadelta": 1.0,  # a multiplier of steps that have their own unit
    "adafactor": 1e-2,  # relative to the size of the weights
    "lion": 1e-4,  # sign steps: a third to a tenth of AdamW's
    "muon": 0.02,  # orthogonalised steps, unscaled
    "lamb": 5e-3,  # relative to the size of the weights
    "lars": 0.3,  # relative to the size of the weights
    "lbfgs": 1.0,  # a quasi-Newton step
    "rprop": 1e-2,  # only the first step has this size
}
_NO_LR = ("prodigy", "dadapt", "dog", "ldog", "mechanize")  # find their step themselves; lr is a multiplier near 1
_FACTORS = {  # best peak relative to cosine, from the convex last-iterate bound (arXiv:2501.18965, arXiv:2310.07831)
    "onecycle": 1.3,  # the bound says 0.93, but gives no credit for the warm-up: 0.6 to 2.8 on digit classifiers
    "cosine": 1.0,
    "step": 1.0,  # drops at one and two thirds
    "multistep": 0.8,  # drops at a half and three quarters: longer at the peak
    "exponential": 1.5,  # the bound says 2.1, but that close to the edge its start is a risk
    "linear": 1.0,
    "plateau": 0.8,  # as multistep, which it imitates
    "cyclic": 0.8,  # comes back to the peak, with less and less height
    "restarts": 0.9,  # ends as cosine does, after shorter cycles
    "wsd": 0.5,  # long at the peak, short decay
    "constant": 0.35,  # never decays, so the noise of its steps stays
}

# What makes a curve readable, and odd.
_POINTS = 10  # readable points below which nothing is advised: the smoothing window alone covers them
_NOISY = 5.0  # a drop of fewer noises is advised from with care
_EARLY_DECADES = 0.3  # an edge so close to the start shows that start_lr was too high
_LATE_RUNGS = 5  # an edge so close to the end was not seen whole
_FALLING_DECADES = 0.2  # a lowest point so close to the end is still falling
_SPIKE_PART = 0.3  # of the drop: a rise that came back, worth a word
_SPIKE_NOISES = 4.0
_PERIOD = 0.6  # autocorrelation of the residuals at a whole period; chance stays below 0.4 with 50 points
_PERIOD_POINTS = 40  # fewer hold no two periods and a judgement


@dataclass(frozen=True, kw_only=True)
class Advice:
    """Learning rates to train with, how sure they are, and why.

    Args:
        max_lr: peak for OneCycle. None, as ``base_lr``, ``min_lr`` and ``interval``, exactly if the grade is "none".
        base_lr: peak for cosine, linear or step schedules.
        min_lr: lowest LR that visibly trains.
        interval: (low, high), where the best ``base_lr`` is expected.
        grade: ``"high"``, ``"medium"``, ``"low"`` or ``"none"``.
        reasons: sentences: how the numbers came about, then what is odd about the curve and what to do about it.
        edge_lr: stability edge, which every advised LR is held below; None when the sweep found none.

    Raises:
        ConfigError: an unknown grade, or LRs that do not fit it.
    """

    max_lr: float | None
    base_lr: float | None
    min_lr: float | None
    interval: tuple[float, float] | None
    grade: str
    reasons: tuple[str, ...]
    edge_lr: float | None = None

    def __post_init__(self) -> None:
        if self.grade not in GRADES:
            raise ConfigError(f"grade must be one of {', '.join(GRADES)}; got {self.grade!r}.")
        for name in ("max_lr", "base_lr", "min_lr", "interval"):
            if (getattr(self, name) is None) != (self.grade == "none"):
                raise ConfigError(
                    f"{name} must be None exactly if the grade is 'none'; got {getattr(self, name)!r} with grade "
                    f"{self.grade!r}."
                )

    def lr_for(self, kind: str, total_steps: int | None = None) -> float:
        """Peak LR to put into the scheduler of that kind, to two significant digits.

        It is ``base_lr`` times a factor of the schedule, held below half of the stability edge: a constant LR has to
        be lower than the peak of one that decays.

        Args:
            kind: one of the schedule kinds, as in ``"cosine"``.
            total_steps: length of the training in optimizer steps, >= 1. It is checked and changes nothing: longer
                trainings like lower LRs by anything between no and the square root of the length, depending on
                the task, and a range test cannot tell which.

        Raises:
            ConfigError: an unknown kind, or ``total_steps`` that is no positive integer.
            NoAdviceError: the curve carries no advice.

        Example:
            >>> advice = Advice(max_lr=0.12, base_lr=0.1, min_lr=0.001, interval=(0.03, 0.12), grade="high",
            ...     reasons=(), edge_lr=0.24)
            >>> advice.lr_for("cosine"), advice.lr_for("constant"), advice.lr_for("exponential")
            (0.1, 0.035, 0.12)
        """
        check_kind(kind)
        if total_steps is not None:
            check_count("total_steps", total_steps)
        if self.base_lr is None or self.interval is None:
            raise NoAdviceError(f"no learning rate for {kind!r}: " + " ".join(self.reasons))
        if kind == "onecycle" and self.max_lr is not None:
            return self.max_lr
        ceiling = self.interval[1] if self.edge_lr is None else _EDGE_PART * self.edge_lr
        return _rounded(min(self.base_lr * _FACTORS[kind], max(ceiling, self.base_lr)))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-ready dictionary; :meth:`from_dict` gives equal advice back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Advice:
        """Advice from :meth:`to_dict`.

        Raises:
            FileFormatError: a field is missing, unknown or out of range.
        """
        try:
            fields = dict(content)
            for name in ("max_lr", "base_lr", "min_lr", "edge_lr"):
                fields[name] = None if fields[name] is None else float(fields[name])
            if fields["interval"] is not None:
                low, high = fields["interval"]
                fields["interval"] = (float(low), float(high))
            return cls(**{**fields, "reasons": tuple(map(str, fields["reasons"]))})
        except (KeyError, TypeError, ValueError) as error:
            raise FileFormatError(f"the saved advice is damaged: {error}. Run the range test again.") from error


def advise(curve: LossCurve) -> Advice:
    """Learning rates for this curve, or the reasons why there are none.

    The usual LR of the optimizer, held between a twentieth and half of the stability edge; for an optimizer without a
    usual LR a fifth of the edge. Any curve is accepted; one that carries no information gets grade "none" and the mend.

    Example:
        >>> from lrfinder.curve import SweepConfig
        >>> from lrfinder.sweep import Sweep
        >>> sweep = Sweep(SweepConfig(start_lr=0.001, end_lr=10.0, num_iter=101))
        >>> weight = 1.0  # gradient descent on weight**2, stable below lr 1
        >>> while not sweep.done:
        ...     sweep.record(weight**2)
        ...     weight -= sweep.last_lr * 2 * weight
        >>> advice = advise(sweep.curve(optimizer="SGD"))
        >>> advice.base_lr, advice.grade
        (0.5, 'high')
    """
    reading = read_curve(curve)
    refused = _refusal(curve, reading)
    if refused:
        return Advice(max_lr=None, base_lr=None, min_lr=None, interval=None, grade="none", reasons=(refused,))
    base, reasons, grade = _base(curve, reading)
    for cap, sentence in _oddities(curve, reading):
        reasons.append(sentence)
        grade = max(grade, cap, key=GRADES.index)
    edge = reading.edge_lr
    top = reading.lrs[-1] if edge is None else edge
    base = _rounded(base)
    max_lr = _rounded(min(_FACTORS["onecycle"] * base, max(_EDGE_PART * top, base)))
    onset = _ONSET_PART * top if reading.onset_lr is None else reading.onset_lr
    spread = _SPREAD[grade]
    return Advice(
        max_lr=max_lr,
        base_lr=base,
        min_lr=_rounded(min(onset, base, max_lr)),
        interval=(_rounded(base / spread), max(_rounded(min(base * spread, top)), base)),
        grade=grade,
        reasons=tuple(reasons),
        edge_lr=edge,
    )


def _refusal(curve: LossCurve, reading: Reading) -> str:
    """Why this curve carries no advice, with the mend; empty when it carries some."""
    points = len(reading.lrs)
    if curve.stop is StopReason.NONFINITE and points < _POINTS:
        where = "at the very first iteration" if curve.nonfinite_lr is None else f"at lr={_say(curve.nonfinite_lr)}"
        return (
            f"The loss became nan or infinite {where}, after {points} readable points ({_POINTS} are needed). "
            f"{curve.stop.mend}"
        )
    if points < _POINTS:
        mend = curve.stop.mend or "Raise num_iter; about 25 iterations per decade read well."
        if curve.stop is StopReason.DIVERGED:
            mend = "Lower start_lr by a factor 1000."
        return f"Too few points: {points} can be read ({curve.stop.sentence}), and {_POINTS} are needed. {mend}"
    if reading.edge_lr is None and reading.onset_lr is None:
        mend = curve.stop.mend or (
            f"Raise end_lr above {_say(curve.config.end_lr)}; if it stays flat, look for frozen parameters, a detached "
            "loss, or an optimizer that holds other parameters."
        )
        return (
            f"The curve is flat everywhere: from lr={_say(reading.lrs[0])} to {_say(reading.lrs[-1])} the loss neither "
            f"falls nor rises by more than its batch noise. {mend}"
        )
    return ""


def _base(curve: LossCurve, reading: Reading) -> tuple[float, list[str], str]:
    """``base_lr``, how it came about, and the best grade it can have."""
    edge = reading.edge_lr
    name = curve.optimizer or "the optimizer"
    usual = _usual(curve.optimizer, curve.momentum)
    reasons, grade = [], "high"
    if edge is not None and reading.edge_interval is not None:
        low, high = reading.edge_interval
        reasons.append(
            f"The stability edge is at lr={_say(edge)} (between {_say(low)} and {_say(high)}): above it the loss "
            "rises and does not come back."
        )
    if usual is None:
        if edge is None:
            reasons.append(
                f"No usual learning rate is known for {name}, and the sweep found no edge: a fifth of the highest "
                "learning rate tried is advised."
            )
            return _UNKNOWN_PART * reading.lrs[-1], reasons, "low"
        reasons.append(f"No usual learning rate is known for {name}: a fifth of the edge is advised.")
        return _UNKNOWN_PART * edge, reasons, "medium"
    if edge is None:
        base = min(usual, reading.lrs[-1])
        held = "" if base == usual else f", held at the highest that was tried, {_say(base)}"
        reasons.append(f"{name} usually peaks near {_say(usual)}; that is advised{held}.")
        return base, reasons, "low"
    low, high = _EDGE_FLOOR * edge, _EDGE_PART * edge
    if usual > high:
        reasons.append(f"{name} usually peaks near {_say(usual)}, which is too high here: half of the edge is advised.")
        return high, reasons, "medium" if usual > 10 * high else grade
    if usual < low:
        reasons.append(
            f"{name} usually peaks near {_say(usual)}, far below this edge: a twentieth of the edge is advised."
        )
        return low, reasons, "medium" if usual < low / 10 else grade
    reasons.append(
        f"{name} usually peaks near {_say(usual)}; that lies between a twentieth and half of the edge and is advised."
    )
    return usual, reasons, grade


def _oddities(curve: LossCurve, reading: Reading) -> Iterator[tuple[str, str]]:
    """Everything odd about the curve: the best grade it leaves, and a sentence with what to do."""
    lrs, edge = reading.lrs, reading.edge_lr
    if curve.stop in (StopReason.INTERRUPTED, StopReason.DATA_EXHAUSTED):
        yield "low" if edge is None else "medium", f"Early end: {curve.stop.sentence}. {curve.stop.mend}"
    if edge is None:
        still = reading.lowest_lr is not None and math.log10(lrs[-1] / reading.lowest_lr) < _FALLING_DECADES
        yield "low", (
            f"The curve never turned: the loss was {'still falling' if still else 'no longer falling, nor rising,'} at "
            f"lr={_say(lrs[-1])}, so there is no edge to hold the advice below. Raise end_lr."
        )
    elif math.log10(edge / lrs[0]) < _EARLY_DECADES:
        yield "low", (
            f"The loss rises within the first learning rates: start_lr={_say(lrs[0])} was too high to see what lies "
            f"below. Lower start_lr to {_say(edge / 1000)} or less."
        )
    elif curve.stop is StopReason.COMPLETED and edge >= lrs[-min(_LATE_RUNGS, len(lrs))]:
        yield "medium", f"The edge is at the very end of the sweep. Raise end_lr above {_say(lrs[-1])} to see it whole."
    if reading.edge_interval is not None and reading.edge_interval[1] > BLURRED * reading.edge_interval[0]:
        yield "medium", (
            "The edge is blurred: the loss rises in more than one part, and the edge is taken from their middle. Run "
            "the test with another seed, or with a larger batch, if half a decade matters."
        )
    if edge is not None and reading.onset_lr is None:
        yield "low", (
            "The loss only rises: the model is already trained, or nothing can be learnt this fast. Only the edge and "
            "the optimizer speak for the advice; start with warm-up, and compare it with a third of it."
        )
    elif reading.noise > 0 and reading.drop < _NOISY * reading.noise:
        yield "medium", (
            f"Very noisy: the loss falls by {reading.drop / reading.noise:.1f} standard deviations of its batch noise. "
            "A larger batch, accumulation or a val_loader makes the curve clearer."
        )
    period = _period(reading)
    if period:
        yield "medium", (
            f"The losses are periodic, they repeat every {period} iterations: the loader is not shuffled, or sorted. "
            "Pass shuffle=True."
        )
    spike = _spike(reading)
    if spike is not None:
        yield "medium", (
            f"A spike near lr={_say(spike)} recovered: the loss rose and came back. It is not the edge, but training "
            "is unstable there; use warm-up."
        )
    if curve.skipped:
        yield "high" if curve.skipped < len(lrs) / 10 else "medium", (
            f"The GradScaler skipped {curve.skipped} updates (float16 overflow); their learning rates were tried "
            "again. Many of them mean that its scale starts too high, or use bfloat16."
        )
    if curve.stop is StopReason.NONFINITE and curve.nonfinite_lr is not None:
        yield "high", f"The loss became nan or infinite after the update with lr={_say(curve.nonfinite_lr)}."
    if _has_no_lr(curve.optimizer):
        yield "low", (
            f"{curve.optimizer} finds its own step size, so its learning rate is a multiplier near 1 and a range test "
            "says little about it. Keep 1 unless training is unstable."
        )
    if len(curve.group_scales) > 1:
        scales = ", ".join(_say(scale) for scale in curve.group_scales)
        yield "high", (
            f"The learning rates are those of the reference parameter group; the groups are at {scales} times it."
        )


def _usual(optimizer: str, momentum: float) -> float | None:
    """Usual peak LR by class name: its own, or that of the longest known name within it (as in ``AdamW8bit``)."""
    if _has_no_lr(optimizer):
        return 1.0
    name = optimizer.lower()
    known = max((key for key in _USUAL if key in name), key=len, default=None)
    if known is None:
        return None
    if known in ("sgd", "asgd"):
        return min(_USUAL[known], 1.0 - min(momentum, 0.999))
    return _USUAL[known]


def _has_no_lr(optimizer: str) -> bool:
    return optimizer.lower().startswith(_NO_LR)


def _readable_part(reading: Reading) -> int:
    """Points before the edge, where the loss is not blowing up."""
    return len(reading.lrs) if reading.edge_lr is None else int(np.searchsorted(reading.lrs, reading.edge_lr))


def _spike(reading: Reading) -> float | None:
    """LR of the largest rise that came back, where there is one."""
    end = _readable_part(reading)
    if end < _POINTS:
        return None
    smoothed = np.asarray(reading.smooth[:end])
    # What the loss comes back to later counts: a rise that stays is no spike.
    later = np.minimum.accumulate(smoothed[::-1])[::-1]
    height = smoothed - np.maximum(np.minimum.accumulate(smoothed), later)
    top = int(height.argmax())
    high = max(_SPIKE_PART * reading.drop, _SPIKE_NOISES * reading.noise)
    return reading.lrs[top] if height[top] > high else None


def _period(reading: Reading) -> int:
    """Iterations after which the residuals of the smoothed curve repeat; 0 when they do not."""
    end = _readable_part(reading)
    if end < _PERIOD_POINTS or reading.noise <= 1e-3 * reading.drop:
        return 0
    # First differences: a trend leaves them nearly alone, and losses in blocks (sorted classes) keep their jumps.
    steps = np.diff(np.asarray(reading.losses[:end]))
    steps = steps - np.median(steps)
    limit = 4 * float(np.median(np.abs(steps))) / 0.6745
    steps = np.clip(steps, -limit, limit)
    power = float(np.mean(steps**2))
    if power == 0:
        return 0
    lags = range(2, end // 2)
    sums = np.correlate(steps, steps, "full")[len(steps) - 1 :]  # sums[lag] = sum(steps[lag:] * steps[:-lag])
    match = {lag: float(sums[lag]) / (len(steps) - lag) / power for lag in lags}
    for lag in lags:
        # Steps of a smooth curve match at every lag; a period stands out from the lags beside it.
        beside = max(match.get(lag - 1, -1.0), match.get(lag + 1, -1.0))
        if match[lag] > _PERIOD and match[lag] - beside > _PERIOD / 2:
            return lag
    return 0


def _rounded(lr: float) -> float:
    """The LR to two significant digits: more would claim a precision that no sweep has."""
    return float(f"{lr:.2g}")


def _say(lr: float) -> str:
    return f"{_rounded(lr):g}"
