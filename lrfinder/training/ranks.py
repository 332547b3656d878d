"""Agreement of the ranks of a distributed run. The only module that names ``torch.distributed``.

Every rank passes the same mean loss to the same state machine, so all of them stop at the same iteration by
construction; a non-finite loss on one rank makes the mean non-finite on all.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["is_main_rank", "mean_over_ranks", "world_size"]


def world_size() -> int:
    """Number of ranks; 1 outside a distributed run."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return 1
    return torch.distributed.get_world_size()


def is_main_rank() -> bool:
    """True on rank 0 and outside a distributed run: the rank that reports progress."""
    return world_size() == 1 or torch.distributed.get_rank() == 0


def mean_over_ranks(loss: Tensor) -> Tensor:
    """Mean of a scalar over all ranks, the same on each; outside a distributed run the loss itself.

    Args:
        loss: one element, on the device of this rank.
    """
    size = world_size()
    if size == 1:
        return loss
    total = loss.detach().reshape(()).to(torch.float64 if loss.device.type != "mps" else torch.float32, copy=True)
    torch.distributed.all_reduce(total)
    return total / size
