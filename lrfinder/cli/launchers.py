"""Launchers that start a program several times, each for one rank of a training. No torch."""

from __future__ import annotations

import os
from collections.abc import Mapping

from lrfinder.errors import ConfigError

__all__ = ["OtherRankError", "refuse_launcher"]


class OtherRankError(Exception):
    """The command is refused, and another rank prints the reason."""


def refuse_launcher(environment: Mapping[str, str] = os.environ) -> None:
    """Refuse ``lrfind run`` as one of the processes that torchrun, or a launcher with its variables, has started.

    Args:
        environment: variables of the process.

    Raises:
        ConfigError: it is the first of them, which prints the reason.
        OtherRankError: it is another one.

    Example:
        >>> refuse_launcher({"WORLD_SIZE": "2", "RANK": "1"})
        Traceback (most recent call last):
        lrfinder.cli.launchers.OtherRankError
    """
    several = "RANK" in environment and environment.get("WORLD_SIZE", "1") != "1"
    if "TORCHELASTIC_RUN_ID" not in environment and not several:
        return
    if environment.get("RANK", "0") != "0":
        raise OtherRankError
    raise ConfigError(
        "lrfind run tests a model on one device, and torchrun or a similar launcher has started several processes. "
        "Run it without torchrun, or call LRFinder inside the distributed training."
    )
