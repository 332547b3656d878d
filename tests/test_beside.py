"""State beside the model: found where something refers to it, or named by the user, and put back."""

from __future__ import annotations

import copy
import functools
import sys
import time
import weakref
from collections import UserDict
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch.utils.data import DataLoader
from worlds import mlp, plain, points, seeded, sgd

from lrfinder import LRFinder
from lrfinder.errors import ConfigError
from lrfinder.training.setup import TrainingSetup
from lrfinder.training.state import preserved

SWEEP = {"start_lr": 1e-4, "end_lr": 1.0, "num_iter": 12}
CHOSEN: dict[str, Any] = {}

cross_entropy = nn.functional.cross_entropy


@dataclass(kw_only=True)
class Run:
    """A training, and the objects beside its model that a step changes."""

    model: nn.Module
    loss_fn: Callable[[Any, Any], Tensor]
    watched: Callable[[], Any]
    optimizer: torch.optim.Optimizer
    also: list[Any] = field(default_factory=list)

    def train(self, steps: int) -> list[float]:
        losses = []
        for batch in list(DataLoader(points(), batch_size=8))[:steps]:
            self.optimizer.zero_grad()
            loss = self.loss_fn(self.model, batch)
            loss.backward()
            self.optimizer.step()
            losses.append(loss.item())
        return losses

    def range_test(self, **given: Any) -> None:
        finder = LRFinder(self.model, self.optimizer, loss_fn=self.loss_fn, also=self.also)
        finder.range_test(DataLoader(points(), batch_size=8), progress=False, **given)


def with_loss(loss_fn: Any, watched: Callable[[], Any], model: nn.Module | None = None, **options: Any) -> Run:
    model = mlp() if model is None else model
    return Run(model=model, loss_fn=loss_fn, watched=watched, optimizer=sgd(model), **options)


def plain_loss(model: Any, batch: Any) -> Tensor:
    return cross_entropy(model(batch[0]), batch[1])


class Ema:
    """Moving average of the weights, as people write it: tensors replaced, and a count."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.updates = model, 0
        self.shadow = {name: each.detach().clone() for name, each in model.named_parameters()}

    def update(self, *_: Any) -> None:
        self.updates += 1
        for name, each in self.model.named_parameters():
            self.shadow[name] = 0.9 * self.shadow[name] + 0.1 * each.detach()

    def values(self) -> Any:
        return plain(self.shadow), self.updates


def ema_by_hook(how: str) -> Run:
    run = with_loss(plain_loss, lambda: ema.values())
    ema = Ema(run.model)
    hooks: dict[str, Any] = {
        "a bound method": ema.update,
        "a lambda": lambda *_: ema.update(),
        "a partial": functools.partial(lambda ema, *_: ema.update(), ema),
    }
    run.optimizer.register_step_post_hook(hooks[how])
    return run


def ema_in_place() -> Run:
    run = with_loss(plain_loss, lambda: plain(list(average.parameters())))
    average = copy.deepcopy(run.model).requires_grad_(False)

    def update(*_: Any) -> None:
        for mean, each in zip(average.parameters(), run.model.parameters(), strict=True):
            mean.mul_(0.9).add_(each.detach(), alpha=0.1)

    run.optimizer.register_step_post_hook(update)
    return run


def averaged_model() -> Run:
    run = with_loss(plain_loss, lambda: plain(average.state_dict()))
    average = torch.optim.swa_utils.AveragedModel(run.model)
    run.model.register_forward_hook(lambda module, *_: average.update_parameters(module))
    return run


def by_parameter_hook() -> Run:
    run = with_loss(plain_loss, lambda: plain(total))
    total = torch.zeros(16, 6)

    def add(parameter: Tensor) -> None:
        total.add_(parameter.grad)

    run.model[0].weight.register_post_accumulate_grad_hook(add)  # type: ignore[index]
    return run


class Adversary:
    """A discriminator that is trained inside the loss function, with its own optimizer and noise."""

    def __init__(self) -> None:
        self.net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=1e-2)
        self.noise = torch.Generator().manual_seed(3)
        self.calls = 0

    def __call__(self, model: Any, batch: Any) -> Tensor:
        output = model(batch[0])
        self.calls += 1
        self.optimizer.zero_grad()
        seen = output.detach() + torch.randn(output.shape, generator=self.noise)
        (self.net(seen).sigmoid().mean() + self.net(torch.zeros(8, 3)).square().mean()).backward()
        self.optimizer.step()
        return cross_entropy(output, batch[1]) + 0.1 / self.calls * self.net(output).mean()

    def loss(self, model: Any, batch: Any) -> Tensor:
        return self(model, batch)

    def values(self) -> Any:
        gradients = [plain(each.grad) for each in self.net.parameters()]
        state = plain(self.net.state_dict()), plain(self.optimizer.state_dict()), plain(self.noise.get_state())
        return *state, gradients, self.calls, self.net.training


ADVERSARY: Any = None
STEPS = 0


def loss_with_global(model: Any, batch: Any) -> Tensor:
    global STEPS
    STEPS += 1
    return ADVERSARY(model, batch) / STEPS


def adversary(how: str) -> Run:
    global ADVERSARY, STEPS
    ADVERSARY, STEPS = each, _ = Adversary(), 0

    def default(model: Any, batch: Any, other: Any = each) -> Tensor:
        return other(model, batch)

    def inner(model: Any, batch: Any) -> Tensor:
        return default(model, batch)

    ways: dict[str, Any] = {
        "a closure": lambda model, batch: each(model, batch),
        "a callable object": each,
        "a bound method": each.loss,
        "a partial": functools.partial(lambda other, model, batch: other(model, batch), each),
        "a default": default,
        "a function in a closure": inner,
        "a dictionary in a closure": (lambda held: lambda model, batch: held["d"][0](model, batch))({"d": [each]}),
        "a namespace": (lambda held: lambda model, batch: held.d(model, batch))(SimpleNamespace(d=each)),
        "a UserDict": (lambda held: lambda model, batch: held["d"](model, batch))(UserDict(d=each)),
        "a global": loss_with_global,
    }
    return with_loss(ways[how], lambda: (each.values(), STEPS))


class Holding(nn.Module):
    """Keeps modules where torch does not register them, a generator, and a counter in a plain object."""

    def __init__(self) -> None:
        super().__init__()
        self.body = mlp()
        self.experts = [nn.BatchNorm1d(6), nn.BatchNorm1d(6)]
        self.heads = {"deep": {"norm": nn.BatchNorm1d(3)}}
        self.noise = torch.Generator().manual_seed(9)
        self.helper = SimpleNamespace(calls=0, norm=nn.BatchNorm1d(3))

    def forward(self, inputs: Tensor) -> Tensor:
        self.helper.calls += 1
        for expert in self.experts:
            inputs = expert(inputs)
        output = self.heads["deep"]["norm"](self.body(inputs + torch.rand((), generator=self.noise)))
        return self.helper.norm(output) * (1 + 0.1 / self.helper.calls)


def holding() -> Run:
    model = Holding()
    modules = [*model.experts, model.heads["deep"]["norm"], model.helper.norm]
    return with_loss(
        plain_loss,
        lambda: ([plain(each.state_dict()) for each in modules], plain(model.noise.get_state()), model.helper.calls),
        model,
    )


def counting_in_closures() -> Run:
    calls, running, counts = 0, torch.zeros(()), {"calls": 0}

    def loss_fn(model: Any, batch: Any) -> Tensor:
        nonlocal calls, running
        calls += 1
        counts["calls"] += 1
        loss = plain_loss(model, batch)
        running = 0.9 * running + 0.1 * loss.detach()
        return loss * min(1.0, calls / 20) + running * 0 + counts["calls"] * 0

    return with_loss(loss_fn, lambda: (calls, plain(running), counts))


def noisy_optimizer() -> Run:
    class Noisy(torch.optim.SGD):
        def __init__(self, parameters: Any) -> None:
            super().__init__(parameters, lr=0.05)
            self.generator, self.rng = torch.Generator().manual_seed(8), np.random.default_rng(2)

        def step(self, closure: Any = None) -> Any:
            for group in self.param_groups:
                for each in group["params"]:
                    each.grad.add_(torch.rand((), generator=self.generator) * self.rng.random())
            return super().step(closure)

    model = mlp()
    optimizer = Noisy(model.parameters())
    return Run(
        model=model,
        loss_fn=plain_loss,
        optimizer=optimizer,
        watched=lambda: (plain(optimizer.generator.get_state()), str(optimizer.rng.bit_generator.state)),
    )


HOOKS = ("a bound method", "a lambda", "a partial")
WAYS = (*HOOKS[::2], "a closure", "a callable object", "a default", "a function in a closure")
PLACES = ("a dictionary in a closure", "a namespace", "a UserDict", "a global")

RUNS: dict[str, Callable[[], Run]] = {
    **{f"an EMA updated by {how} as a hook": functools.partial(ema_by_hook, how) for how in HOOKS},
    "an EMA model updated in place": ema_in_place,
    "an AveragedModel updated by a hook of the model": averaged_model,
    "a tensor changed by a hook of a parameter": by_parameter_hook,
    **{f"a discriminator in {how}": functools.partial(adversary, how) for how in (*WAYS, *PLACES)},
    "modules and a generator in plain attributes": holding,
    "counters in closures": counting_in_closures,
    "an optimizer with its own generators": noisy_optimizer,
}


@pytest.mark.parametrize("build", RUNS.values(), ids=RUNS)
@pytest.mark.parametrize("given", [SWEEP, CHOSEN], ids=["given range", "chosen range"])
def test_training_continues_as_without_a_range_test(build: Callable[[], Run], given: dict[str, Any]) -> None:
    def after(tested: bool) -> Any:
        run: Any = seeded(build)  # type: ignore[arg-type]
        if tested:
            run.range_test(**given)
        return plain(run.watched()), run.train(5), plain(run.watched()), plain(list(run.model.parameters()))

    assert after(tested=True) == after(tested=False)


def seeded_run(build: Callable[[], Run]) -> Run:
    run: Any = seeded(build)  # type: ignore[arg-type]
    run.train(2)
    return run


@pytest.mark.parametrize("build", RUNS.values(), ids=RUNS)
def test_an_interrupted_range_test_restores_it_too(build: Callable[[], Run]) -> None:
    run = seeded_run(build)
    before = plain(copy.deepcopy(run.watched()))

    def batches() -> Any:
        yield from list(DataLoader(points(), batch_size=8))[:4]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        LRFinder(run.model, run.optimizer, loss_fn=run.loss_fn).range_test(batches(), progress=False, **SWEEP)
    assert plain(run.watched()) == before


def test_what_a_loss_function_logs_in_a_list_is_kept() -> None:
    losses: list[float] = []

    def loss_fn(model: Any, batch: Any) -> Tensor:
        loss = plain_loss(model, batch)
        losses.append(loss.item())
        return loss

    with_loss(loss_fn, lambda: None).range_test(**SWEEP)
    assert len(losses) == 12


def test_a_list_that_is_named_is_no_log() -> None:
    losses: list[float] = []

    def loss_fn(model: Any, batch: Any) -> Tensor:
        losses.append(plain_loss(model, batch).item())
        return plain_loss(model, batch) / losses[0]

    with_loss(loss_fn, lambda: None, also=[losses]).range_test(**SWEEP)
    assert losses == []


def test_a_list_of_an_installed_package_is_no_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """The accountant of a private training counts the steps that an optimizer makes."""
    package = ModuleType("accounting")
    package.__file__ = "/usr/lib/python3/site-packages/accounting.py"
    monkeypatch.setitem(sys.modules, "accounting", package)
    accountant = type("Accountant", (), {"__module__": "accounting"})()
    accountant.history = []
    net = mlp()
    optimizer = sgd(net)
    optimizer.register_step_post_hook(lambda *_: accountant.history.append((1.1, 1)))
    LRFinder(net, optimizer, loss_fn=plain_loss).range_test(DataLoader(points(), batch_size=8), **SWEEP)
    assert accountant.history == []


def test_data_that_a_trainer_holds_are_restored_but_not_copied_whole() -> None:
    class Counting(torch.utils.data.Dataset[Any]):
        def __init__(self) -> None:
            self.calls, self.large = 0, torch.zeros(2**24)

    class Trainer:
        def __init__(self) -> None:
            self.data, self.model = Counting(), mlp()

        def loss(self, model: Any, batch: Any) -> Tensor:
            return plain_loss(model, batch)

    trainer = Trainer()
    setup = TrainingSetup(trainer.model, sgd(trainer.model), loss_fn=trainer.loss)
    with preserved(setup):
        trainer.data.calls += 1
        trainer.data.large += 1
    assert trainer.data.calls == 0
    assert bool((trainer.data.large == 1).all())


@pytest.mark.parametrize("held", ["closure", "model", "also", "loader"])
@pytest.mark.parametrize("gradient", [None, 5.0])
def test_the_gradient_of_a_tensor_beside_the_parameters_is_restored(held: str, gradient: float | None) -> None:
    model, tensor = mlp(), torch.ones((), requires_grad=True)
    tensor.grad = None if gradient is None else torch.tensor(gradient)
    model.shift = tensor if held == "model" else None
    loss_fn: dict[str, Any] = {
        "closure": lambda model, batch: plain_loss(model, batch) * tensor,
        "model": lambda model, batch: plain_loss(model, batch) * model.shift,
        "loader": lambda model, batch: plain_loss(model, batch) * batch[2],
        "also": lambda model, batch: plain_loss(model, batch) * batch[2](),
    }
    third = weakref.ref(tensor) if held == "also" else tensor
    batches = [(*batch, third) for batch in DataLoader(points(), batch_size=8)]
    finder = LRFinder(model, sgd(model), loss_fn=loss_fn[held], also=[tensor] if held == "also" else [])
    finder.range_test(batches, progress=False, **SWEEP)
    if gradient is None or held == "loader":  # of what a loader gives, the gradient itself is put back
        assert (tensor.grad is None) == (gradient is None)
    else:
        assert tensor.grad is not None and tensor.grad.item() == gradient


class Lookup:
    """An object whose attributes are the items of a dictionary."""

    __slots__ = ("__dict__", "_hidden", "later")

    def __init__(self) -> None:
        self.items, self._hidden = {"width": 4}, 1

    def __getattr__(self, name: str) -> Any:
        return self.__dict__["items"][name]


def test_the_attributes_of_an_object_are_kept_without_its_own_code() -> None:
    model, lookup = mlp(), Lookup()
    model.config = lookup

    def loss_fn(model: Any, batch: Any) -> Tensor:
        model.config._hidden, model.config.later = 2, 3
        return plain_loss(model, batch)

    with_loss(loss_fn, lambda: None, model).range_test(**SWEEP)
    assert lookup._hidden == 1 and lookup.items == {"width": 4}
    with pytest.raises(KeyError):  # a slot that was empty is empty again, and its __getattr__ is asked
        lookup.later  # noqa: B018


def test_an_attribute_of_the_loss_function_is_restored() -> None:
    def loss_fn(model: Any, batch: Any) -> Tensor:
        loss_fn.calls += 1  # type: ignore[attr-defined]
        return plain_loss(model, batch) / loss_fn.calls  # type: ignore[attr-defined]

    loss_fn.calls = 0  # type: ignore[attr-defined]
    with_loss(loss_fn, lambda: None).range_test(**SWEEP)
    assert loss_fn.calls == 0  # type: ignore[attr-defined]


def test_a_container_that_a_package_keeps_for_itself_is_left_alone() -> None:
    def loss_fn(model: Any, batch: Any) -> Tensor:
        counters["test"]["calls"] += 1
        return plain_loss(model, batch)

    counters.clear()
    with_loss(loss_fn, lambda: None).range_test(**SWEEP)
    assert counters["test"]["calls"] == 12


# --- named by the user ------------------------------------------------------------------------------------------------


class Closed:
    """Keeps its state where attributes do not show it."""

    __slots__ = ()

    def state_dict(self) -> dict[str, Any]:
        return HIDDEN[0]

    def load_state_dict(self, state: dict[str, Any]) -> None:
        HIDDEN[0] = state


HIDDEN: list[dict[str, Any]] = [{"count": [1]}]


def changed(item: Any) -> None:
    """Change the object in place."""
    if isinstance(item, (Tensor, np.ndarray)):
        item += 1
    elif isinstance(item, nn.Module):
        for each in item.parameters():
            each.data.add_(1)
    elif isinstance(item, torch.optim.Optimizer):
        item.step()
    elif isinstance(item, torch.Generator):
        torch.rand(3, generator=item)
    elif isinstance(item, np.random.Generator):
        item.random()
    elif isinstance(item, list):
        item.append(torch.ones(1))
    elif isinstance(item, Closed):
        HIDDEN[0]["count"][0] += 1
    else:
        item.update()


def described(item: Any) -> Any:
    if hasattr(item, "state_dict"):
        return plain(copy.deepcopy(item.state_dict()))
    if isinstance(item, torch.Generator):
        return plain(item.get_state())
    if isinstance(item, np.random.Generator):
        return str(item.bit_generator.state)
    return plain(item.values() if isinstance(item, Ema) else copy.deepcopy(item))


def ready_adam() -> torch.optim.Optimizer:
    weight = nn.Parameter(torch.ones(3))
    weight.grad = torch.ones(3)
    return torch.optim.Adam([weight], lr=0.1)


NAMED: dict[str, Callable[[], Any]] = {
    "a module": mlp,
    "an optimizer": ready_adam,
    "a tensor": lambda: torch.ones(3),
    "an array": lambda: np.ones(3),
    "a torch generator": lambda: torch.Generator().manual_seed(1),
    "a NumPy generator": lambda: np.random.default_rng(1),
    "a list": lambda: [torch.ones(3)],
    "an EMA": lambda: Ema(mlp()),
    "an object with state_dict alone": Closed,
}


@pytest.mark.parametrize("build", NAMED.values(), ids=NAMED)
def test_what_also_names_is_restored(build: Callable[[], Any]) -> None:
    item, model = build(), mlp()
    before = described(item)
    with preserved(TrainingSetup(model, sgd(model), nn.CrossEntropyLoss(), also=[item])):
        changed(item)
        assert described(item) != before
    assert described(item) == before


@pytest.mark.parametrize("own", [False, True])
def test_a_named_read_only_array_that_training_writes_is_restored(own: bool) -> None:
    model, table = mlp(), np.zeros(3)
    table.flags.writeable = False
    model.held = [table] if own else []  # type: ignore[assignment]
    with preserved(TrainingSetup(model, sgd(model), nn.CrossEntropyLoss(), also=[[table]])):
        table.flags.writeable = True
        table += 1
    assert not table.any()


def test_a_large_container_is_restored_when_it_is_named() -> None:
    model, words = mlp(), list(range(300_000))
    with preserved(TrainingSetup(model, sgd(model), nn.CrossEntropyLoss(), also=[words])):
        words.reverse()
    assert words == list(range(300_000))


@pytest.mark.parametrize(
    "also, message",
    [
        (nn.Linear(1, 1), r"also must be a list of objects with state; got a Linear. Write LRFinder\(..., also=\[ema"),
        (None, "also must be a list of objects with state; got a NoneType"),
        ({"ema": nn.Linear(1, 1)}, "also must be a list of objects with state; got a dict"),
        ([nn.Linear(1, 1), None], r"also\[1\] is a NoneType, which has no state to restore. Name the object"),
        ([3.5], r"also\[0\] is a float"),
        (["ema"], r"also\[0\] is a str"),
        ([nn.Linear], r"also\[0\] is the class Linear"),
        ([plain_loss], r"also\[0\] is a function"),
        ([[].append], r"also\[0\] is a builtin_function_or_method"),
        ([mlp().parameters()], r"also\[0\] is a generator"),
        ([torch], r"also\[0\] is a module"),
    ],
)
def test_what_has_no_state_is_refused_in_also(also: Any, message: str) -> None:
    model = mlp()
    with pytest.raises(ConfigError, match=message):
        LRFinder(model, sgd(model), nn.CrossEntropyLoss(), also=also)


# --- bounds -----------------------------------------------------------------------------------------------------------


def test_large_data_that_a_loss_function_names_are_left_out() -> None:
    words, table = [f"word {index}" for index in range(300_000)], np.zeros(2**28, dtype=np.float32)
    model = mlp()

    def loss_fn(model: Any, batch: Any) -> Tensor:
        return plain_loss(model, batch) + 0 * len(words) + 0 * len(table)

    setup = TrainingSetup(model, sgd(model), loss_fn=loss_fn)
    started = time.perf_counter()
    with preserved(setup):
        pass
    assert time.perf_counter() - started < 0.1


def test_a_list_of_samples_is_data_wherever_it_is_referred_to() -> None:
    samples = [torch.zeros(2**19) for _ in range(4)]  # of 2 MiB, which no data set puts back
    model = nn.Linear(2**19, 1)

    def loss_fn(model: Any, batch: Any) -> Tensor:
        samples[0] += 1
        return model(batch).square().mean()

    loader = DataLoader(samples, batch_size=2)
    LRFinder(model, sgd(model), loss_fn=loss_fn).range_test(loader, progress=False, **SWEEP)
    assert samples[0].min() > 0


@pytest.mark.filterwarnings("ignore:.torch.jit.script:FutureWarning")
def test_a_scripted_teacher_is_restored() -> None:
    model, teacher = mlp(), torch.jit.script(nn.BatchNorm1d(6))
    before = plain(teacher.state_dict())
    run = with_loss(lambda each, batch: plain_loss(each, (teacher(batch[0]), batch[1])), lambda: None, model)
    run.range_test(**SWEEP)
    assert plain(teacher.state_dict()) == before


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
def test_a_frozen_scripted_teacher_is_left_alone() -> None:
    teacher = torch.jit.freeze(torch.jit.script(nn.BatchNorm1d(6)).eval())  # has no train and eval mode any more
    with_loss(lambda each, batch: plain_loss(each, (teacher(batch[0]), batch[1])), lambda: None).range_test(**SWEEP)
    assert not hasattr(teacher, "training")


def test_a_lazy_module_beside_the_model_is_left_alone() -> None:
    unused = nn.LazyLinear(3)
    with_loss(lambda model, batch: plain_loss(model, batch) + 0 * id(unused), lambda: None).range_test(**SWEEP)
    assert isinstance(unused.weight, nn.parameter.UninitializedParameter)
