"""Sentences about the evidence and the situation that the advice follows from. No torch.

Each says what was observed and which learning rate follows; factors and weights are in the table of the evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from lrfinder.advice.evidence import Evidence, weighted_mean
from lrfinder.advice.laws import trained_part
from lrfinder.numbers import format_lr
from lrfinder.tables.heads import HEAD
from lrfinder.tables.situations import TUNING_LENGTH

__all__ = ["evidence_sentences"]


def evidence_sentences(evidence: tuple[Evidence, ...]) -> Iterator[str]:
    """How the learning rates came about: what each number follows from, their mean, and what changed it."""
    weighed = [each for each in evidence if each.name in _ORIGINS]
    if len(weighed) == 1 and weighed[0].name == "typical" and weighed[0].part == 1:
        yield f"A typical LR for {weighed[0].source} is {format_lr(weighed[0].lr)}."
    else:
        yield from map(_sentence, weighed)
    if len(weighed) > 1:
        yield f"The weighted mean of these is {format_lr(weighted_mean(weighed))}."
    yield from (_sentence(each) for each in evidence if each.name in _SITUATION)
    yield from (_ceiling(each) for each in evidence if each.name == "ceiling")
    if trained_part(evidence) == "tuned" and all(each.steps is None for each in evidence):
        yield _tuning_length()


def _sentence(each: Evidence) -> str:
    sentence = _SENTENCES.get(f"{each.name} {each.source}") or _SENTENCES[each.name]
    if not isinstance(sentence, str):
        return sentence(each)
    low, high = map(format_lr, each.seen)
    lr, beside = format_lr(each.lr), _beside(each.part)
    return sentence.format(lr=lr, low=low, high=high, seen=each.seen, beside=beside, source=each.source)


def _tuning_length() -> str:
    longest = TUNING_LENGTH.reference
    return (
        f"This is for a training of up to {longest:g} steps. Longer ones need a lower LR: half of it at "
        f"{4 * longest:,g} steps, a quarter at {16 * longest:,g}. Schedulers that are given the length apply that."
    )


def _half_fall(each: Evidence) -> str:
    counted = "" if each.part == 1 else f", which counts as {format_lr(each.lr)}, as the typical LR is far from it"
    return (
        "The loss falls onto a plateau and does not diverge there. It had made half of its fall at "
        f"lr={format_lr(each.seen[0])}{counted}."
    )


def _typical(each: Evidence) -> str:
    if each.source == "clipping":
        return _clipping(each)
    shown, here = map(format_lr, each.seen)
    if shown != here:
        larger = "larger" if each.seen[1] < each.seen[0] else "smaller"
        shown += f", which is {here} for a loss so much {larger} than that of most classifiers"
    if each.part == 1:
        return f"A curve varies with its seed, so a typical peak LR for {each.source} counts too: {shown}."
    return (
        f"In calibration runs without a clear fall of the loss the best LR was {_beside(each.part)} the typical peak "
        f"LR of {each.source} ({shown}), here at {format_lr(each.lr)}."
    )


def _limit(each: Evidence) -> str:
    seen = format_lr(each.seen[0])
    sentences = {
        "edge": f"The edge is a limit as well, and a safe distance below it is {format_lr(each.lr)}.",
        "divergence": f"The loss had diverged at {seen}, and a safe distance below that is {format_lr(each.lr)}.",
        "highest": f"The highest LR tried was {seen}, and a safe distance below it is {format_lr(each.lr)}.",
    }
    return sentences[each.source]


def _head(each: Evidence) -> str:
    edge, diverged = map(format_lr, each.seen)
    fall = HEAD.part / each.part
    more = f"more than usual, as at most {fall:.0%}" if fall < HEAD.usual_fall else f"less than usual, as {fall:.0%}"
    part = "" if fall == HEAD.usual_fall else f" ({more} of the loss vanished in the sweep)"
    # Prompts before a frozen network, and one adapter in it, have the facts of a head on it.
    trained = "Only a few new layers are trained, beside a frozen network. They count as a new head on it"
    if each.weight < 1:
        trained = "The model is one linear layer, as a head on features that were computed beforehand"
    return (
        f"{trained}: from the edge ({edge}) and {_until(each)} ({diverged}) follows {format_lr(each.lr)}{part} for a "
        f"training of {HEAD.length.reference:g} steps. It is set low, as too high costs more than too low: the "
        "interval reaches further up than down."
    )


def _edge_alone(each: Evidence) -> str:
    where = f"{'the edge' if each.source == 'edge' else 'the highest LR tried'} ({format_lr(each.seen[0])})"
    return f"Without a fall of the loss only {where} can be used, and a safe distance below it is {format_lr(each.lr)}."


def _until(each: Evidence) -> str:
    return "the highest LR tried" if each.source == "edge and highest" else "where the loss had diverged"


def _ceiling(each: Evidence) -> str:
    lr = format_lr(each.lr)
    near = "the edge" if each.lr <= each.seen[0] else _until(each)
    sentences = {
        "highest": f"That is above every LR tried, so base_lr is lowered to the highest of them, {lr}.",
        "edge": f"That is too close to the edge, so base_lr is lowered to {lr}.",
        "edge and divergence": (close := f"That is too close to {near}, so base_lr is lowered to {lr}."),
        "edge and highest": close,
        "above edge": f"That is too far above the edge, so base_lr is lowered to {lr}.",
        "typical": (
            "The loss does not clearly fall, so nothing shows that an LR so far above the typical one "
            f"({format_lr(each.seen[0])}) trains: base_lr is lowered to {lr}."
        ),
    }
    return sentences[each.source]


def _batch_size(each: Evidence) -> str:
    reference, size = each.seen
    fewer = size < reference
    samples = f"{size:g} sample{'' if size == 1 else 's'}"
    return (
        f"A batch has {samples}, {'fewer' if fewer else 'more'} than the {reference:g} of the calibration runs. "
        f"Its gradient is {'noisier and needs a lower' if fewer else 'less noisy and allows a higher'} LR: "
        f"{format_lr(each.lr)}."
    )


def _model_size(each: Evidence) -> str:
    reference, size = each.seen
    return (
        f"The network has {_number(size)} trainable parameters, those of the calibration runs at most "
        f"{_number(reference)}. Larger ones need a lower LR: {format_lr(each.lr)}."
    )


def _momentum(each: Evidence) -> str:
    usual, momentum = each.seen
    added, lr = ("less", "higher") if momentum < usual else ("more", "lower")
    return (
        f"The momentum is {momentum:g}, and updates add up {added} than with {usual:g}. That needs a {lr} LR: "
        f"{format_lr(each.lr)}."
    )


def _number(count: float) -> str:
    """A large count in words, as in "11.2 million"."""
    for unit, name in ((1e9, "billion"), (1e6, "million")):
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return f"{count:,.0f}"


def _beside(part: float) -> str:
    """Where a part of something lies: below it, near it, or above it."""
    return "below" if part < 0.9 else "above" if part > 1.1 else "near"


def _clipping(each: Evidence) -> str:
    """How the typical LR of SGD follows from the clipping norm."""
    return (
        "Gradients were clipped, so the length of an update is the LR times the clipping norm, whatever the loss. A "
        f"typical length is reached at lr={format_lr(each.seen[1])}, not at {format_lr(each.seen[0])}."
        + (f" Without a clear fall of the loss a part of it counts, {format_lr(each.lr)}." if each.part != 1 else "")
    )


# By name, or by name and source, a text to be filled in or a function of the evidence.
_ORIGINS: dict[str, str | Callable[[Evidence], str]] = {
    "low region": (
        "The loss is lowest between {low} and {high}. In calibration runs the best LR was {beside} the middle of that "
        "range, here at {lr}."
    ),
    "half fall": _half_fall,
    "typical": _typical,
    "limit": _limit,
    "head": _head,
    "probe": (
        "The weights have been trained before, and a high LR destroys what they hold. The loss of samples that are not "
        "trained on shows where: it is lowest between {low} and {high}. In trainings of such networks the best LR was "
        "below the middle of that range, here at {lr}."
    ),
    "probe edge": "Above {high} that loss rises for good, and a safe distance below is {lr}.",
    "training loss": lambda each: (
        f"The training loss and the typical LR of {each.source or 'the optimizer'}, for this batch and number of "
        f"trainable parameters, give {format_lr(each.lr)}."  # which may be new ones, as those of adapters
    ),
    "edge": _edge_alone,
    "trials": "Trial search: the best LR for {source} is {lr}.",
    "range test": "The range test advised {lr} for it.",
}

_SITUATION: dict[str, str | Callable[[Evidence], str]] = {
    "batch size": _batch_size,
    "plateau": "Trainings with such a plateau need less than that mean: {lr}.",
    "features": (
        "Of the squared norm of the features {seen[1]:.0%} varies between samples, and the rest is that of their mean. "
        "The mean lowers the edge and not the best LR, so the LR is raised to {lr}."
    ),
    "model size": _model_size,
    "momentum": _momentum,
    "trained weights": (
        "The weights have been trained before, and an LR for fresh weights would destroy what they hold, so it is "
        "lowered to {lr}."
    ),
}

_SENTENCES = {**_ORIGINS, **_SITUATION}
