"""What to do with a curve: learning rates per schedule, how sure they are, and why, in words.

:mod:`lrfinder.edges` says what the curve shows; this module is the only one with an opinion about it. It knows the
usual learning rate of each optimizer, how schedules compare, and every oddity a curve can have together with its mend.
No torch.

The rule. Three things are known: the usual LR of the optimizer, where the smoothed loss of this sweep is lowest, and
where it breaks; of the last two full trainings like a certain part. None is enough. The usual LR knows nothing of this
model, and no point of a curve is a constant factor away from the best LR, which depends on the schedule and the length
of the training. The advice is their weighted mean on a logarithmic scale, held below the stability edge and multiplied
by the factor of the schedule. Weights, parts, factors, usual LRs and widths of the intervals are fitted to real
trainings, and stand in :mod:`lrfinder.tables.constants`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from lrfinder.checks import check_choice, check_count
from lrfinder.curve import LossCurve, StopReason
from lrfinder.edges import Reading, read_curve
from lrfinder.errors import ConfigError, FileFormatError, NoAdviceError
from lrfinder.numbers import format_lr as _say
from lrfinder.numbers import round_lr
from lrfinder.stability import BLURRED
from lrfinder.race import RaceRecord
from lrfinder.tables.constants import FITTED
from lrfinder.tables.kinds import KINDS
from lrfinder.tables.optimizers import is_lr_free, typical_lr, update_rule

__all__ = ["GRADES", "Advice", "advise", "blow_up_level", "interrupted", "raced", "unraced", "visible_fall"]

GRADES = ("high", "medium", "low", "none")

_TRAILING = (
    " Validation losses of a fresh net with BatchNorm look like this at any learning rate, as its running statistics "
    "trail behind: measure the training loss instead."
)

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
        edge_lr: stability edge; None when the sweep found none.
        diverged_lr: where the loss had given back most of its fall for good; None when the sweep did not get there.
        ceiling: highest LR that any schedule gets by its factor; None for no limit but the interval's.
        peaks: (kind, LR) of the schedules that were raced for themselves; no factor is needed for them.

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
    ceiling: float | None = None
    peaks: tuple[tuple[str, float], ...] = ()
    diverged_lr: float | None = None

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

        It is ``base_lr`` times the factor of the schedule, held below ``ceiling``: a constant LR has to be lower than
        the peak of one that decays.

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
            ...     reasons=(), ceiling=0.12)
            >>> advice.lr_for("cosine"), advice.lr_for("constant") < 0.1, advice.lr_for("exponential")
            (0.1, True, 0.12)
        """
        check_choice("kind", kind, KINDS)
        if total_steps is not None:
            check_count("total_steps", total_steps)
        if self.base_lr is None or self.interval is None:
            raise NoAdviceError(f"no learning rate for {kind!r}: " + " ".join(self.reasons))
        if kind in dict(self.peaks):
            return dict(self.peaks)[kind]
        if kind == "onecycle" and self.max_lr is not None:
            return self.max_lr
        ceiling = self.interval[1] if self.ceiling is None else self.ceiling
        return round_lr(min(self.base_lr * _factor(kind), max(ceiling, self.base_lr)))

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
            fields: dict[str, Any] = {"diverged_lr": None, **content}  # which the first files did not have
            for name in ("max_lr", "base_lr", "min_lr", "edge_lr", "ceiling", "diverged_lr"):
                fields[name] = None if fields[name] is None else float(fields[name])
            if fields["interval"] is not None:
                low, high = fields["interval"]
                fields["interval"] = (float(low), float(high))
            peaks = tuple((str(kind), float(lr)) for kind, lr in fields["peaks"])
            return cls(**{**fields, "reasons": tuple(map(str, fields["reasons"])), "peaks": peaks})
        except (KeyError, TypeError, ValueError) as error:
            raise FileFormatError(f"the saved advice is damaged: {error}. Run the range test again.") from error


def advise(curve: LossCurve) -> Advice:
    """Learning rates for this curve, or the reasons why there are none.

    Any curve is accepted; one that carries no information gets grade "none" and the mend.

    Example:
        >>> from lrfinder.curve import SweepConfig
        >>> from lrfinder.sweep import Sweep
        >>> sweep = Sweep(SweepConfig(start_lr=0.001, end_lr=10.0, num_iter=101))
        >>> weight = 1.0  # gradient descent on weight**2, stable below lr 1
        >>> while not sweep.done:
        ...     sweep.record(weight**2)
        ...     weight -= sweep.last_lr * 2 * weight
        >>> advice = advise(sweep.curve(optimizer="SGD"))
        >>> advice.base_lr < advice.edge_lr, advice.grade
        (True, 'high')
    """
    reading = read_curve(curve)
    refused = _refusal(curve, reading)
    if refused:
        return Advice(max_lr=None, base_lr=None, min_lr=None, interval=None, grade="none", reasons=(refused,))
    base, ceiling, reasons, grade = _base(curve, reading)
    for cap, sentence in _oddities(curve, reading):
        reasons.append(sentence)
        grade = max(grade, cap, key=GRADES.index)
    top = reading.lrs[-1] if reading.edge_lr is None else reading.edge_lr
    onset = FITTED.onset_part * top if reading.onset_lr is None else reading.onset_lr
    return _advice(
        base,
        ceiling,
        FITTED.spread.of(grade),
        min_lr=onset,
        grade=grade,
        reasons=reasons,
        edge_lr=reading.edge_lr,
        diverged_lr=reading.diverged_lr,
    )


def raced(advice: Advice, record: RaceRecord) -> Advice:
    """The advice after a race around it: the winner is the LR of its schedule, and the others follow by their factors.

    Args:
        advice: of the range test.
        record: what the race measured.
    """
    cost = (
        f"{record.spent} optimizer steps in all, {record.spent / record.total_steps:.0%} of the {record.total_steps} "
        f"of the {record.schedule} training{', until it was interrupted' if record.interrupted else ''}"
    )
    winner = record.winner
    if winner is None or advice.min_lr is None:
        reason = (
            f"Race: {cost}. No heat came below the {record.measured} loss it started from, so the race says nothing, "
            "and the sweep alone speaks."
        )
        return dataclasses.replace(advice, reasons=(reason, *advice.reasons))
    reasons = [
        f"Race: {cost}; by their {record.measured} losses lr={_say(winner)} is the best for {record.schedule}. "
        f"The sweep had advised {_say(record.centre)}."
    ]
    for name in ("qualifying", "final"):
        if heats := record.in_stage(name):
            told = ", ".join(
                f"{_say(heat.lr)} {'blew up' if heat.loss is None else f'at {heat.loss:.4g}'}" for heat in heats
            )
            reasons.append(f"The {name} heats of {max(heat.steps for heat in heats)} steps ended with lr {told}.")
    heats = record.in_stage("qualifying")
    inside = heats[0].lr < winner < heats[-1].lr
    if not inside:
        reasons.append("The winner is at the border of what was tried, and the best may lie beyond it.")
    if not record.learning:
        reasons.append(
            "No heat fell visibly, as if the weights were trained already: a short training cannot show what a long "
            "one gains with a high learning rate, so none below the sweep's was tried."
        )
    # A race of heats alone, too short for finals, picks as well as a sweep does and no better.
    agreed = bool(record.in_stage("final")) and max(winner, record.centre) <= 2 * min(winner, record.centre)
    grade = "high" if inside and record.learning and (advice.grade == "high" or agreed) else "medium"
    base = winner / _factor(record.schedule)
    spread = FITTED.search.spread if grade == "high" else FITTED.spread.medium
    refined = _advice(
        base if advice.ceiling is None else min(base, max(advice.ceiling, winner)),
        None if advice.ceiling is None else max(advice.ceiling, winner),
        spread,
        min_lr=advice.min_lr,
        grade=grade,
        reasons=reasons,
        edge_lr=advice.edge_lr,
        diverged_lr=advice.diverged_lr,
    )
    # The schedule that was raced for gets the winner itself, and what is named after it is the same number.
    peak = round_lr(winner)
    return dataclasses.replace(
        refined,
        peaks=((record.schedule, peak),),
        max_lr=peak if record.schedule == "onecycle" else refined.max_lr,
        base_lr=peak if record.schedule == "cosine" else refined.base_lr,
    )


def interrupted(advice: Advice) -> Advice:
    """The advice where Ctrl-C came before the first heat."""
    return dataclasses.replace(advice, reasons=("The race was interrupted before its first heat.", *advice.reasons))


def unraced(advice: Advice, schedule: str, budget_steps: int) -> Advice:
    """The advice where the budget has no room for a race."""
    reason = (
        f"No race for {schedule}: {budget_steps} steps are too few for three heats of ten. Give a larger budget, or "
        "train with the sweep's advice."
    )
    return dataclasses.replace(advice, reasons=(reason, *advice.reasons))


def visible_fall(curve: LossCurve) -> float:
    """Fall of the loss that shows learning in a race: any, if the sweep showed learning, else some batch noises."""
    reading = read_curve(curve)
    return 0.0 if reading.onset_lr is not None else FITTED.search.min_improvement_noises * reading.noise_std


def blow_up_level(curve: LossCurve) -> float:
    """Training loss that no useful training goes above: the level at the start, plus the drop and ten noises."""
    reading = read_curve(curve)
    return reading.level + reading.total_drop + 10 * reading.noise_std


def _advice(
    base: float,
    ceiling: float | None,
    spread: float,
    *,
    min_lr: float,
    grade: str,
    reasons: list[str],
    edge_lr: float | None,
    diverged_lr: float | None,
) -> Advice:
    base = round_lr(base)
    max_lr = round_lr(min(_factor("onecycle") * base, max(base, ceiling if ceiling is not None else math.inf)))
    # In 30 of 366 sweeps of the benchmark the best LR lay above the edge, and in none above where the sweep diverged.
    limit = diverged_lr if diverged_lr is not None else edge_lr
    high = base * spread if limit is None else min(base * spread, max(limit, base))
    return Advice(
        max_lr=max_lr,
        base_lr=base,
        min_lr=round_lr(min(min_lr, base, max_lr)),
        interval=(round_lr(base / spread), max(round_lr(high), base)),
        grade=grade,
        reasons=tuple(reasons),
        edge_lr=edge_lr,
        ceiling=ceiling,
        diverged_lr=diverged_lr,
    )


def _factor(kind: str) -> float:
    """Best peak of this schedule relative to cosine."""
    return FITTED.peak_factor(kind)


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
        mend = curve.stop.mend or "Raise num_iter; about 20 iterations per decade read well."
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


def _base(curve: LossCurve, reading: Reading) -> tuple[float, float, list[str], str]:
    """``base_lr``, the ceiling for every schedule, how they came about, and the best grade the advice can have."""
    edge = reading.edge_lr
    name = curve.optimizer or "the optimizer"
    usual = typical_lr(curve.optimizer, curve.momentum, FITTED)
    reasons, grade = [], "high"
    if edge is not None and reading.edge_interval is not None:
        low, high = reading.edge_interval
        reasons.append(
            f"The stability edge is at lr={_say(edge)} (between {_say(low)} and {_say(high)}): above it the loss "
            "rises and does not come back."
        )
    floor = None if reading.low_region is None else math.sqrt(reading.low_region[0] * reading.low_region[1])
    seen = None if floor is None else floor * FITTED.low_region_part.of(update_rule(curve.optimizer))
    if floor is not None and seen is not None and reading.low_region is not None:
        reasons.append(
            f"The loss is low between lr={_say(reading.low_region[0])} and {_say(reading.low_region[1])}; full trainings with "
            f"such an optimizer like about {seen / floor:.0%} of the middle of that, {_say(seen)}."
        )
    if usual is None and seen is None:
        base = FITTED.unknown_part * (reading.lrs[-1] if edge is None else edge)
        reasons.append(f"No usual learning rate is known for {name}, and the loss only rises: a fifth of the edge.")
        grade = "low"
    elif usual is None:
        assert seen is not None
        base = seen
        reasons.append(f"No usual learning rate is known for {name}, so the sweep alone speaks.")
        grade = "medium"
    elif seen is None:
        base = usual * FITTED.trained_part.of(update_rule(curve.optimizer))
        reasons.append(
            f"{name} usually peaks near {_say(usual)}. Nothing was learnt visibly in this sweep; trainings that begin "
            f"so like about {base / usual:.0%} of that, {_say(base)}."
        )
        grade = "low"
    else:
        weight = FITTED.sweep_weight.up if seen > usual else FITTED.sweep_weight.down
        weight = 0.0 if is_lr_free(curve.optimizer) else weight
        base = usual ** (1 - weight) * seen**weight
        apart = max(usual, seen) / min(usual, seen)
        reasons.append(
            f"{name} usually peaks near {_say(usual)}; between the two, with a weight of {weight:.0%} on the sweep, "
            f"lies {_say(base)}."
        )
        if apart > FITTED.agreement.medium:
            grade = "low"
        elif apart > FITTED.agreement.high:
            grade = "medium"
    kind = update_rule(curve.optimizer)
    if usual is not None and edge is not None and not is_lr_free(curve.optimizer):
        limit, where = (edge, "the edge") if kind == "adaptive" else _diverged(reading)
        part, weight = FITTED.limit_part.of(kind), FITTED.limit_weight.of(kind)
        base = base ** (1 - weight) * (part * limit) ** weight
        reasons.append(
            f"With {weight:.0%} of the weight on {_say(part * limit)}, which is {part:.0%} of {where}, that becomes "
            f"{_say(base)}."
        )
    # Where nothing was learnt in the sweep, only the edge holds the usual LR; it sinks as training goes on.
    ceiling, what = _ceiling(reading, kind, falls=seen is not None)
    if base > ceiling:
        reasons.append(
            f"That is {'too close to the edge' if edge is not None else 'above the sweep'}: {what} is advised."
        )
        base = ceiling
    return base, ceiling, reasons, grade


def _ceiling(reading: Reading, kind: str, falls: bool) -> tuple[float, str]:
    """What no schedule may exceed, and what that is in words."""
    edge, highest = reading.edge_lr, reading.lrs[-1]
    if edge is None:
        return highest, "the highest tried"
    part = FITTED.edge_part.of(kind, falls=falls)
    if kind == "adaptive":
        return part * edge, f"{part:.0%} of the edge"
    # With SGD, the edges of three sweeps of one task are a factor 2.4 apart in the median, and the learning rates at
    # which they had diverged a factor 1.6. A middle of the two is steadier than the edge, and no worse a guide.
    diverged, where = _diverged(reading)
    weight = FITTED.diverged_weight
    middle = edge ** (1 - weight) * diverged**weight
    return part * middle, f"{part:.0%} of {_say(middle)}, the middle between the edge and {where},"


def _diverged(reading: Reading) -> tuple[float, str]:
    """Where the loss had diverged, with the words for it; where it had not, the highest LR tried stands in."""
    if reading.diverged_lr is None:
        return reading.lrs[-1], f"lr={_say(reading.lrs[-1])}, the highest tried"
    return reading.diverged_lr, f"lr={_say(reading.diverged_lr)}, where the loss had diverged"


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
            f"below. Lower start_lr to {_say(edge / 1000)} or less." + (_TRAILING if curve.measured == "after" else "")
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
    elif reading.noise_std > 0 and reading.total_drop < _NOISY * reading.noise_std:
        yield "medium", (
            f"Very noisy: the loss falls by {reading.total_drop / reading.noise_std:.1f} standard deviations of its batch noise. "
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
    if is_lr_free(curve.optimizer):
        yield "low", (
            f"{curve.optimizer} finds its own step size, so its learning rate is a multiplier near 1 and a range test "
            "says little about it. Keep 1 unless training is unstable."
        )
    if len(curve.group_scales) > 1:
        scales = ", ".join(_say(scale) for scale in curve.group_scales)
        yield "high", (
            f"The learning rates are those of the reference parameter group; the groups are at {scales} times it."
        )


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
    high = max(_SPIKE_PART * reading.total_drop, _SPIKE_NOISES * reading.noise_std)
    return reading.lrs[top] if height[top] > high else None


def _period(reading: Reading) -> int:
    """Iterations after which the residuals of the smoothed curve repeat; 0 when they do not."""
    end = _readable_part(reading)
    if end < _PERIOD_POINTS or reading.noise_std <= 1e-3 * reading.total_drop:
        return 0
    # First differences: a trend leaves them nearly alone, and losses in blocks (sorted classes) keep their jumps.
    steps = np.diff(np.asarray(reading.losses[:end]))
    steps = steps - median(steps.tolist())
    limit = 4 * median(np.abs(steps).tolist()) / 0.6745
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
