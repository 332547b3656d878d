"""``--csv``: the losses of a sweep as a table for other programs. No torch."""

from __future__ import annotations

from lrfinder.record.curve import LossCurve

__all__ = ["csv_text"]


def csv_text(curve: LossCurve) -> str:
    """Lines of ``step,lr,loss`` with all digits; steps count from 0.

    Example:
        >>> from lrfinder import StopReason, SweepConfig
        >>> config = SweepConfig(start_lr=0.1, end_lr=0.4, num_iter=3)
        >>> print(csv_text(LossCurve(lrs=(0.1, 0.2), losses=(3.0, 2.5), stop=StopReason.INTERRUPTED, config=config)))
        step,lr,loss
        0,0.1,3.0
        1,0.2,2.5
        <BLANKLINE>
    """
    rows = (f"{step},{lr!r},{loss!r}" for step, (lr, loss) in enumerate(zip(curve.lrs, curve.losses, strict=True)))
    return "\n".join(["step,lr,loss", *rows, ""])
