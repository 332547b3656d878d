"""``--csv``: the losses of a sweep as a table for other programs. No torch."""

from __future__ import annotations

import tempfile
from pathlib import Path

from lrfinder.errors import ConfigError
from lrfinder.record.curve import LossCurve

__all__ = ["check_csv", "csv_text"]


def check_csv(path: Path | None) -> None:
    """Check before the sweep that the file can be written; None is no file.

    Raises:
        ConfigError: another ending than ``.csv``, a folder of that name, or a folder that cannot be written to.
    """
    if path is None:
        return
    if path.suffix.lower() != ".csv":  # it might replace a file of another kind, such as the result
        raise ConfigError(f"--csv takes a file that ends in .csv; got {str(path)!r}.")
    if path.is_dir():
        raise ConfigError(f"cannot write to --csv {path}: it is a folder. Give a file name inside it.")
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise ConfigError(
            f"cannot write to --csv {path}: {error.strerror}. Give a file in a folder that exists and is writable."
        ) from error


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
