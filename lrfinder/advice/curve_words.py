"""Every sentence about the curve, beside :mod:`lrfinder.advice.words`. No torch."""

from __future__ import annotations

from collections.abc import Callable

from lrfinder.analysis.finding import Finding
from lrfinder.numbers import format_lr
from lrfinder.record.curve import StopReason

__all__ = ["CURVE_SENTENCES"]


def _edge(found: Finding) -> str:
    lr = "" if found.lr is None else format_lr(found.lr)
    low, high = map(format_lr, found.values)  # no more than two
    where = f"lr={lr} (between {low} and {high})"
    return f"The stability edge is at {where}: above it the loss rises and does not come back."


def _nonfinite_early(found: Finding) -> str:
    where = f"at lr={format_lr(found.lr)}" if found.lr else "at the very first iteration"
    points, needed = found.values
    return (
        f"The loss became nan or infinite {where}, after {points:g} readable points; {needed:g} are needed. "
        f"{StopReason.NONFINITE.hint}"
    )


def _nonfinite(found: Finding) -> str:
    event = f"The next step raised {found.detail}" if found.detail else "The loss became nan or infinite"
    return f"{event} after the update with lr={format_lr(found.lr or 0.0)}."


def _too_few_points(found: Finding) -> str:
    stop, (points, needed) = StopReason(found.detail), found.values
    hint = stop.hint or "Raise num_iter; about 20 iterations per decade read well."
    if stop is StopReason.DIVERGED:
        hint = "Lower start_lr by a factor 1000."
    return f"Too few points: {points:g} can be read ({stop.sentence}), and {needed:g} are needed. {hint}"


def _flat(found: Finding) -> str:
    first, last, end = map(format_lr, found.values)
    hint = StopReason(found.detail).hint or (
        f"Raise end_lr above {end}; if the curve stays flat, look for frozen parameters, a detached loss, or an "
        "optimizer that holds other parameters."
    )
    return (
        f"The curve is flat everywhere: from lr={first} to {last} the loss neither falls nor rises by more than its "
        f"batch noise. {hint}"
    )


_AT_START = (
    "The loss rises within the first learning rates: start_lr={lr} was too high to show what lies below. Lower "
    "start_lr to {lrs[0]} or less."
)

CURVE_SENTENCES: dict[str, str | Callable[[Finding], str]] = {
    "edge": _edge,
    "above_edge": (
        "base_lr is above the stability edge ({lrs[0]}): the loss rises slowly there, so the edge may have been read "
        "too low. Use warm-up, and compare with half the edge."
    ),
    "nonfinite_early": _nonfinite_early,
    "too_few_points": _too_few_points,
    "flat": _flat,
    "ended_early": lambda found: f"Early end: {StopReason(found.detail).sentence}. {StopReason(found.detail).hint}",
    "never_turned": (
        "The curve never turned: the loss was no longer falling, and not rising, at lr={lr}, so there is no edge to "
        "stay below. Raise end_lr."
    ),
    "never_turned falling": (
        "The curve never turned: the loss was still falling at lr={lr}, so there is no edge to stay below. Raise "
        "end_lr."
    ),
    "never_turned plateau": "No LR up to {lr} made the loss diverge: it is bounded, as Dice and cosine losses are.",
    "edge_at_start": _AT_START,
    "edge_at_start after": (
        f"{_AT_START} The validation loss of a fresh network with BatchNorm rises at any learning rate, because its "
        "running statistics lag behind the weights: measure the training loss instead."
    ),
    "may_be_bounded": (
        "The loss is low over a wide range, and the sweep ends before it diverges: it may be bounded, as with "
        "normalised embeddings, and then needs a far lower LR. Raise end_lr above {lr} to see."
    ),
    "edge_at_end": "The edge is at the very end of the sweep. Raise end_lr above {lr} to see the whole rise.",
    "blurred_edge": (
        "The edge is blurred: the loss rises in more than one step, and the middle of them is taken. Where half a "
        "decade matters, run the test with another seed or a larger batch."
    ),
    "dead": (
        "From lr={lr} on, the loss is the same for every batch: an update has left the network with one output for "
        "every input, as where all ReLUs of a layer give 0. Use warm-up, normalisation layers or another "
        "initialisation."
    ),
    "only_rises": (
        "The loss never clearly falls: the model is already trained, or nothing can be learnt this fast. The advice "
        "rests on the edge and the optimizer alone; start with warm-up, and compare it with a third of it."
    ),
    "around_zero": (
        "The loss lies around 0 and never clearly falls. Where it is that of a policy gradient (GRPO, PPO), it does "
        "not show how well a training goes, at any learning rate: take a published one."
    ),
    "validation_lags": (
        "The validation loss fell by only {values[0]:.1%} of the fall of the training loss: the running statistics of "
        "BatchNorm trail behind while a fresh network learns fast. Measure the training loss instead."
    ),
    "noisy": (
        "Very noisy: the loss falls by {values[0]:.1f} standard deviations of its batch noise. A larger batch, "
        "accumulation or a val_loader makes the curve clearer."
    ),
    "periodic": (
        "The losses repeat every {values[0]:g} iterations: the loader is not shuffled, or sorted. Pass shuffle=True."
    ),
    "spike": (
        "The loss rose near lr={lr} and recovered. That spike is not the edge, but training is unstable there; use "
        "warm-up."
    ),
    "nonfinite": _nonfinite,
}
"""By code, the sentence of each finding about the curve, as a text to be filled in or a function."""
