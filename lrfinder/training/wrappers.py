"""What torch wraps around a model that several ranks train: replicas (``DistributedDataParallel``) and shards (FSDP2).

Replicas compute their gradients alone during a range test, and one call reduces them after all ranks have said that
they got so far. So a rank that fails leaves no other waiting, accumulation needs one reduction per update, and the
wrapper's own bookkeeping (it regroups its buckets once, after the first backward pass) is left to the training. The
mean is that of the wrapper without a communication hook.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from lrfinder.errors import SetupError

__all__ = [
    "Replicas",
    "check_wrapper_given",
    "is_distributed",
    "is_main_rank",
    "is_sharded",
    "process_group",
    "replicas_in",
    "reshard",
    "whole",
]

_RECORDED = "_static_graph_delay_allreduce_enqueued"  # torch has no public name for it


def is_distributed() -> bool:
    """Whether there is a process group."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def is_main_rank() -> bool:
    """True on rank 0 and outside a distributed run: the rank that reports progress."""
    return not is_distributed() or torch.distributed.get_rank() == 0


def replicas_in(model: nn.Module) -> list[DistributedDataParallel]:
    """The wrapped replicas in a model, itself included."""
    return [module for module in model.modules() if isinstance(module, DistributedDataParallel)]


def check_wrapper_given(model: nn.Module, functions: Sequence[object]) -> None:
    """Refuse a model whose replicas the user's functions train by a wrapper that is not given.

    Args:
        model: as it was given.
        functions: of the user's own, which compute the loss or make the step.

    Raises:
        SetupError: they refer to a wrapper around the model.
    """
    from lrfinder.training.state.reachable import Limits, reachable  # late: the state is that of a whole set-up

    own = set(model.modules())
    for item in reachable(functions, Limits(entries=1000, objects=1000)):
        if isinstance(item, DistributedDataParallel) and item not in own and item.module in own:
            raise SetupError(
                "the model is the one inside a DistributedDataParallel, by which step_fn or loss_fn trains it. Give "
                "the wrapper, so that all ranks sweep together: LRFinder(DistributedDataParallel(model), ...)."
            )


def is_sharded(model: nn.Module) -> bool:
    """Whether parameters of the model are distributed over ranks.

    Raises:
        SetupError: they are so by the former wrapper of torch, which leaves no shards to restore.
    """
    # Late: takes half a second, and only a distributed run needs it.
    from torch.distributed.fsdp import FSDPModule, FullyShardedDataParallel
    from torch.distributed.tensor import DTensor

    if any(isinstance(module, FullyShardedDataParallel) for module in model.modules()):
        raise SetupError(
            "the model is wrapped in FullyShardedDataParallel (FSDP1), whose flattened parameters cannot be restored "
            "one by one. Shard it with torch.distributed.fsdp.fully_shard (FSDP2), or sweep one process without it."
        )
    if any(isinstance(module, FSDPModule) for module in model.modules()):
        return True  # its parameters may be gathered at the moment
    return any(isinstance(parameter, DTensor) for parameter in model.parameters())


def process_group(model: nn.Module, replicas: Sequence[DistributedDataParallel]) -> Any:
    """The ranks that train the model: those of its replicas, or of the mesh it is sharded over; None for all."""
    if replicas:
        return replicas[0].process_group
    meshes = [mesh for mesh in (getattr(parameter, "device_mesh", None) for parameter in model.parameters()) if mesh]
    whole_world = not meshes or any(mesh.ndim > 1 for mesh in meshes)
    return None if whole_world else max(meshes, key=lambda mesh: mesh.size()).get_group()


def reshard(model: nn.Module) -> None:
    """Have every sharded module hold its shards alone."""
    from torch.distributed.fsdp import FSDPModule

    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def whole(value: Tensor) -> Tensor:
    """A number computed from shards, as an ordinary tensor; all ranks have to call it."""
    gather = getattr(value, "full_tensor", None)
    return value if gather is None else gather()


class Replicas:
    """Replicas of a model whose gradients and buffers are brought together here instead of by their wrapper.

    Args:
        wrapped: the wrappers.
        group: their process group.
    """

    def __init__(self, wrapped: Sequence[DistributedDataParallel], group: Any) -> None:
        self._wrapped = wrapped
        self._group = group
        self._size = torch.distributed.get_world_size(group)
        self._parameters: list[Tensor] = []
        self._finds_unused = any(each.find_unused_parameters for each in wrapped)
        self._used: list[bool] | None = None  # of the parameters, whether any rank has a gradient

    @contextlib.contextmanager
    def taken_over(self) -> Iterator[None]:
        """Context in which the wrappers communicate nothing.

        Raises:
            SetupError: a wrapper records its first backward pass, and has not made it yet.
        """
        if any(each.static_graph and not getattr(each, _RECORDED, False) for each in self._wrapped):
            raise SetupError(
                "the model is wrapped with static_graph=True and has not trained yet, so a range test would change "
                "what the wrapper records in its first step. Train one step before, or wrap it without static_graph."
            )
        self._parameters = [p for each in self._wrapped for p in _reduced_parameters(each)]
        self._used = None
        with contextlib.ExitStack() as stack:
            for wrapped in self._wrapped:
                # Due in the next forward pass where the training has made one backward pass; all ranks take part.
                wrapped._has_rebuilt_buckets |= wrapped.reducer._rebuild_buckets()
                stack.enter_context(wrapped.no_sync())
                stack.callback(setattr, wrapped, "require_forward_param_sync", wrapped.require_forward_param_sync)
                wrapped.require_forward_param_sync = False  # no buffers are sent
                if wrapped.find_unused_parameters and not wrapped.static_graph:
                    # It notes what backward passes reach, also where it communicates nothing, until it does.
                    stack.callback(wrapped.reducer._reset_state)
            yield

    def sync_buffers(self) -> None:
        """Copy the buffers of the group's first rank to all."""
        for wrapped in self._wrapped:
            if wrapped.broadcast_buffers and wrapped.modules_buffers:
                first = torch.distributed.get_global_rank(self._group, 0)
                for same in _by_type(wrapped.modules_buffers):
                    flat = torch.cat([buffer.detach().reshape(-1) for buffer in same])
                    torch.distributed.broadcast(flat, first, group=self._group)
                    _write(same, flat)

    @torch.no_grad()
    def reduce_gradients(self) -> None:
        """Average the gradients over the ranks; a rank without any, as it failed, counts with zeros.

        Raises:
            SetupError: the loss reaches other parameters on one rank than on another.
        """
        if self._used is None or self._finds_unused:
            self._used = self._agreed_use()
        used = [parameter for parameter, used in zip(self._parameters, self._used, strict=True) if used]
        for parameter in used:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            elif parameter.grad.is_sparse:
                parameter.grad = parameter.grad.coalesce() / self._size
                torch.distributed.all_reduce(parameter.grad, group=self._group)
        for same in _by_type([each.grad for each in used if each.grad is not None and not each.grad.is_sparse]):
            flat = torch.cat([gradient.reshape(-1) for gradient in same]).div_(self._size)
            torch.distributed.all_reduce(flat, group=self._group)
            _write(same, flat)

    def _agreed_use(self) -> list[bool]:
        if not self._parameters:
            return []
        has = [float(parameter.grad is not None) for parameter in self._parameters]
        counts = torch.tensor(has, device=self._parameters[0].device)
        torch.distributed.all_reduce(counts, group=self._group)
        ranks = counts.tolist()
        if not self._finds_unused and any(0 < count < self._size for count in ranks):
            raise SetupError(
                "the loss reaches other parameters on one rank than on another. Wrap the model with "
                "DistributedDataParallel(..., find_unused_parameters=True), as its training needs it too."
            )
        return [count > 0 for count in ranks]


def _reduced_parameters(wrapped: DistributedDataParallel) -> list[Tensor]:
    ignored = wrapped.parameters_to_ignore
    return [each for name, each in wrapped.module.named_parameters() if each.requires_grad and name not in ignored]


def _by_type(tensors: Sequence[Tensor]) -> list[list[Tensor]]:
    """The tensors, those of one device and type together."""
    groups: dict[Any, list[Tensor]] = {}
    for tensor in tensors:
        groups.setdefault((tensor.device, tensor.dtype), []).append(tensor)
    return list(groups.values())


def _write(tensors: Sequence[Tensor], flat: Tensor) -> None:
    parts = torch.split(flat, [tensor.numel() for tensor in tensors])
    shaped = [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]
    with torch.no_grad():
        torch._foreach_copy_(list(tensors), shaped)
