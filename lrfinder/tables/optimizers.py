"""Table of optimizers: update rule and typical LR of each, with its source."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from lrfinder.tables.constants import Constants
from lrfinder.tables.kinds import KINDS

__all__ = ["OPTIMIZERS", "Optimizer", "divisor", "find_optimizer", "is_lr_free", "typical_lr", "unscaled_kinds"]
__all__ += ["update_rule"]

_LARGE = 0.01  # an epsilon beside which most gradients are small

_FITTED = "fitted to real trainings by scripts/bench_advice"
_TORCH = "default of torch.optim"
_OWN = "default of its own package"
_LIKE_ADAM = "that of Adam, tried on networks of scripts/bench_situations, or by hand"
_NEW = "that of Adam: tried by hand with 32 newer optimizers, it lowers their mean regret from 11.9 to 7.8 %"
_TRIED = "chosen on the fitted networks of scripts/bench_situations"


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """One row: a family of optimizers.

    Args:
        match: regular expression searched for in the class name, in lower case. The first row that matches counts.
        update_rule: ``"proportional"`` where an update grows with the gradient, ``"adaptive"`` where it does not.
        source: where the typical LR comes from.
        fitted: family of :attr:`Constants.typical_lr` it belongs to; "" for none.
        multiple: typical LR as a multiple of that of the family.
        lr: typical LR of a row without a family; > 0.
        lr_free: whether it sets its own step size, so that the LR is only a multiplier (Prodigy, L-BFGS) or the start
            of it (Rprop), and a range test does not find it.
        whole_data: whether it compares the gradients of its steps, so that each step has to be one on all data.
        schedule_free: whether it averages the weights in place of a schedule: a constant LR needs no lower peak, and
            momentum adds no updates up.
        mixes: whether one optimizer trains its groups in different units, so that its typical LR is that of the first.
    """

    match: str
    update_rule: str
    source: str
    fitted: str = ""
    multiple: float = 1.0
    lr: float | None = None
    lr_free: bool = False
    whole_data: bool = False
    schedule_free: bool = False
    mixes: bool = False

    @property
    def calibrated(self) -> bool:
        """Whether the typical LR is fitted to the calibration runs, as that of SGD and of Adam."""
        return self.source == _FITTED


# Special rows come first: "SingleDeviceMuonWithAuxAdam" is Muon, whose LR is that of its matrices, and no Adam.
OPTIMIZERS: tuple[Optimizer, ...] = (
    Optimizer(match="^dadaptsgd", update_rule="proportional", source=_OWN, lr=1.0, lr_free=True),
    Optimizer(match="^(prodigy|dadapt|l?dog|mechanize)", update_rule="adaptive", source=_OWN, lr=1.0, lr_free=True),
    # That README says 1 to 10 times the usual LR for AdamW, and 10 to 50 times for SGD: with momentum, so 2 to 10 here.
    Optimizer(
        match="sgdschedulefree|schedulefreesgd",
        update_rule="proportional",
        source="README of schedule_free",
        fitted="sgd",
        multiple=2.0,
        schedule_free=True,
    ),
    Optimizer(
        match="(adamw?|radam)schedulefree|schedulefreer?adam",
        update_rule="adaptive",
        source="README of schedule_free",
        fitted="adam",
        multiple=3.0,
        schedule_free=True,
    ),
    Optimizer(match="muon", update_rule="adaptive", source=_OWN, lr=0.02, mixes=True),
    Optimizer(match="adafactor", update_rule="adaptive", source=_TORCH, lr=0.01),
    Optimizer(match="adadelta", update_rule="adaptive", source=_TRIED, lr=6.0),
    Optimizer(match="rprop", update_rule="adaptive", source=_TORCH, lr=0.01, lr_free=True, whole_data=True),
    Optimizer(match="lbfgs", update_rule="adaptive", source=_TORCH, lr=1.0, lr_free=True, whole_data=True),
    # The paper of Lion says 3 to 10 times lower than AdamW; Tiger's updates are signs as well.
    Optimizer(
        match="lion|signsgd|signum|tiger",
        update_rule="adaptive",
        source="Chen et al., arXiv:2302.06675, section 5",
        fitted="adam",
        multiple=0.2,
    ),
    Optimizer(match="^came", update_rule="adaptive", source=_TRIED, fitted="adam", multiple=0.06),
    Optimizer(match="novograd|madgrad|ranger", update_rule="adaptive", source=_TRIED, fitted="adam", multiple=4.0),
    Optimizer(match="lamb", update_rule="adaptive", source=_TRIED, lr=0.005),
    Optimizer(match="lars", update_rule="adaptive", source=_TRIED, lr=4.0),
    # Its update is divided by the largest gradient seen and not by a mean, and torch's default is twice that of Adam.
    Optimizer(match="adamax", update_rule="adaptive", source=_FITTED, fitted="adam", multiple=2.0),
    Optimizer(match="rmsprop", update_rule="adaptive", source=_FITTED, fitted="rmsprop"),
    Optimizer(match="adagrad", update_rule="adaptive", source=_FITTED, fitted="adagrad"),
    Optimizer(match="adam", update_rule="adaptive", source=_FITTED, fitted="adam"),
    Optimizer(
        match="adopt|ademamix|adan|adabelief|adabound|diffgrad|laprop|mars|soap|yogi",
        update_rule="adaptive",
        source=_LIKE_ADAM,
        fitted="adam",
    ),
    Optimizer(match="sgd", update_rule="proportional", source=_FITTED, fitted="sgd"),
)
_OTHER = Optimizer(match=".", update_rule="adaptive", source=_NEW, fitted="adam")


@functools.cache
def find_optimizer(name: str) -> Optimizer | None:
    """The row for a class name, as in ``"AdamW8bit"``; None for one that no row matches.

    Example:
        >>> find_optimizer("PagedAdamW8bit").fitted, find_optimizer("SingleDeviceMuonWithAuxAdam").lr
        ('adam', 0.02)
    """
    return next((row for row in OPTIMIZERS if re.search(row.match, name.lower())), None)


def update_rule(name: str, epsilon: float | None = None) -> str:
    """``"proportional"`` where an update grows with the gradient, else ``"adaptive"``.

    An unknown class name counts as adaptive, as most newer optimizers are; no name at all counts as proportional.

    Args:
        name: class name of the optimizer.
        epsilon: what it adds to the root mean square of the gradients; None for nothing, or unknown.

    Example:
        >>> update_rule("SGD"), update_rule("AdamW"), update_rule("Sophia"), update_rule("")
        ('proportional', 'adaptive', 'adaptive', 'proportional')
        >>> update_rule("RMSprop", 1e-8), update_rule("RMSprop", 0.03)
        ('adaptive', 'proportional')
    """
    row = find_optimizer(name)
    if row is not None:
        return "proportional" if row.fitted and divisor(epsilon) is not None else row.update_rule
    return "adaptive" if name else "proportional"


def divisor(epsilon: float | None) -> float | None:
    """The epsilon where it is large: an adaptive optimizer divides by it alone, and is SGD with ``lr / epsilon``.

    Example:
        >>> divisor(0.0316), divisor(1e-8)
        (0.0316, None)
    """
    return epsilon if epsilon is not None and epsilon >= _LARGE else None


def unscaled_kinds(name: str) -> tuple[str, ...]:
    """Schedule kinds that need no factor: all where the LR is none to find, constant where the weights are averaged."""
    row = find_optimizer(name)
    if row is None:
        return ()
    return KINDS if row.lr_free else ("constant",) if row.schedule_free else ()


def is_lr_free(name: str) -> bool:
    """Whether the optimizer sets its own step size."""
    row = find_optimizer(name)
    return row is not None and row.lr_free


def typical_lr(name: str, momentum: float, constants: Constants, epsilon: float | None = None) -> float | None:
    """Typical peak LR of an optimizer, > 0: that of Adam for one that the table lacks; None without a name.

    Args:
        name: its class name.
        momentum: from 0 to 1. Steps of SGD and RMSprop add up to ``1 / (1 - momentum)`` updates, so the LR is lower.
        constants: the fitted ones.
        epsilon: as for :func:`update_rule`. A large one adds the LR of SGD times it.
    """
    row = find_optimizer(name) or (_OTHER if name else None)
    if row is None or row.lr is not None:
        return None if row is None else row.lr
    # Three digits, as the fitted numbers have.
    lr = float(f"{constants.typical_lr[row.fitted] * row.multiple:.3g}")
    if row.update_rule == "adaptive":
        lr += (divisor(epsilon) or 0.0) * constants.typical_lr["sgd"]
    # An Adam averages gradients, which leaves their sum as it is.
    sums = row.fitted in ("sgd", "rmsprop") and not row.schedule_free
    return lr * float((1.0 - min(momentum, 0.999)) ** constants.momentum_power) if sums else lr
