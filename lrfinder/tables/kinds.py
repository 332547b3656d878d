"""Schedule kinds, one row each, and the spacings of a sweep: the names that users choose from.

``lrfind --help`` lists the names, so the rows are named tuples: nothing is imported for them that click does not load.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["KINDS", "KIND_TABLE", "Kind", "MODES"]

MODES = ("exp", "linear")  # spacings of the learning rates of a sweep


class Kind(NamedTuple):
    """Properties of a schedule kind.

    Args:
        name: as users write it.
        warmup: whether it takes ``warmup_steps``.
        momentum: whether it cycles the momentum against the LR, where the optimizer has one.
        needs_length: whether the length of the training must be known.
        unit: when ``scheduler.step()`` is called: ``"step"`` after every batch, ``"epoch"`` after every epoch,
            ``"either"`` as the length is given.
        factor: best peak LR relative to that of ``cosine``; > 0. None where it is fitted to real trainings.
        source: where the factor comes from.
        surrogate: for a kind whose LR follows the loss, the kind with similar LRs that are known beforehand; else "".
    """

    name: str
    warmup: bool
    momentum: bool
    needs_length: bool
    unit: str
    factor: float | None
    source: str
    surrogate: str = ""

    @property
    def follows_loss(self) -> bool:
        """Whether the LR depends on the loss, so that it is not known beforehand."""
        return bool(self.surrogate)


_BOUND = "last-iterate bound of convex optimisation: arXiv:2501.18965, arXiv:2310.07831"
_FITTED = "fitted to real trainings by scripts/bench_advice"

KIND_TABLE: dict[str, Kind] = {
    row.name: row
    for row in (
        # Kind(name, warmup, momentum, needs_length, unit, factor, source)
        Kind("onecycle", False, True, True, "step", None, _FITTED),
        Kind("cosine", True, False, True, "either", 1.0, "by definition: the other factors are relative to it"),
        Kind("step", True, False, True, "either", None, _FITTED),
        Kind("multistep", True, False, True, "either", 0.8, _BOUND),
        # The bound gives 2.1, but a start that close to the stability edge is a risk.
        Kind("exponential", True, False, True, "either", 1.5, f"our choice, below the 2.1 of the {_BOUND}"),
        Kind("linear", True, False, True, "either", 1.0, _BOUND),
        Kind("plateau", False, False, False, "epoch", 0.8, "our choice: that of multistep, its surrogate", "multistep"),
        Kind("cyclic", False, True, True, "step", 0.8, _BOUND),
        Kind("restarts", False, False, True, "either", 0.9, _BOUND),
        Kind("wsd", True, False, True, "step", 0.5, _BOUND),
        Kind("constant", True, False, False, "either", None, _FITTED),
    )
}

KINDS: tuple[str, ...] = tuple(KIND_TABLE)
