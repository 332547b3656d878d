"""Sentences about the evidence and the situation that the advice follows from. No torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from lrfinder.advice.evidence import Evidence, weighted_mean
from lrfinder.numbers import format_lr
from lrfinder.tables.situations import HEAD

__all__ = ["evidence_sentences"]


def evidence_sentences(evidence: tuple[Evidence, ...]) -> Iterator[str]:
    """How the learning rates came about: where each number comes from, their mean, and what changed it."""
    weighed = [each for each in evidence if each.name in _PARTS]
    yield from (_ORIGINS[each.name](each) for each in weighed)
    if len(weighed) > 1:
        parts = ", ".join(f"{each.weight:.0%} {_PARTS[each.name]}" for each in weighed)
        yield f"Their average on a log scale ({parts}) is {format_lr(weighted_mean(weighed))}."
    yield from (_SITUATION[each.name](each) for each in evidence if each.name in _SITUATION)
    yield from (_ceiling(each) for each in evidence if each.name == "ceiling")


_PARTS = {
    "typical": "typical LR",
    "low region": "low region",
    "limit": "limit",
    "head": "head",
    "edge": "edge",
    "trials": "trials",
    "range test": "range test",
}


def _low_region(each: Evidence) -> str:
    low, high = map(format_lr, each.seen)
    return (
        f"The loss is lowest between {low} and {high}. In calibration runs the best LR was about {each.part:.0%} of "
        f"the middle of that range: {format_lr(each.lr)}."
    )


def _typical(each: Evidence) -> str:
    if each.source == "clipping":
        return _clipping(each)
    if each.part == 1:
        return f"A typical peak LR for {each.source} is {format_lr(each.lr)}."
    return (
        f"The loss does not clearly fall. In calibration runs without a clear fall the best LR was about "
        f"{each.part:.0%} of the typical peak LR of {each.source} ({format_lr(each.seen[0])}): {format_lr(each.lr)}."
    )


def _limit(each: Evidence) -> str:
    seen = format_lr(each.seen[0])
    sentences = {
        "edge": f"The stability edge is a limit as well: {each.part:.0%} of it is {format_lr(each.lr)}.",
        "divergence": f"The loss had diverged at {seen}: {each.part:.0%} of that is {format_lr(each.lr)}.",
        "highest": f"The highest LR tried was {seen}: {each.part:.0%} of that is {format_lr(each.lr)}.",
    }
    return sentences[each.source]


def _head(each: Evidence) -> str:
    edge, diverged = map(format_lr, each.seen)
    return (
        f"Only a new head is trained, on a frozen network. {each.part:.2g} times the middle of the edge and of where "
        f"the loss had diverged ({edge} and {diverged}) is {format_lr(each.lr)}, for {HEAD.length.reference:g} steps."
    )


def _edge_alone(each: Evidence) -> str:
    where = f"{'the edge' if each.source == 'edge' else 'the highest LR tried'} ({format_lr(each.seen[0])})"
    return f"The loss only rises, so {each.part:.0%} of {where} is used: {format_lr(each.lr)}."


def _ceiling(each: Evidence) -> str:
    lr, seen = format_lr(each.lr), format_lr(math.sqrt(each.seen[0]) * math.sqrt(each.seen[1]))
    near = "the edge" if each.lr <= each.seen[0] else "where the loss had diverged"
    sentences = {
        "highest": f"That is above every LR tried, so base_lr is lowered to the highest of them, {lr}.",
        "edge": f"That is too close to the edge, so base_lr is lowered to {each.part:.0%} of the edge, {lr}.",
        "edge and divergence": (
            f"That is too close to {near}, so base_lr is lowered to {each.part:.0%} of {seen}, the middle of the "
            f"edge and where the loss had diverged: {lr}."
        ),
        "above edge": f"That is too far above the edge, so base_lr is lowered to {each.part:g} times the edge, {lr}.",
    }
    return sentences[each.source]


def _batch_size(each: Evidence) -> str:
    reference, size = each.seen
    how = "linearly" if each.source == "proportional" and size < reference else "by the square root"
    what = "smaller" if size < reference else "larger"
    return (
        f"A batch has {size:g} samples, {what} than the {reference:g} of the calibration runs. Scaled "
        f"{how}, times {each.part:.2g}, that is {format_lr(each.lr)}."
    )


def _model_size(each: Evidence) -> str:
    reference, size = each.seen
    return (
        f"The network has {size:.2g} trainable parameters, those of the calibration runs at most {reference:g}; "
        f"larger ones need a lower LR: times {each.part:.2g}, that is {format_lr(each.lr)}."
    )


def _trained_weights(each: Evidence) -> str:
    return (
        f"The weights have been trained before, and an LR for fresh weights would destroy what they hold: for "
        f"{each.seen[1]:.2g} parameters times {each.part:.2g}, that is {format_lr(each.lr)}."
    )


def _clipping(each: Evidence) -> str:
    """How the typical LR of SGD follows from the clipping norm."""
    return (
        "Many gradients were clipped, so the length of an update is the LR times the clipping norm, whatever the loss. "
        f"A typical length is reached at lr={format_lr(each.lr)}."
    )


_ORIGINS: dict[str, Callable[[Evidence], str]] = {
    "low region": _low_region,
    "typical": _typical,
    "limit": _limit,
    "head": _head,
    "edge": _edge_alone,
    "trials": lambda each: f"Trial search: the best LR for {each.source} is {format_lr(each.lr)}.",
    "range test": lambda each: f"The range test advised {format_lr(each.lr)} for it.",
}

_SITUATION: dict[str, Callable[[Evidence], str]] = {
    "batch size": _batch_size,
    "model size": _model_size,
    "trained weights": _trained_weights,
}
