"""Candidates of a race trained side by side: one forward and one backward pass for all of them, on one batch.

Parameters and buffers of all candidates are stacked and ``torch.func.vmap`` runs the loss over the stack. Plain
autograd goes back through it: the gradient of the sum of the losses is the gradient of each, and ``torch.func.grad``
takes longer. The updates are made by true copies of the user's own optimizer, one per candidate, over slices of the
stack, so that any optimizer keeps its own semantics. No tensor is shared with the user's objects.

Whether a model can be run like this is tried and not guessed. The first pass is made both ways from the same weights
and the same random state, and losses, gradients, buffers and random states have to agree. Statistics of BatchNorm do,
and masks of dropout (on a GPU not those of ``nn.Dropout``, which ``vmap`` draws in another way); what does not, and
what ``vmap`` refuses, ends in :class:`Unsuited`, with the reason.
"""

from __future__ import annotations

import copy
import warnings
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from lrfinder.distributed import world_size
from lrfinder.errors import BatchError
from lrfinder.param_groups import optimizer_parameters
from lrfinder.snapshot import capture_random
from lrfinder.train_step import LossFn, autocast, needs_closure

__all__ = ["PAYS_ON", "SideBySide", "Unsuited"]

PAYS_ON: frozenset[str] = frozenset()
"""Device types on which it is done without being asked for: those where ``scripts/bench_side_by_side`` shows that it
pays. On the CPU it does not. On a GPU three heats take a tenth less together and two a tenth more, of the four and more
that a race has: too little to let its numbers depend on it."""

_ALIKE = 0.05  # of the norm: rounding stays far below, even of bfloat16, and a mask or a sample that differs far above
_ACTIVATIONS = 2  # times what the forward pass keeps: about what the backward pass holds at its peak
_AMPLE = 0.5  # part of a device's free memory that may be taken


class Unsuited(Exception):
    """These objects cannot be trained side by side; the message says why, to follow a colon."""


class SideBySide:
    """So many copies of the training state as it stands, trained on the same batches.

    Args:
        model: in training mode; what is run, with each candidate's tensors in place of its own.
        optimizer: what the candidates' optimizers are copied from.
        loss_fn: as in training.
        count: number of candidates.
        criterion: part of ``loss_fn`` where it is a module.
        grad_scaler: as in training; there must be none.
        device: where the batches are.
        amp_dtype: as in training.
        clip_grad_norm: largest global gradient norm, of each candidate by itself; None does not clip.

    Raises:
        Unsuited: something about these objects rules it out from the start.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Any,
        loss_fn: LossFn,
        count: int,
        *,
        criterion: object = None,
        grad_scaler: Any = None,
        device: torch.device,
        amp_dtype: torch.dtype | None = None,
        clip_grad_norm: float | None = None,
    ) -> None:
        if (obstacle := _obstacle(model, optimizer, grad_scaler)) is not None:
            raise Unsuited(obstacle)
        self._model = model
        self._criterion = criterion if isinstance(criterion, nn.Module) else nn.Module()
        self._device = device
        self._autocast = autocast(device.type, amp_dtype)
        self._clip = clip_grad_norm
        self._call = _Call(model, loss_fn)
        self._count = count
        try:
            # A tied parameter has one name here, and functional_call puts it into every place.
            self._parameters, self._buffers = stack_module_state([self._call] * count)
        except RuntimeError as error:
            raise Unsuited(_first_line(error)) from error
        self._slices = [
            {name: tensor.detach()[k].requires_grad_(tensor.requires_grad) for name, tensor in self._parameters.items()}
            for k in range(count)
        ]
        self.optimizers = [
            _copied(optimizer, [(parameter, slices[name]) for name, parameter in self._call.named_parameters()])
            for slices in self._slices
        ]
        """One for each candidate; learning rates and momentum are written into them."""

    def backward(self, batches: Sequence[Any]) -> Tensor:
        """Fill the gradients of all candidates; their losses, detached, shape (count,).

        Raises:
            Unsuited: ``vmap`` cannot run these batches.
        """
        for tensor in self._parameters.values():
            tensor.grad = None
        total = torch.zeros(self._count, device=self._device)
        try:
            for batch in batches:
                losses = self._losses(batch)
                (losses.sum() / len(batches)).backward()  # type: ignore[no-untyped-call]
                total += losses.detach() / len(batches)
        except (BatchError, RuntimeError) as error:  # the first stands for the second where the criterion raised it
            raise Unsuited(_first_line(error)) from error
        return total

    def proven_backward(self, batches: Sequence[Any], one: Callable[[Sequence[Any]], Tensor]) -> Tensor:
        """The first pass, which is held against that of the model itself.

        Args:
            batches: as of :meth:`backward`.
            one: runs the pass on the model, from the same weights, and leaves its gradients there.

        Raises:
            Unsuited: the two passes do not agree, or there is no room for this one.
        """
        rewind_random = capture_random()
        before = {name: buffer.clone() for name, buffer in self._call.named_buffers()}
        notes = self._notes()
        kept: list[int] = []

        def keep(tensor: Tensor) -> Tensor:
            kept.append(tensor.numel() * tensor.element_size())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = one(batches)
        if self._notes() != notes:
            raise Unsuited("the model or the criterion keeps notes about itself while it runs")
        self._check_room(sum(kept))
        drawn = self._random()
        rewind_random()
        try:
            with warnings.catch_warnings():
                # An operation without a batching rule is run candidate by candidate, which is what we can do as well.
                warnings.filterwarnings("error", message="There is a performance drop")
                losses = self.backward(batches)
            alike = self._alike(loss, losses, before)
        except Unsuited:
            raise
        except Exception as error:  # the model by itself took these batches
            raise Unsuited(_first_line(error)) from error
        if not alike:
            raise Unsuited("losses, gradients or buffers are not those of the model by itself")
        if not all(map(torch.equal, self._random(), drawn)):
            raise Unsuited("random numbers are drawn in another way than by the model itself")
        return losses

    def update(self, k: int) -> None:
        """Update candidate ``k`` with the gradients of the last pass, clipped where the training clips."""
        optimizer = self.optimizers[k]
        for name, leaf in self._slices[k].items():
            gradient = self._parameters[name].grad
            leaf.grad = gradient[k] if gradient is not None else None
        if self._clip is not None:
            nn.utils.clip_grad_norm_(optimizer_parameters(optimizer), self._clip)
        optimizer.step()

    def load(self, k: int) -> None:
        """Write parameters and buffers of candidate ``k`` into the model."""
        with torch.no_grad():
            for name, parameter in self._call.named_parameters():
                parameter.copy_(self._parameters[name][k])
            for name, buffer in self._call.named_buffers():
                buffer.copy_(self._buffers[name][k])

    def _losses(self, batch: Any) -> Tensor:
        def loss_of(parameters: dict[str, Tensor], buffers: dict[str, Tensor]) -> Tensor:
            loss: Tensor = functional_call(self._call, (parameters, buffers), (batch,))
            return loss.reshape(())

        with self._autocast, sdpa_kernel(SDPBackend.MATH):  # vmap has no rule for the other kernels of attention
            # "same": every candidate has the masks that it would have by itself.
            losses: Tensor = vmap(loss_of, randomness="same")(self._parameters, self._buffers)
        return losses

    def _alike(self, loss: Tensor, losses: Tensor, before: dict[str, Tensor]) -> bool:
        gradients = [(self._parameters[name].grad, parameter.grad) for name, parameter in self._call.named_parameters()]
        if any((ours is None) != (theirs is None) for ours, theirs in gradients):
            return False
        off = sum(_squares(ours - theirs) for ours, theirs in gradients if ours is not None and theirs is not None)
        norm = sum(_squares(theirs) for _, theirs in gradients if theirs is not None)
        return (
            bool(((losses - loss).abs() <= _ALIKE * loss.abs() + 1e-6).all())
            and off <= self._count * _ALIKE**2 * norm
            and all(
                name in before and _alike(self._buffers[name], before[name], now)
                for name, now in self._call.named_buffers()
            )
        )

    def _check_room(self, activations: int) -> None:
        if self._device.type != "cuda":
            return
        # The stacks are there by now; gradients and the state of an Adam may be still to come.
        needed = 3 * sum(tensor.nbytes for tensor in self._parameters.values())
        needed += self._count * _ACTIVATIONS * activations
        free, _ = torch.cuda.mem_get_info(self._device)
        free += torch.cuda.memory_reserved(self._device) - torch.cuda.memory_allocated(self._device)
        if needed > _AMPLE * free:
            raise Unsuited(f"{self._device} has {free / 1e6:.0f} MB free, and {needed / 1e6:.0f} MB are needed")

    def _random(self) -> list[Tensor]:
        states = [torch.get_rng_state()]
        if self._device.type == "cuda":
            states.append(torch.cuda.get_rng_state(self._device))
        return states

    def _notes(self) -> Any:
        """What the modules keep besides the tensors that are stacked, so that a change shows."""
        registries = set(vars(nn.Module()))
        own = [vars(module) for module in self._model.modules()]
        notes = [{name: value for name, value in each.items() if name not in registries} for each in own]
        return _fingerprint([*notes, *(module._buffers for module in self._criterion.modules())])


class _Call(nn.Module):
    """``loss_fn`` as a module around the model: what it reads of the model are then the candidate's tensors."""

    def __init__(self, model: nn.Module, loss_fn: LossFn) -> None:
        super().__init__()
        self.training = model.training
        self.model = model
        self._loss_fn = (loss_fn,)  # in a tuple: a module here would be taken for a part of the model

    def forward(self, batch: Any) -> Tensor:
        return self._loss_fn[0](self.model, batch)


def _obstacle(model: nn.Module, optimizer: Any, grad_scaler: Any) -> str | None:
    """What a first pass would not show, or not leave as it was. Hooks and compiled calls have no public names."""
    if world_size() > 1:
        return "several ranks train together"
    if grad_scaler is not None:
        return "a GradScaler is used, and its scale would depend on all candidates"
    if not isinstance(optimizer, torch.optim.Optimizer):
        return f"{type(optimizer).__name__} is no torch.optim.Optimizer, so a copy may share state with it"
    if needs_closure(optimizer):
        return f"{type(optimizer).__name__} runs the model itself, in a closure"
    if optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks:
        return "the optimizer has step hooks, which may know it by name"
    for module in model.modules():
        if hasattr(module, "_orig_mod") or module._compiled_call_impl is not None:
            return "the model is compiled"
        if isinstance(module, nn.parallel.DistributedDataParallel):
            return "the model is wrapped for distributed training"
    parameters = list(model.parameters())
    for parameter in parameters:
        if type(parameter) not in (nn.Parameter, Tensor):
            return f"a parameter is a {type(parameter).__name__}"
        if parameter._backward_hooks or getattr(parameter, "_post_accumulate_grad_hooks", None):
            return "a parameter has a hook on its gradient"
    if set(map(id, optimizer_parameters(optimizer))) - set(map(id, parameters)):
        return "the optimizer holds parameters that are not the model's"
    return None


def _copied(optimizer: Any, pairs: list[tuple[Tensor, Tensor]]) -> Any:
    """A true copy of the optimizer that holds the second of each pair in place of the first, a parameter."""
    memo: dict[int, Any] = {id(parameter): leaf for parameter, leaf in pairs}
    try:
        for parameter, leaf in pairs:
            vars(leaf).update(copy.deepcopy(vars(parameter), memo))  # marks by which some optimizers tell them apart
        twin = copy.deepcopy(optimizer, memo)
        # Pickling, by which it is copied, leaves out what a class of its own keeps beside state and groups.
        for name in vars(optimizer).keys() - vars(twin).keys():
            if name != "step":  # of the instance: a torch scheduler's wrapper, which steps the original
                vars(twin)[name] = copy.deepcopy(vars(optimizer)[name], memo)
    except Exception as error:
        raise Unsuited(f"{type(optimizer).__name__} cannot be copied: {_first_line(error)}") from error
    return twin


def _alike(stacked: Tensor, before: Tensor, after: Tensor) -> bool:
    """Did each slice change as the buffer did?"""
    if not after.is_floating_point():
        return bool((stacked == after).all())
    rounding = 1e-5 * _squares(after) ** 0.5
    off, change = (_squares(each) ** 0.5 for each in (stacked - after, after - before))
    return bool(off <= len(stacked) * (_ALIKE * change + rounding))


def _squares(tensor: Tensor) -> float:
    return float(tensor.detach().float().square().sum())


def _fingerprint(value: Any) -> Any:
    """Something that is equal later on only if nothing was written into the value: by identity, and numbers by size."""
    if isinstance(value, Tensor):
        return id(value), value._version
    if isinstance(value, (bool, int, float, str)):
        return value
    if type(value) in (dict, OrderedDict, defaultdict):
        return [(key, _fingerprint(item)) for key, item in value.items()]
    if type(value) in (list, tuple, set, deque):
        return [_fingerprint(item) for item in value]
    return id(value)


def _first_line(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
