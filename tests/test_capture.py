"""State of models of any build: what a training step changes anywhere in it is put back."""

from __future__ import annotations

import array
import random
import warnings
from collections import Counter, OrderedDict, UserDict, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune
from torch.utils.data import DataLoader, Dataset, RandomSampler, Sampler
from worlds import loader, mlp, plain, sgd

from lrfinder import LRFinder
from lrfinder.training.setup import TrainingSetup
from lrfinder.training.state import preserved

MOST_ITEMS, MOST_WALKED = 10_000, 50_000

SWEEP: dict[str, Any] = {"start_lr": 1e-4, "end_lr": 10.0, "num_iter": 12, "progress": False}


def sweep(model: nn.Module, criterion: Any = None, optimizer: Any = None) -> None:
    optimizer = sgd(model) if optimizer is None else optimizer
    LRFinder(model, optimizer, criterion or nn.CrossEntropyLoss()).range_test(loader(), **SWEEP)


class Net(nn.Module):
    """A small net with one attribute more, which each forward pass changes."""

    def __init__(self, held: Any, change: Callable[[Any], object]) -> None:
        super().__init__()
        self.body = mlp()
        self.held = held
        self.change = change

    def forward(self, inputs: Tensor) -> Tensor:
        with torch.no_grad():
            self.change(self.held)
        return self.body(inputs)  # type: ignore[no-any-return]


class Pair(NamedTuple):
    first: Tensor
    second: list[int]


class Steps:
    """Counts."""

    def __init__(self) -> None:
        self.count = 0
        self.mean = torch.zeros(2)
        self.inner: Any = SimpleNamespace(seen=[])

    def add(self) -> None:
        self.count += 1
        self.mean += 1
        self.inner.seen.append(self.count)
        self.later = 1


class Slotted:
    """Counts without a dict."""

    __slots__ = ("count", "tensor")

    def __init__(self) -> None:
        self.count, self.tensor = 0, torch.zeros(2)

    def add(self) -> None:
        self.count += 1
        self.tensor += 1


@dataclass
class Record:
    """Counts, with equality."""

    values: list[float] = field(default_factory=list)
    total: float = 0.0


class Cache(dict[str, int]):
    """A dict of one's own that refuses to be cleared, with an attribute."""

    hits = 0

    def clear(self) -> None:
        raise AssertionError

    def add(self) -> None:
        self.hits += 1
        self["a"] = self.get("a", 0) + 1


def ring() -> Steps:
    first, second = Steps(), Steps()
    first.inner, second.inner = second, first
    first.inner.seen = second.seen = []  # type: ignore[attr-defined]
    return first


def grow(record: Record) -> None:
    record.values.append(1.0)
    record.total += 1


def view(value: Any) -> Any:
    """Everything that can be read of a value, as plain values."""
    if isinstance(value, (Slotted, Steps, Record)):
        names = Slotted.__slots__ if isinstance(value, Slotted) else [name for name in vars(value) if name != "inner"]
        return {name: plain(getattr(value, name)) for name in names}
    if isinstance(value, torch.Generator):
        return plain(value.get_state())
    if isinstance(value, np.random.Generator):
        return str(value.bit_generator.state)
    if isinstance(value, random.Random):
        return value.getstate()
    if isinstance(value, np.random.RandomState):
        return plain(value.get_state())
    if isinstance(value, Cache):
        return dict(value), value.hits
    if isinstance(value, dict):
        return {key: view(item) for key, item in value.items()}
    if isinstance(value, np.ndarray) and value.dtype.hasobject:
        return [view(item) for item in value.flat]
    return plain(value) if isinstance(value, (Tensor, tuple, list, np.ndarray)) else repr(value)


CASES: dict[str, tuple[Callable[[], Any], Callable[[Any], object]]] = {
    "a plain object": (Steps, Steps.add),
    "an object with slots": (Slotted, Slotted.add),
    "objects in a ring": (ring, Steps.add),
    "a dataclass": (Record, grow),
    "a namespace": (lambda: SimpleNamespace(n=0), lambda held: setattr(held, "n", held.n + 1)),
    "a dict of objects": (lambda: {"a": Record()}, lambda held: grow(held["a"])),
    "a tuple of tensors": (lambda: (torch.zeros(2), [torch.zeros(1)]), lambda held: held[1][0].add_(1)),
    "a named tuple": (lambda: Pair(torch.zeros(2), []), lambda held: (held.first.add_(1), held.second.append(1))),
    "a Counter": (Counter, lambda held: held.update(["a", "b"])),
    "a deque": (lambda: deque([1, 2], maxlen=2), lambda held: held.append(7)),
    "a defaultdict": (lambda: defaultdict(list), lambda held: held["a"].append(1)),
    "an OrderedDict": (lambda: OrderedDict(a=1, b=2), lambda held: held.move_to_end("a")),
    "a UserDict": (UserDict, lambda held: held.__setitem__("a", 1)),
    "a set": (set, lambda held: held.add(len(held))),
    "a dict of one's own": (Cache, Cache.add),
    "a bytearray": (lambda: bytearray(b"ab"), lambda held: held.extend(b"c")),
    "an array": (lambda: array.array("i", [1]), lambda held: held.append(2)),
    "a NumPy array": (lambda: np.zeros(3), lambda held: held.__iadd__(1)),
    "objects in an array": (lambda: np.array([[Steps(), Record()]]), lambda held: (held[0, 0].add(), grow(held[0, 1]))),
    "generators in an array": (lambda: np.array([random.Random(0), None]), lambda held: held[0].random()),
    "a torch.Generator": (torch.Generator, lambda held: torch.rand(1, generator=held)),
    "a NumPy Generator": (lambda: np.random.default_rng(0), lambda held: held.random()),
    "a NumPy RandomState": (lambda: np.random.RandomState(0), lambda held: held.rand()),
    "a random.Random": (lambda: random.Random(0), lambda held: held.random()),
    "generators in a dict": (lambda: {"a": random.Random(0)}, lambda held: held["a"].random()),
}


@pytest.mark.parametrize("make, change", CASES.values(), ids=CASES)
def test_what_a_model_keeps_about_itself_is_put_back(make: Callable[[], Any], change: Callable[[Any], object]) -> None:
    held = make()
    before = view(held)
    net = Net(held, change)
    sweep(net)
    assert net.held is held
    assert view(held) == before


def test_a_criterion_that_is_no_module_is_put_back() -> None:
    class Weighted:
        def __init__(self) -> None:
            self.calls, self.scale = 0, torch.ones(())

        def __call__(self, output: Tensor, target: Tensor) -> Tensor:
            self.calls += 1
            self.scale *= 1.1
            return nn.functional.cross_entropy(output, target) * self.scale

    criterion = Weighted()
    sweep(mlp(), criterion)
    assert criterion.calls == 0 and criterion.scale.item() == 1.0


# --- modules ----------------------------------------------------------------------------------------------------------


def registries(model: nn.Module) -> dict[str, Any]:
    """Names and identities of all that the modules hold, their hooks included."""
    found: dict[str, Any] = {}
    for name, module in model.named_modules():
        found[name] = type(module), sorted(vars(module))
        for key, value in vars(module).items():
            if isinstance(value, dict):
                found[f"{name}.{key}"] = {each: id(item) for each, item in value.items()}
    return found


def with_pruning(net: nn.Sequential) -> None:
    prune.random_unstructured(net[0], "weight", amount=0.3)  # type: ignore[no-untyped-call]


def with_old_weight_norm(net: nn.Sequential) -> None:
    nn.utils.weight_norm(net[0])


def with_old_spectral_norm(net: nn.Sequential) -> None:
    nn.utils.spectral_norm(net[0])


def with_new_norms(net: nn.Sequential) -> None:
    nn.utils.parametrizations.weight_norm(net[0])
    nn.utils.parametrizations.spectral_norm(net[2])


WRAPPED = [with_pruning, with_old_weight_norm, with_old_spectral_norm, with_new_norms]


@pytest.mark.parametrize("wrap", WRAPPED, ids=lambda wrap: wrap.__name__)
def test_weights_made_anew_in_a_hook_are_put_back(wrap: Callable[[nn.Sequential], None]) -> None:
    torch.manual_seed(0)
    net = mlp()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrap(net)
    before = plain(net.state_dict()), plain(net[0].weight), registries(net)
    sweep(net)
    assert (plain(net.state_dict()), plain(net[0].weight), registries(net)) == before


class Lazy(nn.Module):
    """Builds a part of itself in its first forward pass."""

    def __init__(self, build: Callable[[Lazy], None]) -> None:
        super().__init__()
        self.body = mlp()
        self.built = False
        self.build = build

    def forward(self, inputs: Tensor) -> Tensor:
        if not self.built:
            self.build(self)
            self.built = True
        return self.body(inputs)  # type: ignore[no-any-return]


BUILDS: dict[str, Callable[[Lazy], object]] = {
    "a buffer": lambda net: net.register_buffer("scale", torch.rand(3)),
    "a buffer that is not saved": lambda net: net.register_buffer("scale", torch.rand(3), persistent=False),
    "a parameter": lambda net: net.register_parameter("gain", nn.Parameter(torch.rand(3))),
    "a module": lambda net: net.add_module("head", nn.Linear(3, 3)),
    "a module in a Sequential": lambda net: net.body.add_module("more", nn.Linear(3, 3)),
    "an exchanged module": lambda net: net.body.__setitem__(0, nn.Linear(6, 16)),
    "an exchanged parameter": lambda net: setattr(net.body[2], "bias", nn.Parameter(torch.rand(3))),
    "a removed parameter": lambda net: setattr(net.body[2], "bias", None),
    "a hook": lambda net: net.body[0].register_forward_hook(lambda module, inputs, output: output * 2),
    "an attribute of a torch module": lambda net: setattr(net.body[0], "calls", 1),
    "an attribute of a parameter": lambda net: setattr(net.body[0].weight, "calls", 1),
    "a parametrisation": lambda net: nn.utils.parametrizations.weight_norm(net.body[0]),
    "pruning": lambda net: prune.random_unstructured(net.body[0], "weight", amount=0.3),
    "another class": lambda net: setattr(net.body[1], "__class__", nn.Tanh),
    "another precision": lambda net: net.body.double() and net.body.float(),
    "frozen weights": lambda net: net.body[0].requires_grad_(False),
}


@pytest.mark.parametrize("build", BUILDS.values(), ids=BUILDS)
def test_what_the_first_forward_pass_builds_is_removed_again(build: Callable[[Lazy], None]) -> None:
    torch.manual_seed(0)
    net = Lazy(build)
    before = registries(net), list(net.state_dict()), [each.requires_grad for each in net.parameters()]
    attributes = [dict(vars(parameter)) for parameter in net.parameters()]
    sweep(net)
    assert (registries(net), list(net.state_dict()), [each.requires_grad for each in net.parameters()]) == before
    assert [dict(vars(parameter)) for parameter in net.parameters()] == attributes
    assert not net.built


def test_a_tensor_kept_on_a_parameter_is_put_back() -> None:
    net = Net(None, lambda held: None)
    weight: Any = net.body[0].weight
    weight.average = torch.zeros(2)
    net.change = lambda held: weight.average.add_(1)
    sweep(net)
    assert weight.average.tolist() == [0.0, 0.0]


def test_unfrozen_weights_are_frozen_again() -> None:
    net = Net(None, lambda held: None)
    net.body[0].requires_grad_(False)
    net.change = lambda held: net.body[0].requires_grad_(True)
    sweep(net)
    assert [each.requires_grad for each in net.parameters()] == [False, False, True, True]


def test_a_scripted_model_is_put_back() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = torch.jit.script(nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)))
    net.eval()
    before = plain(net.state_dict())
    sweep(net)
    assert plain(net.state_dict()) == before
    assert not any(module.training for module in net.modules())


@pytest.mark.parametrize("register", ["register_hook", "register_post_accumulate_grad_hook"])
def test_hooks_on_parameters_are_removed_again_and_former_ones_stay(register: str) -> None:
    net = Net(None, lambda held: None)
    calls: list[str] = []
    weight = net.body[0].weight
    getattr(weight, register)(lambda *_: calls.append("former"))
    net.change = lambda held: getattr(weight, register)(lambda *_: calls.append("later"))
    sweep(net)
    net.change = lambda held: None
    calls.clear()
    net(torch.ones(1, 6)).sum().backward()
    assert calls == ["former"]


def test_a_loss_function_with_a_counter_is_put_back() -> None:
    class Loss:
        calls = 0

        def __call__(self, model: nn.Module, batch: Any) -> Tensor:
            self.calls += 1
            return nn.functional.cross_entropy(model(batch[0]), batch[1])

    net, loss = mlp(), Loss()
    LRFinder(net, sgd(net), loss_fn=loss).range_test(loader(), **SWEEP)
    assert loss.calls == 0


class Counting:
    """Counts calls in its class."""

    count = 0

    def __call__(self) -> None:
        type(self).count += 1


def test_a_counter_of_a_class_is_put_back_also_where_it_is_inherited() -> None:
    class Inheriting(Counting):
        pass

    for counter in (Counting(), Inheriting()):
        sweep(Net(counter, lambda held: held()))
        assert counter.count == 0
    assert "count" not in vars(Inheriting)


# --- bounds -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["list", "dict"])
def test_a_large_container_is_not_walked_but_its_length_is_put_back(kind: str) -> None:
    items = [SimpleNamespace(count=0) for _ in range(MOST_ITEMS + 1)]
    held: Any = items if kind == "list" else {str(index): item for index, item in enumerate(items)}

    def change(held: Any) -> None:
        items[0].count += 1
        held.append(1) if kind == "list" else held.__setitem__(object(), 1)

    sweep(Net(held, change))
    assert items[0].count > 0
    assert len(held) == MOST_ITEMS + 1


@pytest.mark.parametrize("length", [3, MOST_ITEMS + 1, 100_001])
def test_data_that_a_sampler_of_the_model_draws_from_lose_what_they_gained(length: int) -> None:
    class Points(list[int], Dataset[int]):  # type: ignore[misc]
        pass

    data = Points(range(length))
    state_after(lambda: data.append(1), of(Net(RandomSampler(data), id)))
    assert len(data) == length


def test_many_small_containers_are_walked_to_a_limit_and_all_weights() -> None:
    width = MOST_WALKED // (MOST_ITEMS - 1) + 1
    rows = [[SimpleNamespace(count=0) for _ in range(width)] for _ in range(MOST_ITEMS - 1)]
    items = [item for row in rows for item in row]

    def change(held: Any) -> None:
        for item in items:
            item.count = 1

    net = Net(rows, change)
    net.body = nn.Sequential(nn.Sequential(net.body))
    before = plain(net.state_dict())
    sweep(net)
    assert 0 < sum(item.count == 0 for item in items) < MOST_WALKED
    assert plain(net.state_dict()) == before


def test_a_data_set_is_data_and_not_state() -> None:
    class Data(Dataset[int]):
        def __init__(self) -> None:
            self.large = torch.zeros(2**19)  # of 2 MiB, which no data set puts back

    net = Net(Data(), lambda held: held.large.add_(1))
    sweep(net)
    assert bool((net.held.large > 0).all())


def test_a_model_that_is_its_own_data_set_is_put_back() -> None:
    class Both(Net, Dataset[Any]):
        def __len__(self) -> int:
            return 8

        def __getitem__(self, index: int) -> Any:
            return torch.ones(6), index % 3

    net = Both([0], lambda held: held.append(1))
    before = plain(net.state_dict())
    LRFinder(net, sgd(net), nn.CrossEntropyLoss()).range_test(DataLoader(net, batch_size=4), **SWEEP)
    assert plain(net.state_dict()) == before
    assert net.held == [0]


def test_a_finder_that_the_model_holds_keeps_its_curve() -> None:
    net = Net(None, lambda held: None)
    net.held = LRFinder(net, sgd(net), nn.CrossEntropyLoss())
    net.held.range_test(loader(), **SWEEP)
    assert net.held.last_curve is not None


def test_an_optimizer_with_any_number_of_tensors_is_put_back() -> None:
    net = mlp()
    extra = [nn.Parameter(torch.zeros(1)) for _ in range(10_500)]
    optimizer = torch.optim.SGD([*net.parameters(), *extra], lr=0.1, momentum=0.9, foreach=False)
    before = plain(optimizer.state_dict()["state"])
    sweep(net, optimizer=optimizer)
    assert plain(optimizer.state_dict()["state"]) == before
    assert len(optimizer.param_groups[0]["params"]) == 10_504


class Averaging:
    """Around an optimizer whose groups it has, with a state of its own, as schedule-free wrappers."""

    def __init__(self, base: torch.optim.Optimizer) -> None:
        self.base = base
        self.state = {each: {"steps": []} for group in base.param_groups for each in group["params"]}

    @property
    def param_groups(self) -> Any:
        return self.base.param_groups

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.base.zero_grad(set_to_none)

    def step(self) -> None:
        self.base.step()
        for state in self.state.values():
            state["steps"].append(1.0)


@pytest.mark.parametrize("extra", [0, 10_500])
def test_the_state_of_an_optimizer_around_another_is_put_back(extra: int) -> None:
    net = mlp()
    parameters = [*net.parameters(), *(nn.Parameter(torch.zeros(1)) for _ in range(extra))]
    optimizer = Averaging(torch.optim.SGD(parameters, lr=0.1, foreach=False))
    sweep(net, optimizer=optimizer)
    assert len(optimizer.state) == len(parameters)
    assert not any(state["steps"] for state in optimizer.state.values())


def test_a_deep_chain_of_objects_is_no_recursion() -> None:
    chain: Any = None
    for _ in range(5_000):
        chain = SimpleNamespace(inner=chain, count=0)

    def change(held: Any) -> None:
        held.inner.inner.count += 1

    net = Net(chain, change)
    sweep(net)
    assert net.held.inner.inner.count == 0


# --- what is not built as torch builds it -----------------------------------------------------------------------------


def state_after(change: Callable[[], object], setup: TrainingSetup) -> None:
    with preserved(setup) as snapshot:
        change()
        snapshot.rewind()
        change()


def of(model: nn.Module, optimizer: Any = None, **options: Any) -> TrainingSetup:
    return TrainingSetup(model, optimizer or sgd(model), nn.CrossEntropyLoss(), **options)


def test_a_list_of_a_grad_scaler_is_put_back_as_that_of_a_model_is() -> None:
    class Dynamic(torch.amp.GradScaler):
        def __init__(self) -> None:
            super().__init__("cpu", enabled=False)
            self.scales: list[float] = [1.0]

    scaler = Dynamic()
    state_after(lambda: scaler.scales.append(2.0), of(mlp(), grad_scaler=scaler))
    assert scaler.scales == [1.0]


def test_a_model_may_call_an_attribute_as_torch_calls_a_method() -> None:
    class Agent(nn.Sequential):
        def __init__(self) -> None:
            super().__init__(mlp())
            self.buffers = [torch.zeros(1)]  # type: ignore[assignment]  # its replay buffers

    agent = Agent()
    state_after(lambda: agent.buffers[0].add_(1), of(agent))  # type: ignore[index]
    assert plain(agent.buffers) == plain([torch.zeros(1)])


def test_what_a_wrapper_of_ones_own_class_refers_to_is_put_back() -> None:
    class Averaged(nn.DataParallel[nn.Module]):
        def __init__(self) -> None:
            super().__init__(mlp())
            self.held = Steps()

    model = Averaged()
    state_after(model.held.add, of(model))
    assert view(model.held) == view(Steps()) and model.held.inner.seen == []


def test_the_state_that_a_dict_of_an_optimizer_keeps_elsewhere_is_put_back() -> None:
    class Joined(dict[Any, Any]):
        inner: dict[Any, Any]

        def values(self) -> Any:
            return self.inner.values()

    optimizer, state = sgd(model := mlp()), Joined()
    state.inner, optimizer.state = {"of": {"steps": 0, "mean": torch.zeros(1)}}, state  # type: ignore[assignment]

    def change() -> None:
        state.inner["of"]["steps"] += 1
        state.inner["of"]["mean"] += 1

    state_after(change, of(model, optimizer))
    assert plain(state.inner) == plain({"of": {"steps": 0, "mean": torch.zeros(1)}})


class SlottedOptimizer:
    """An optimizer around another one, without a dict."""

    __slots__ = ("__weakref__", "base", "slow")

    def __init__(self, base: torch.optim.Optimizer) -> None:
        self.base, self.slow = base, [torch.zeros(1)]

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return self.base.param_groups

    @property
    def state(self) -> Any:
        return self.base.state

    def zero_grad(self) -> None:
        self.base.zero_grad()

    def step(self) -> None:
        self.base.step()
        self.slow[0] += 1
        self.slow.append(torch.ones(1))


def test_what_the_slots_of_an_optimizer_refer_to_is_put_back() -> None:
    model = mlp()
    optimizer = SlottedOptimizer(sgd(model))
    state_after(optimizer.step, of(model, optimizer))
    assert plain(optimizer.slow) == plain([torch.zeros(1)])


def test_what_the_slots_of_a_list_refer_to_are_put_back() -> None:
    class Bank(list[int]):
        __slots__ = ("mean",)

    bank = Bank([1])
    bank.mean = torch.zeros(1)  # type: ignore[attr-defined]
    state_after(lambda: bank.mean.add_(1), of(Net(bank, id)))  # type: ignore[attr-defined]
    assert plain(bank.mean) == plain(torch.zeros(1))  # type: ignore[attr-defined]


def test_an_object_may_name_its_parameter_groups() -> None:
    class Schedule:
        def __init__(self) -> None:
            self.param_groups = {"body": [0.1]}

        def step(self) -> None:
            self.param_groups["body"].append(0.2)

    schedule = Schedule()
    state_after(schedule.step, of(Net(schedule, id)))
    assert schedule.param_groups == {"body": [0.1]}


@pytest.mark.parametrize("own", [True, False])
def test_a_view_that_a_step_put_into_the_graph_is_taken_out_of_it(own: bool) -> None:
    model, bank = mlp(), torch.zeros(3)
    first = bank[0]
    losses = [first] if own else []

    def loss_fn(model: Any, batch: Any) -> Tensor:
        return first.add_(model(batch[0]).sum())

    loss_fn.losses = losses  # type: ignore[attr-defined]
    batch = next(iter(loader()))
    model.losses = losses  # type: ignore[assignment]
    state_after(lambda: loss_fn(model, batch), TrainingSetup(model, sgd(model), loss_fn=loss_fn))
    assert plain(bank) == plain(torch.zeros(3)) and not bank.requires_grad and not first.requires_grad
    first.add_(1)
    assert bank[0] == 1


def test_the_class_of_an_object_is_read_without_its_own_code() -> None:
    class Strict(type):
        def __getattr__(cls, name: str) -> Any:
            raise RuntimeError(f"no setting is named {name}")

    class Settings(metaclass=Strict):
        def __init__(self) -> None:
            self.count = 0

    settings = Settings()
    state_after(lambda: setattr(settings, "count", settings.count + 1), of(Net(settings, id)))
    assert settings.count == 0


def test_a_long_list_in_the_state_of_an_optimizer_is_put_back() -> None:
    model = mlp()
    optimizer = sgd(model)
    counts, rows = [0] * (MOST_ITEMS + 1), {"rows": deque([0] * (MOST_ITEMS + 1))}
    optimizer.state[next(model.parameters())] = {"counts": counts, "inner": rows}

    def change() -> None:
        counts[5] += 1
        rows["rows"][5] += 1

    state_after(change, of(model, optimizer))
    assert counts[5] == rows["rows"][5] == 0


def test_a_large_sampler_that_a_model_refers_to_is_put_back() -> None:
    class Prioritised(Sampler[int]):
        def __init__(self) -> None:
            self.weights = torch.zeros(2**19)

    sampler = Prioritised()
    state_after(lambda: sampler.weights.add_(1), of(Net(sampler, id)))
    assert not sampler.weights.any()
