"""How a user trains, checked when it is passed in: settings that exclude each other, precision, devices."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from small import network, train_step, training
from torch import nn

from lrfinder import LRFinder
from lrfinder.errors import BatchError, ConfigError, SetupError
from lrfinder.training.setup import resolve_device

CPU = torch.device("cpu")

# --- settings ---------------------------------------------------------------------------------------------------------


def test_a_closure_and_a_grad_scaler_are_refused_together() -> None:
    model = network()
    scaler = torch.amp.GradScaler("cpu")
    with pytest.raises(SetupError, match="Leave grad_scaler out, or use amp_dtype=torch.bfloat16"):
        train_step(model, torch.optim.LBFGS(model.parameters()), grad_scaler=scaler)
    train_step(model, torch.optim.LBFGS(model.parameters()))
    train_step(model, torch.optim.SGD(model.parameters()), grad_scaler=scaler)


@pytest.mark.parametrize("amp_dtype", [torch.float32, torch.float64, "bfloat16", True])
def test_a_type_that_autocast_cannot_use_is_refused_with_those_it_can(amp_dtype: Any) -> None:
    model = network()
    with pytest.raises(ConfigError, match="amp_dtype must be torch.bfloat16, torch.float16 or None; got"):
        train_step(model, torch.optim.SGD(model.parameters()), amp_dtype=amp_dtype)


@pytest.mark.parametrize("amp_dtype", [None, torch.float16, torch.bfloat16])
def test_the_two_types_and_none_are_accepted(amp_dtype: Any) -> None:
    model = network()
    train_step(model, torch.optim.SGD(model.parameters()), amp_dtype=amp_dtype)


# --- devices ----------------------------------------------------------------------------------------------------------


def test_a_device_object_is_as_good_as_its_name() -> None:
    assert resolve_device("cpu") == resolve_device(CPU) == CPU


def test_a_name_that_is_no_device_is_refused_with_those_that_are() -> None:
    with pytest.raises(SetupError, match="'gpu' is not a device. Use 'cpu', 'cuda', 'cuda:0' or 'mps'"):
        resolve_device("gpu")


@pytest.mark.parametrize("device", ["cpu", "cpu:0", torch.device("cpu", 0)], ids=repr)
def test_the_first_device_of_a_kind_is_the_device_of_that_kind(device: Any) -> None:
    model = network()
    setup = training(model, torch.optim.SGD(model.parameters(), lr=0.1), device=device)
    assert setup.device == CPU  # the name that tensors have, so that no batch is copied


def test_a_device_that_is_not_available_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SetupError, match="device cuda is not available here. Use 'cpu', or install a torch build"):
        resolve_device("cuda")


def test_a_device_number_beyond_the_last_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(SetupError, match=r"device cuda:2 is not there: this machine has 2 CUDA device\(s\)"):
        resolve_device("cuda:2")
    assert resolve_device("cuda:1") == torch.device("cuda:1")


# --- what is trained --------------------------------------------------------------------------------------------------


class Prompted:
    """A trained network, frozen, and a shift of its inputs that is trained beside it."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3)).requires_grad_(False)
        self.prompt = nn.Parameter(torch.ones(4))
        inputs = torch.randn(20, 16, 4)
        self.loader = [(each, self.model(each).argmax(dim=1)) for each in inputs]
        self.optimizer = torch.optim.Adam([self.prompt], lr=1e-3)

    def loss(self, model: nn.Module, batch: Any) -> torch.Tensor:
        return nn.functional.cross_entropy(5 * model(batch[0] + self.prompt), batch[1])


def test_parameters_beside_a_frozen_network_can_be_trained() -> None:
    """As in prompt tuning: all that the optimizer holds is outside the model."""
    world = Prompted()
    finder = LRFinder(world.model, world.optimizer, loss_fn=world.loss)
    result = finder.range_test(world.loader)
    assert torch.equal(world.prompt, torch.ones(4)) and not world.optimizer.state
    assert result.lr_for("cosine") > 1e-3
    better = finder.refine(result, world.loader, schedule="cosine", total_steps=60, budget=1.0)
    assert better.trials is not None and better.trials.improved
    assert torch.equal(world.prompt, torch.ones(4)) and not world.optimizer.state


def test_an_optimizer_of_another_model_is_found_beside_a_frozen_one() -> None:
    world = Prompted()
    finder = LRFinder(world.model, torch.optim.SGD([nn.Parameter(torch.ones(2))], lr=0.1), loss_fn=world.loss)
    with pytest.raises(BatchError, match="the loss reaches none of the optimizer's parameters"):
        finder.range_test(world.loader)


@pytest.fixture
def ensemble() -> dict[str, Any]:
    """Three copies of a network, trained side by side by functional calls of it."""
    torch.manual_seed(0)
    nets = [nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3)) for _ in range(3)]
    weights, _ = torch.func.stack_module_state(nets)  # type: ignore[arg-type]

    def loss_fn(model: nn.Module, batch: Any) -> torch.Tensor:
        def one(weights: dict[str, torch.Tensor]) -> torch.Tensor:
            return nn.functional.cross_entropy(torch.func.functional_call(model, weights, batch[0]), batch[1])

        return torch.func.vmap(one)(weights).mean()

    inputs = torch.randn(60, 16, 4)
    loader = [(each, each[:, :3].argmax(dim=1)) for each in inputs]
    optimizer = torch.optim.Adam(weights.values(), lr=1e-3)
    return {"model": nets[0], "weights": weights, "optimizer": optimizer, "loss_fn": loss_fn, "loader": loader}


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_weights_that_replace_those_of_a_frozen_model_are_swept(ensemble: Any, device: str) -> None:
    model, weights, optimizer = ensemble["model"].to(device), ensemble["weights"], ensemble["optimizer"]
    before = {name: value.detach().clone() for name, value in weights.items()}
    with pytest.raises(SetupError, match=r"as with functional_call: model\.requires_grad_\(False\)"):
        LRFinder(model, optimizer, loss_fn=ensemble["loss_fn"])
    finder = LRFinder(model.requires_grad_(False), optimizer, loss_fn=ensemble["loss_fn"])
    result = finder.range_test(ensemble["loader"], progress=False)
    assert result.advice.grade != "none"
    assert all(torch.equal(weights[name], value) for name, value in before.items()) and not optimizer.state


def test_parameters_without_values_are_refused(ensemble: Any) -> None:
    model = ensemble["model"].to("meta")
    finder = LRFinder(model, torch.optim.Adam(model.parameters(), lr=1e-3), loss_fn=ensemble["loss_fn"])
    with pytest.raises(SetupError, match="on the device meta, so they have no values"):
        finder.range_test(ensemble["loader"])


class Copies:
    """An optimizer whose groups are made anew when they are read, as those of fastai are."""

    def __init__(self, inner: Any, **parts: Any) -> None:
        self._groups = lambda: inner.param_groups
        self.step, self.state = inner.step, inner.state
        vars(self).update(parts)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return [dict(group) for group in self._groups()]


def test_groups_that_are_copies_are_refused() -> None:
    """A learning rate written into them has no effect: every step of the test would have the same one."""
    model = nn.Linear(2, 1)
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    alone = r"Copies makes its param_groups anew.*no effect. Give an optimizer of torch.optim.$"
    with pytest.raises(SetupError, match=alone):
        LRFinder(model, Copies(sgd), nn.MSELoss())
    with pytest.raises(SetupError, match=r"Copies makes its param_groups.*Give the optimizer inside it, its opt\.$"):
        LRFinder(model, Copies(sgd, opt=sgd), nn.MSELoss())
    other = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    with pytest.raises(SetupError, match="Copies makes its param_groups anew"):
        LRFinder(model, [other, Copies(sgd, opt=sgd)], nn.MSELoss())


def test_an_optimizer_of_another_library_is_named_with_it() -> None:
    kind = type("Adam", (), {"__module__": "keras.optimizers"})
    with pytest.raises(SetupError, match=r"must be a torch optimizer; got a keras.optimizers.Adam\."):
        LRFinder(nn.Linear(2, 1), kind(), nn.MSELoss())


def test_an_object_that_holds_an_optimizer_is_refused_with_its_attribute() -> None:
    """As tianshou's, which clips and steps by itself."""
    model = nn.Linear(2, 1)
    held = SimpleNamespace(_optim=torch.optim.SGD(model.parameters(), lr=0.1), step=len)
    with pytest.raises(SetupError, match=r"got a types.SimpleNamespace. Give the optimizer inside it, its _optim\.$"):
        LRFinder(model, held, nn.MSELoss())


@pytest.mark.parametrize(("keyed", "wanted"), [(True, "list(optimizer.parts.values())"), (False, "optimizer.parts")])
def test_what_holds_optimizers_is_refused_with_the_way_to_them(keyed: bool, wanted: str) -> None:
    """As the optimizer of Pyro, which has one for each parameter."""
    model = nn.Linear(2, 1)
    inner = torch.optim.Adam(model.parameters())
    holder = SimpleNamespace(parts={0: inner} if keyed else [inner])
    with pytest.raises(SetupError, match=re.escape(f"It holds some: pass {wanted} and, as step_fn, the function")):
        LRFinder(model, holder, nn.MSELoss())


@pytest.mark.parametrize("words", ["SAM requires closure.", "element 0 of tensors does not have a grad_fn", "a bug"])
@pytest.mark.parametrize("sweep", [{}, {"start_lr": 1e-3, "end_lr": 1.0, "num_iter": 10}])
def test_an_optimizer_that_is_to_be_called_in_another_way_needs_a_step_fn(words: str, sweep: dict[str, Any]) -> None:
    class Asking(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            raise RuntimeError(words)

    model = nn.Linear(2, 1)
    batches = [(torch.ones(4, 2), torch.ones(4, 1))] * 4
    asked = words != "a bug"
    with pytest.raises(SetupError if asked else RuntimeError, match="step_fn" if asked else words):
        LRFinder(model, Asking(model.parameters(), lr=0.1), nn.MSELoss()).range_test(batches, **sweep)
