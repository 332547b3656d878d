"""The ranks of a distributed run: which of them train one model together, and how they stay together.

Ranks train together where the model is wrapped in ``DistributedDataParallel`` or its parameters are sharded (FSDP2,
tensor parallel). A model that is not wrapped is this rank's own, whatever process group there is.

Every step has one exchange of (loss, failed, exhausted). All ranks pass the same mean loss to the same state machine,
so they stop at the same step; where one failed or ran out of data, all learn it by the same exchange. The rank that
failed raises its own exception, the others a :class:`RankError` that names it; so it is with a first Ctrl-C. Until the
flag has been read, which on a GPU is some steps later, that rank goes on with its last batch, so that none waits for
it.

An exception inside a forward or backward pass that itself communicates (FSDP2, SyncBatchNorm, a ``step_fn`` over DDP)
leaves the others waiting in that communication; ending them is the launcher's business.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from lrfinder.errors import RankError
from lrfinder.training import wrappers
from lrfinder.training.meeting import Meeting, noted_interrupt

__all__ = ["Ranks"]

T = TypeVar("T")

MEAN, FAILED, EXHAUSTED = range(3)  # entries of an exchanged row


class Ranks:
    """The ranks that train a model together; one where it is not distributed.

    Args:
        model: as it is trained, with its wrappers.
        optimizer: that trains it.
        functions: of the user's own, which compute the loss or make the step.
        device: of the training.
        communicates: whether the step reduces the gradients itself, as a ``step_fn`` does.

    Raises:
        SetupError: the functions train the model by a wrapper that is not given.
    """

    def __init__(
        self, model: nn.Module, optimizer: Any, functions: Sequence[object], device: torch.device, *, communicates: bool
    ) -> None:
        found, self._sharded = [], False
        if wrappers.is_distributed():
            wrappers.check_wrapper_given(model, functions)
            found, self._sharded = wrappers.replicas_in(model), wrappers.is_sharded(model)
        self._model, self._device = model, device
        self._group: Any = wrappers.process_group(model, found) if found or self._sharded else None
        self.together = bool(found) or self._sharded
        """Whether this rank trains the model with others of its process group, which may be no more than itself."""
        self.size = torch.distributed.get_world_size(self._group) if self.together else 1
        self._replicas = wrappers.Replicas(found, self._group) if found and not communicates else None
        self._meeting = Meeting(self._group, model, optimizer) if self.together else None
        self._fault: BaseException | None = None
        self._exhausted = False
        self._settled = False  # so that an exchange follows, or the end of the session
        self._last: Sequence[Any] = ()  # batches
        self.failed = False
        """Whether a row has been read that says that a rank failed."""

    @contextlib.contextmanager
    def session(self, **agreed: Any) -> Iterator[None]:
        """Context of a range test or a search: meet at the start, take the reduction over, and tell of a failure.

        Args:
            agreed: what has to be the same on all ranks, by name.

        Raises:
            RankError: a rank did not arrive within 25 seconds, failed, or has another model or other arguments.
        """
        self._fault, self._exhausted, self._settled, self.failed = None, False, False, False
        try:
            with contextlib.ExitStack() as stack:
                if self._meeting is not None:
                    stack.enter_context(self._meeting.announced_failure())
                    self._meeting.arrive(**agreed)
                    stack.enter_context(noted_interrupt(self.attempt, lambda: self._settled))
                if self._replicas is not None:
                    stack.enter_context(self._replicas.taken_over())
                self.reshard()
                yield
            if self._fault is not None:  # after the last exchange
                raise self._fault
        finally:
            self._fault, self._last = None, ()

    def settle(self) -> None:
        """Wait until all ranks have a first batch.

        Raises:
            RankError: one of them failed.
        """
        if self._meeting is not None:
            self._meeting.settle()
            self._settled = True

    def gathered(self, numbers: Sequence[float]) -> list[list[float]]:
        """These numbers of every rank, in order; waits for the device."""
        rows = [torch.tensor(numbers, device=self._device, dtype=torch.float32) for _ in range(self.size)]
        if self.together:
            torch.distributed.all_gather(rows, rows[0].clone(), group=self._group)
        return [row.tolist() for row in rows]

    # --- one step -----------------------------------------------------------------------------------------------------

    def draw(self, draw: Callable[[], Sequence[Any]]) -> Sequence[Any]:
        """What ``draw`` returns; with other ranks and where it fails or ends, the last batches, and the flag is set."""
        if not self.together:
            return draw()
        if self._fault is None and not self._exhausted:
            try:
                self._last = draw()
            except StopIteration:
                self._exhausted = True
            except BaseException as error:
                self._fault = error
        return self._last

    def attempt(self, call: Callable[[], T]) -> T | None:
        """What ``call`` returns; with other ranks, its exception is kept until the next exchange, and None returned.

        Not kept is one that all ranks raise, as they have read that one of them stopped.
        """
        if not self.together:
            return call()
        try:
            return call()
        except BaseException as error:
            if self.failed:
                raise
            self._fault = self._fault or error
        return None

    def exchange(self, loss: Tensor) -> Tensor:
        """(mean loss, ranks that failed, ranks without data) of one step, the same on each rank; shape (3,).

        Args:
            loss: one element, on the device of this rank.
        """
        wide = torch.float32 if loss.device.type == "mps" else torch.float64
        row = torch.zeros(3, dtype=wide, device=loss.device)
        row[MEAN] = loss.detach().reshape(()).to(wide) / self.size
        if self._fault is not None:
            assert self._meeting is not None
            self._meeting.report(self._fault)
            row[FAILED].fill_(1.0)
        row[EXHAUSTED].fill_(float(self._exhausted))
        torch.distributed.all_reduce(row, group=self._group)
        return row

    def shared(self, compute: Callable[[], Tensor]) -> Tensor:
        """Row of :meth:`exchange` of the element that each rank computes; an exception is kept until the row is read.

        Not kept is one from a computation that communicates itself: it is raised at once.
        """
        if self._replicas is None:
            return self.exchange(compute())
        loss = None if self._fault is not None else self.attempt(compute)
        return self.exchange(torch.full((), torch.nan, device=self._device) if loss is None else loss)

    def measured(self, compute: Callable[[], Tensor]) -> Tensor:
        """As :meth:`shared`, for forward passes without a backward pass; what ``compute`` returns on a single rank."""
        self.sync_buffers()
        try:
            return compute() if not self.together else self.shared(compute)
        finally:
            self.reshard()

    def mean(self, compute: Callable[[], Tensor]) -> float:
        """Mean over the ranks of what forward passes give on each; waits for the device.

        Raises:
            RankError: another rank failed.
        """
        return self.mean_of(self.measured(compute)).item()

    def mean_of(self, loss: Tensor) -> Tensor:
        """The mean in an exchanged row, or of a loss that is not exchanged yet; with other ranks, waits for the device.

        Raises:
            RankError: another rank failed.
        """
        if not self.together:
            return loss
        row = self.exchange(loss) if loss.numel() == 1 else loss
        if self.has_stopped(row) and self.read(row.tolist()) is None:
            raise RankError("another rank ran out of data.")
        return row[MEAN]

    def has_stopped(self, row: Tensor) -> bool:
        """Whether a rank has failed or run out of data; waits for the device."""
        return bool(row[FAILED:].any())

    def read(self, row: Sequence[float]) -> float | None:
        """The mean loss of an exchanged row; None where a rank had no more data.

        Raises:
            RankError: another rank failed; the failed rank raises its own exception.
        """
        if row[FAILED]:
            self.failed = True
            if self._fault is not None:
                raise self._fault
            assert self._meeting is not None
            raise RankError(self._meeting.failure())
        return None if row[EXHAUSTED] else row[MEAN]

    # --- wrappers -----------------------------------------------------------------------------------------------------

    def sync_buffers(self) -> None:
        """Give all replicas the buffers of rank 0, as their wrapper does before a forward pass."""
        if self._replicas is not None:
            self._replicas.sync_buffers()

    def reduce_gradients(self) -> None:
        """Average the gradients over the replicas, where their wrapper was told not to."""
        if self._replicas is not None:
            self._replicas.reduce_gradients()

    def reshard(self) -> None:
        """Give up gathered parameters: a forward pass without a backward pass leaves them gathered (FSDP2)."""
        if self._sharded:
            wrappers.reshard(self._model)

    @contextlib.contextmanager
    def resharded(self) -> Iterator[None]:
        """Context after which no parameters are gathered, so that shards can be restored."""
        try:
            yield
        finally:
            self.reshard()
