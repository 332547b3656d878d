"""The state is safe from the moment it is copied until it is back, wherever an interrupt falls."""

from __future__ import annotations

import contextlib
import dis
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from worlds import plain

from lrfinder import LRFinder
from lrfinder.training.setup import TrainingSetup
from lrfinder.training.state import preserved

BATCHES = [(torch.ones(2, 3), torch.tensor([0, 1]))]
SWEEP: dict[str, Any] = {"start_lr": 0.1, "end_lr": 1.0, "num_iter": 2, "progress": False}


def press_ctrl_c() -> None:
    signal.raise_signal(signal.SIGINT)


def raise_at_once() -> None:
    raise KeyboardInterrupt


# The frame of the way through, and all of it.
FRAME = ("state/snapshot.py", "state/interrupts.py", "state/modes.py", "contextlib.py", "lrfinder/finder.py")
ALL = ("lrfinder/", "contextlib.py")
HOW = {"signal": press_ctrl_c, "raised": raise_at_once}


class Interrupted:
    """Trace function that interrupts at one instruction of certain files, or of a test's own ``trained``.

    Instructions are counted from :meth:`start`. Left out is what lies between the last instruction of ``__enter__``
    and the first of its block, where Python handles no signal.
    """

    def __init__(self, number: int, how: Callable[[], None], files: tuple[str, ...] = FRAME) -> None:
        self.number, self.how, self.files = number, how, files
        self.count = -1
        self.in_block = False

    def start(self) -> None:
        self.count = max(self.count, 0)

    def __call__(self, frame: FrameType, event: str, argument: object) -> Any:
        code = frame.f_code
        if not any(part in code.co_filename for part in self.files) and code.co_name != "trained":
            return None
        frame.f_trace_opcodes = True
        if event == "opcode" and self.count >= 0 and not self._is_entering(frame):
            self.count += 1
            if self.count == self.number:
                self.how()
        return self

    def _is_entering(self, frame: FrameType) -> bool:
        returns = frame.f_code.co_code[frame.f_lasti] == dis.opmap["RETURN_VALUE"]
        name = frame.f_code.co_name
        return (not self.in_block and name == "trained") or (returns and name == "__enter__")

    def during(self, call: Callable[[], object]) -> bool:
        """Call a function; True where the interrupt came out of it."""
        former = sys.gettrace()
        sys.settrace(self)
        try:
            call()
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(former)
        return False


class Net(nn.Module):
    """Counts its calls, and reports each."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(3, 2)
        self.calls = 0
        self.on_call: Callable[[int], None] = lambda call: None

    def forward(self, inputs: Tensor) -> Tensor:
        self.calls += 1
        self.on_call(self.calls)
        return self.layer(inputs)  # type: ignore[no-any-return]


class World:
    """A net and its optimizer, with state, and everything of this process that an interrupt may leave changed."""

    def __init__(self) -> None:
        self.net = Net()
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.1, momentum=0.9)
        self.setup = TrainingSetup(self.net, self.optimizer, nn.CrossEntropyLoss())

    def state(self) -> Any:
        tensors = plain([*self.net.parameters(), self.optimizer.state_dict()])
        return tensors, self.net.calls, self.net.training, torch.is_grad_enabled(), signal.getsignal(signal.SIGINT)

    def change(self) -> None:
        with torch.no_grad():
            self.net.layer.weight.add_(1.0)
        self.net.calls += 1
        self.net.eval()
        self.optimizer.param_groups[0]["lr"] = 5.0


Attempt = Callable[[Interrupted], tuple[Any, Any, bool]]


def in_block(interrupted: Interrupted) -> tuple[Any, Any, bool]:
    """State before and after a block that is interrupted, and whether the interrupt came out."""
    world = World()

    def trained() -> None:
        interrupted.start()
        state = preserved(world.setup)
        with state, state:
            interrupted.in_block = True
            world.change()

    before = world.state()
    came_out = interrupted.during(trained)
    return before, world.state(), came_out


def in_block_entered_once(interrupted: Interrupted) -> tuple[Any, Any, bool]:
    """As :func:`in_block`; the instructions of the block's own function are left out."""
    world = World()

    def train() -> None:
        interrupted.start()
        with preserved(world.setup):
            world.change()

    before = world.state()
    came_out = interrupted.during(train)
    return before, world.state(), came_out


def in_range_test(interrupted: Interrupted) -> tuple[Any, Any, bool]:
    """As :func:`in_block`, for a range test, from its last batch on."""
    world = World()
    finder = LRFinder(world.net, world.optimizer, nn.CrossEntropyLoss())
    world.net.on_call = lambda call: interrupted.start() if call == SWEEP["num_iter"] else None
    before = world.state()
    came_out = interrupted.during(lambda: finder.range_test(BATCHES, **SWEEP))
    return before, world.state(), came_out


def instructions(attempt: Attempt, files: tuple[str, ...]) -> int:
    for _ in range(2):  # the first call imports modules
        counter = Interrupted(sys.maxsize, raise_at_once, files)
        attempt(counter)
    return counter.count


def wrong_instructions(attempt: Attempt, how: Callable[[], None], files: tuple[str, ...], every: int) -> list[int]:
    """Numbers of the instructions at which an interrupt leaves a trace, or is lost."""
    wrong = []
    for number in range(1, instructions(attempt, files) + 1, every):
        before, after, came_out = attempt(Interrupted(number, how, files))
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if before != after or not came_out:
            wrong.append(number)
    return wrong


@pytest.fixture(autouse=True)
def the_default_handler() -> Iterator[None]:
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, former)
    torch.set_grad_enabled(True)


ways = pytest.mark.parametrize("how", HOW.values(), ids=HOW)


@ways
def test_no_instruction_on_the_way_through_leaves_a_trace(how: Callable[[], None]) -> None:
    assert instructions(in_block, FRAME) > 200
    assert wrong_instructions(in_block, how, FRAME, every=1) == []


@ways
def test_no_instruction_of_copying_and_restoring_leaves_a_trace(how: Callable[[], None]) -> None:
    assert wrong_instructions(in_block, how, ALL, every=499) == []


def test_ctrl_c_leaves_no_trace_where_the_block_is_entered_once() -> None:
    assert wrong_instructions(in_block_entered_once, press_ctrl_c, FRAME, every=3) == []


@ways
def test_no_instruction_at_the_end_of_a_range_test_leaves_a_trace(how: Callable[[], None]) -> None:
    assert wrong_instructions(in_range_test, how, FRAME, every=5) == []


# --- handlers ---------------------------------------------------------------------------------------------------------


def test_ctrl_c_twice_waits_until_the_state_is_back() -> None:
    world = World()
    before = world.state()
    with pytest.raises(KeyboardInterrupt), preserved(world.setup):
        world.change()
        world.net.register_buffer("slow", None)
        press_ctrl_c()
    after = world.state()
    assert after == before


def test_a_handler_of_the_users_own_is_called_and_is_back_afterwards() -> None:
    calls: list[int] = []

    def handler(number: int, frame: object) -> None:
        calls.append(number)

    signal.signal(signal.SIGINT, handler)
    with preserved(World().setup):
        press_ctrl_c()
        assert calls == [signal.SIGINT]
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_handler_that_the_training_sets_stays() -> None:
    def handler(number: int, frame: object) -> None:
        raise AssertionError

    with preserved(World().setup):
        signal.signal(signal.SIGINT, handler)
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.parametrize("disposition", [signal.SIG_IGN, signal.SIG_DFL])
def test_an_ignored_or_deadly_ctrl_c_stays_one(disposition: signal.Handlers) -> None:
    signal.signal(signal.SIGINT, disposition)
    with preserved(World().setup):
        assert signal.getsignal(signal.SIGINT) == disposition
    assert signal.getsignal(signal.SIGINT) == disposition


def test_a_thread_preserves_without_a_handler() -> None:
    world = World()
    before = world.state()

    def train() -> None:
        with preserved(world.setup):
            world.change()
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert world.state() == before


def test_the_grad_mode_and_autocast_are_put_back() -> None:
    with preserved(World().setup):
        torch.set_grad_enabled(False)
        torch.set_autocast_enabled("cpu", True)
    assert torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")


def test_a_sweep_in_which_a_signal_exits_leaves_no_trace() -> None:
    world = World()
    before = world.state()
    with contextlib.suppress(SystemExit), preserved(world.setup):
        world.change()
        raise SystemExit
    assert world.state() == before
