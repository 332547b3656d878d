"""Names that users choose from. By themselves, as the help of a command needs no more and should come at once."""

from __future__ import annotations

__all__ = ["KINDS", "MODES", "MOMENTUM_KINDS", "OPEN_KINDS", "STEP_KINDS", "WARMUP_KINDS"]

MODES = ("exp", "linear")  # spacings of the learning rates of a sweep

KINDS = (
    "onecycle",
    "cosine",
    "step",
    "multistep",
    "exponential",
    "linear",
    "plateau",
    "cyclic",
    "restarts",
    "wsd",
    "constant",
)
WARMUP_KINDS = ("cosine", "linear", "step", "multistep", "exponential", "wsd", "constant")  # take ``warmup_steps``
STEP_KINDS = ("onecycle", "cyclic", "wsd")  # make no sense moved once per epoch
OPEN_KINDS = ("plateau", "constant")  # need not know how long the training is
MOMENTUM_KINDS = ("onecycle", "cyclic")  # cycle the momentum against the LR, where there is one
