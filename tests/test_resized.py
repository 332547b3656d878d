"""Tensors that a forward pass resizes, replaces or frees: all come back, and none keeps another from coming back."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from worlds import loader, mlp, plain, sgd

from lrfinder import LRFinder
from lrfinder.errors import RestoreError
from lrfinder.training.setup import TrainingSetup
from lrfinder.training.state import preserved

SWEEP: dict[str, Any] = {"start_lr": 1e-4, "end_lr": 10.0, "num_iter": 15, "progress": False}
storages = pytest.mark.parametrize("storage", ["auto", "cpu", "disk"])


class Net(nn.Module):
    """A small net with one more buffer and one more attribute, which the change is made to in each forward pass."""

    kept: Tensor
    body: nn.Sequential

    def __init__(self, change: Callable[[Net], None], buffer: Tensor) -> None:
        super().__init__()
        self.body = mlp()
        self.change = change
        self.register_buffer("kept", buffer)
        self.hidden = torch.arange(4.0)

    def forward(self, inputs: Tensor) -> Tensor:
        with torch.no_grad():
            self.change(self)
        return self.body(inputs)


def assign(net: Net, name: str, value: Tensor) -> None:
    setattr(net, name, value)


def point_elsewhere(tensor: Tensor, value: Tensor) -> None:
    tensor.data = value


def inference(net: Net) -> None:
    with torch.inference_mode():
        net.kept = torch.rand(3)


CHANGES: dict[str, Callable[[Net], Any]] = {
    "a buffer grows in place": lambda net: net.kept.resize_(net.kept.numel() + 1).fill_(7.0),
    "a buffer shrinks in place": lambda net: net.kept.resize_(1).fill_(7.0),
    "a buffer is pointed to other memory": lambda net: point_elsewhere(net.kept, torch.full((3,), 7.0)),
    "a buffer gets another shape": lambda net: point_elsewhere(net.kept, torch.full((2, 5), 7.0)),
    "a buffer gets another type": lambda net: point_elsewhere(net.kept, torch.full((3,), 7, dtype=torch.int64)),
    "a buffer is transposed in place": lambda net: net.kept.resize_(3, 2).t_().fill_(7.0),
    "a buffer is replaced": lambda net: assign(net, "kept", torch.full((8,), 7.0)),
    "a buffer is replaced by none": lambda net: net.register_buffer("kept", None),
    "a buffer is made under inference_mode": inference,
    "a buffer is deleted": lambda net: net._buffers.pop("kept", None),
    "a buffer is freed": lambda net: net.kept.untyped_storage().resize_(0),
    "an attribute is freed": lambda net: net.hidden.untyped_storage().resize_(0),
    "an attribute is resized": lambda net: net.hidden.resize_(9).fill_(7.0),
    "a weight is pointed to other memory": lambda net: point_elsewhere(
        net.body[0].weight, net.body[0].weight.clone() + 1
    ),
    "a buffer needs a gradient": lambda net: net.kept.requires_grad_(),
}


@storages
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_tensors_that_a_forward_pass_changes_come_back(change: Callable[[Net], None], storage: str) -> None:
    torch.manual_seed(0)
    net = Net(change, torch.tensor([1.0, 2.0, 3.0]))
    kept, hidden, weight = net.kept, net.hidden, net.body[0].weight
    addresses = [tensor.data_ptr() for tensor in (weight, *net.body.parameters())]
    before = plain(net.state_dict())
    LRFinder(net, sgd(net), nn.CrossEntropyLoss()).range_test(loader(), **SWEEP, snapshot=storage)
    assert plain(net.state_dict()) == before
    assert net.kept is kept and net.hidden is hidden and net.body[0].weight is weight
    assert plain(hidden) == plain(torch.arange(4.0))
    assert [tensor.data_ptr() for tensor in (weight, *net.body.parameters())] == addresses
    assert not net.kept.requires_grad


def test_a_range_test_without_a_range_rewinds_resized_buffers_too() -> None:
    net = Net(CHANGES["a buffer grows in place"], torch.tensor([1.0, 2.0, 3.0]))
    LRFinder(net, sgd(net), nn.CrossEntropyLoss()).range_test(loader(), progress=False)
    assert net.kept.tolist() == [1.0, 2.0, 3.0]


@storages
def test_a_buffer_that_was_made_under_inference_mode_comes_back(storage: str) -> None:
    with torch.inference_mode():
        buffer = torch.ones(3)

    def double(net: Net) -> None:
        with torch.inference_mode():
            net.kept.mul_(2)

    net = Net(double, buffer)
    LRFinder(net, sgd(net), nn.CrossEntropyLoss()).range_test(loader(), **SWEEP, snapshot=storage)
    assert net.kept is buffer and buffer.tolist() == [1.0, 1.0, 1.0]


def test_memory_that_was_freed_before_is_freed_again() -> None:
    net = Net(lambda net: net.kept.untyped_storage().resize_(12), torch.ones(3))
    net.kept.untyped_storage().resize_(0)
    LRFinder(net, sgd(net), nn.CrossEntropyLoss()).range_test(loader(), **SWEEP)
    assert net.kept.untyped_storage().nbytes() == 0 and net.kept.shape == (3,)


@pytest.mark.parametrize("freed", ["resized to nothing", "shorter than its shape"])
def test_a_sweep_over_freed_memory_does_not_end_the_process(freed: str) -> None:
    size = {"resized to nothing": 0, "shorter than its shape": 4}[freed]
    net = Net(lambda net: net.hidden.untyped_storage().resize_(size), torch.ones(3))
    LRFinder(net, sgd(net), nn.CrossEntropyLoss()).range_test(loader(), **SWEEP)
    assert net.hidden.tolist() == [0.0, 1.0, 2.0, 3.0]


def test_quantisation_aware_training_leaves_no_trace() -> None:
    from torch.ao import quantization

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = mlp()
        net.qconfig = quantization.get_default_qat_qconfig()
        quantization.prepare_qat(net.train(), inplace=True)
        before = plain(net.state_dict())
        LRFinder(net, sgd(net), nn.CrossEntropyLoss()).range_test(loader(), **SWEEP)
        assert plain(net.state_dict()) == before


# --- one failure ------------------------------------------------------------------------------------------------------


class Stubborn(torch.Tensor):
    """A tensor that refuses to be written or moved once it is locked."""

    locked = False

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if cls.locked and getattr(func, "__name__", "") == "copy_" and isinstance(args[0], Stubborn):
            raise RuntimeError("this tensor cannot be written")
        if cls.locked and getattr(func, "__name__", "") == "to":
            raise RuntimeError("this tensor cannot be moved")
        return super().__torch_function__(func, types, args, kwargs or {})


@pytest.fixture
def stubborn() -> Any:
    Stubborn.locked = False
    net = Net(lambda net: None, torch.ones(3).as_subclass(Stubborn))
    yield net
    Stubborn.locked = False


def train_badly(net: nn.Module) -> None:
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(1.0)
    Stubborn.locked = True


def test_what_cannot_be_restored_is_reported_and_all_else_is_back(stubborn: Net) -> None:
    optimizer = sgd(stubborn)
    before = plain(list(stubborn.parameters()))
    with (
        pytest.raises(RestoreError, match="shape .3,.*cannot be moved.*Everything else is as it was before"),
        preserved(TrainingSetup(stubborn, optimizer, nn.CrossEntropyLoss())),
    ):
        train_badly(stubborn)
        optimizer.param_groups[0]["lr"] = 5.0
    assert plain(list(stubborn.parameters())) == before
    assert optimizer.param_groups[0]["lr"] != 5.0


def test_a_failure_after_an_exception_is_a_warning_beside_it(stubborn: Net) -> None:
    setup = TrainingSetup(stubborn, sgd(stubborn), nn.CrossEntropyLoss())
    before = plain(list(stubborn.parameters()))
    with pytest.warns(RuntimeWarning, match="could not be restored"), pytest.raises(KeyError), preserved(setup):
        train_badly(stubborn)
        raise KeyError("in the training")
    assert plain(list(stubborn.parameters())) == before
