"""The stock torch schedulers that recipes build and print, step by step against the recipe's own numbers."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim import lr_scheduler

from lrfinder.errors import ConfigError, SetupError
from lrfinder.param_groups import group_scales
from lrfinder.recipes import Recipe, recipe
from lrfinder.schedules.build import build
from lrfinder.schedules.specs import Sequential
from lrfinder.tables.kinds import KIND_TABLE, KINDS

torch.set_num_threads(1)

EPOCHS, BATCHES = 4, 15
TOTAL = EPOCHS * BATCHES
PER_EPOCH = [kind for kind, row in KIND_TABLE.items() if row.unit != "step"]
kinds = pytest.mark.parametrize("kind", KINDS)
STOCK = {
    "onecycle": "OneCycleLR",
    "cosine": "CosineAnnealingLR",
    "step": "StepLR",
    "multistep": "MultiStepLR",
    "exponential": "ExponentialLR",
    "linear": "LinearLR",
    "plateau": "ReduceLROnPlateau",
    "cyclic": "CyclicLR",
    "restarts": "CosineAnnealingWarmRestarts",
    "wsd": "SequentialLR",
    "constant": "ConstantLR",
}


def make(kind: str, **changes: Any) -> Recipe:
    return recipe(kind, **{"peak_lr": 0.03, "epochs": EPOCHS, "steps_per_epoch": BATCHES, **changes})


def sgd(*lrs: Any, momentum: float = 0.9) -> torch.optim.Optimizer:
    groups = [{"params": [nn.Parameter(torch.ones(2))], "lr": lr} for lr in lrs or (1.0,)]
    return torch.optim.SGD(groups, lr=1.0, momentum=momentum)


def advance(scheduler: Any, t: int) -> None:
    """What one turn of a training loop does to the scheduler; the loss of a plateau falls all the time."""
    scheduler.optimizer.step()
    if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau):
        scheduler.step(1.0 / (t + 1))
    else:
        scheduler.step()


def states(scheduler: Any, turns: int) -> list[list[tuple[float, Any]]]:
    """LR and momentum of every group before each turn and after the last."""
    seen = []
    for t in range(turns + 1):
        seen.append([(float(g["lr"]), g.get("momentum", g.get("betas"))) for g in scheduler.optimizer.param_groups])
        if t < turns:
            advance(scheduler, t)
    return seen


def check_twins(one: Recipe, optimizer: torch.optim.Optimizer, rel: float = 1e-9) -> None:
    """The first group follows ``lr_at`` and ``momentum_at``, from ``build`` to the last legal call."""
    scheduler = one.build(optimizer)
    group = optimizer.param_groups[0]
    for t in range((one.total_steps or TOTAL) + 1):
        assert float(group["lr"]) == pytest.approx(one.lr_at(t), rel=rel, abs=rel * one.peak_lr), t
        assert float(scheduler.get_last_lr()[0]) == float(group["lr"])
        momentum = one.momentum_at(t)
        if momentum is not None:
            assert (group["betas"][0] if "betas" in group else group["momentum"]) == pytest.approx(momentum)
        if t < (one.total_steps or TOTAL):
            advance(scheduler, t)


@kinds
def test_the_recipe_gives_the_lr_of_the_scheduler_at_every_step(kind: str) -> None:
    check_twins(make(kind), sgd())


@pytest.mark.parametrize("kind", PER_EPOCH)
def test_the_same_holds_per_epoch(kind: str) -> None:
    check_twins(recipe(kind, peak_lr=0.1, epochs=30), sgd())


@kinds
@settings(max_examples=25, deadline=None)
@given(total=st.integers(4, 150), peak=st.floats(1e-6, 10.0), data=st.data())
def test_the_same_holds_for_any_length_peak_and_warmup(kind: str, total: int, peak: float, data: st.DataObject) -> None:
    options: dict[str, Any] = {"total_steps": total}
    if KIND_TABLE[kind].warmup:
        highest = total // 2 - 1 if kind in ("multistep", "wsd") else total - 1
        options["warmup_steps"] = data.draw(st.integers(0, highest))
    check_twins(recipe(kind, peak_lr=peak, **options), sgd())


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("onecycle", {"pct_start": 0.1, "div_factor": 10, "final_div_factor": 100, "base_momentum": 0.8}),
        ("onecycle", {"cycle_momentum": False}),
        ("cosine", {"eta_min": 0.001, "warmup_factor": 0.1}),
        ("linear", {"end_factor": 0.25}),
        ("step", {"step_size": 7, "gamma": 0.5}),
        ("multistep", {"milestones": [10, 11, 40], "gamma": 0.3}),
        ("exponential", {"gamma": 0.97}),
        ("cyclic", {"mode": "triangular", "step_size_up": 4, "base_factor": 0.1, "max_momentum": 0.99}),
        ("restarts", {"T_0": 6, "T_mult": 3, "eta_min": 0.002}),
        ("restarts", {"T_mult": 1}),
        ("wsd", {"cooldown_steps": 40, "warmup_steps": 20}),
        ("wsd", {"cooldown_steps": 60, "warmup_steps": 0}),
        ("constant", {"warmup_steps": 30}),
    ],
)
def test_the_same_holds_for_every_option(kind: str, options: dict[str, Any]) -> None:
    one = make(kind, **options)
    check_twins(one, sgd())
    check_code(one, sgd)


def test_plateau_drops_by_its_factor_after_its_patience_to_min_factor() -> None:
    one = recipe("plateau", peak_lr=0.1, epochs=30, factor=0.1, patience=2, cooldown=0, min_factor=0.02)
    optimizer = sgd(1.0, 2.0)
    scheduler: Any = one.build(optimizer)
    seen = []
    for _ in range(9):
        optimizer.step()
        scheduler.step(1.0)
        seen.append([group["lr"] for group in optimizer.param_groups])
    assert seen[2] == pytest.approx([0.1, 0.2])
    assert seen[3] == pytest.approx([0.01, 0.02])
    assert seen[8] == pytest.approx([0.002, 0.004])


@pytest.mark.parametrize("peak", [0.1, 1e-5, 1e-9])
def test_plateau_drops_any_lr_and_keeps_the_ratio_of_groups(peak: float) -> None:
    optimizer = sgd(1.0, 0.01)
    scheduler: Any = recipe("plateau", peak_lr=peak, epochs=30, factor=0.1, patience=0, cooldown=0).build(optimizer)
    for drops in range(5):
        scheduler.step(1.0)
        expected = peak * max(0.1**drops, 0.001)
        assert scheduler.get_last_lr() == pytest.approx([expected, 0.01 * expected], rel=1e-9, abs=0.0)


@kinds
def test_groups_that_hold_one_tensor_follow_the_recipe(kind: str) -> None:
    lr = torch.tensor(1.0)  # as of AdamW([{"params": decayed}, {"params": others}], lr=torch.tensor(1e-3))
    optimizer = sgd(lr, lr)
    options: dict[str, Any] = {"patience": 0, "cooldown": 0, "factor": 0.5} if kind == "plateau" else {}
    one = make(kind, **options)
    scheduler: Any = one.build(optimizer)
    optimizer.step()
    for _ in range(2):
        scheduler.step(*([1.0] if options else []))
    expected = 0.5 * one.peak_lr if options else one.lr_at(2)
    assert [float(group["lr"]) for group in optimizer.param_groups] == pytest.approx([expected] * 2)
    assert optimizer.param_groups[0]["lr"] is lr


@pytest.mark.parametrize("lrs", [(1.0,), (1.0, 1.0)], ids=str)
def test_plateau_goes_on_with_a_group_added_later(lrs: tuple[float, ...]) -> None:
    optimizer = sgd(*lrs)
    scheduler: Any = recipe("plateau", peak_lr=0.1, epochs=30, patience=0, cooldown=0, factor=0.5).build(optimizer)
    optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2))], "lr": 0.2})
    optimizer.step()
    for _ in range(2):
        scheduler.step(1.0)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([*[0.05] * len(lrs), 0.1])


@kinds
def test_a_stock_scheduler_is_built(kind: str) -> None:
    options = {"warmup_steps": 0} if KIND_TABLE[kind].warmup else {}
    scheduler = make(kind, **options).build(sgd())
    assert type(scheduler) is getattr(lr_scheduler, STOCK[kind])
    if options and kind != "wsd":
        assert type(make(kind, warmup_steps=3).build(sgd())) is lr_scheduler.SequentialLR


@kinds
@pytest.mark.parametrize("lrs", [(1.0, 0.1), (0.0, 0.5, 2.0), (0.25, 0.0)], ids=str)
def test_parameter_groups_keep_their_ratio_at_every_step(kind: str, lrs: tuple[float, ...]) -> None:
    one = make(kind)
    optimizer = sgd(*lrs)
    reference = next(i for i, lr in enumerate(lrs) if lr)
    for t, groups in enumerate(states(one.build(optimizer), TOTAL if kind != "plateau" else EPOCHS)):
        expected = [one.lr_at(t) * lr / lrs[reference] for lr in lrs]
        assert [lr for lr, _ in groups] == pytest.approx(expected, rel=1e-9, abs=1e-12)


@kinds
def test_the_reference_group_starts_at_the_first_lr_whatever_it_had(kind: str) -> None:
    for before in (1e-7, 0.1, 0.3, 7.0, 0.0):
        one, optimizer = make(kind), sgd(before)
        one.build(optimizer)
        assert optimizer.param_groups[0]["lr"] == pytest.approx(one.lr_at(0), rel=1e-15)


@kinds
def test_a_tensor_lr_is_filled_in_place(kind: str) -> None:
    lr = torch.tensor(1.0)
    optimizer = sgd(lr)
    check_twins(make(kind), optimizer, rel=1e-4)
    assert optimizer.param_groups[0]["lr"] is lr


@kinds
@pytest.mark.parametrize("earlier", KINDS)
def test_what_an_earlier_scheduler_left_behind_changes_nothing(kind: str, earlier: str) -> None:
    optimizer = sgd(1.0, 0.1)
    states(make(earlier, peak_lr=0.7).build(optimizer), EPOCHS)
    for group in optimizer.param_groups:
        group["lr"] *= 3
    fresh = sgd(1.0, 0.1)
    again = [[lr for lr, _ in groups] for groups in states(make(kind).build(optimizer), EPOCHS)]
    first = [[lr for lr, _ in groups] for groups in states(make(kind).build(fresh), EPOCHS)]
    for now, then in zip(again, first, strict=True):
        assert now == pytest.approx(then, rel=1e-9)


@kinds
def test_groups_keep_their_ratio_after_a_schedule_down_to_zero(kind: str) -> None:
    optimizer = sgd(1.0, 0.1)
    states(make("cosine", eta_min=0.0).build(optimizer), TOTAL)
    assert [group["lr"] for group in optimizer.param_groups] == [0.0, 0.0]
    one = make(kind)
    one.build(optimizer)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([one.lr_at(0), 0.1 * one.lr_at(0)])


OPTIMIZERS: dict[str, tuple[Callable[[Any], torch.optim.Optimizer], bool]] = {
    "SGD": (lambda p: torch.optim.SGD(p, lr=0.1), False),
    "SGD momentum": (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), True),
    "SGD nesterov": (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True), True),
    "SGD one group without": (
        lambda p: torch.optim.SGD([{"params": p, "momentum": 0.0}], lr=0.1, momentum=0.9),
        False,
    ),
    "Adam": (lambda p: torch.optim.Adam(p), True),
    "Adam without beta1": (lambda p: torch.optim.Adam(p, betas=(0.0, 0.99)), False),
    "AdamW": (lambda p: torch.optim.AdamW(p), True),
    "NAdam": (lambda p: torch.optim.NAdam(p), True),
    "RMSprop": (lambda p: torch.optim.RMSprop(p), False),
    "RMSprop momentum": (lambda p: torch.optim.RMSprop(p, momentum=0.5), True),
    "Adagrad": (lambda p: torch.optim.Adagrad(p), False),
    "Adadelta": (lambda p: torch.optim.Adadelta(p), False),
    "Adafactor": (lambda p: torch.optim.Adafactor(p), False),
    "Rprop": (lambda p: torch.optim.Rprop(p), False),
    "ASGD": (lambda p: torch.optim.ASGD(p), False),
}


@pytest.mark.parametrize("kind", ["onecycle", "cyclic"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_momentum_is_cycled_only_where_there_is_one(kind: str, name: str) -> None:
    factory, cycled = OPTIMIZERS[name]

    def optimizer() -> torch.optim.Optimizer:
        return factory([nn.Parameter(torch.ones(2))])

    plain = optimizer().param_groups[0]
    scheduler: Any = make(kind).build(optimizer())
    group = scheduler.optimizer.param_groups[0]
    momentums = {tuple(group.get("betas", [group.get("momentum")])[:1])}
    for t in range(TOTAL):
        advance(scheduler, t)
        momentums.add(tuple(group.get("betas", [group.get("momentum")])[:1]))
    assert scheduler.cycle_momentum is cycled
    assert make(kind, cycle_momentum=True).build(optimizer()).cycle_momentum is cycled  # type: ignore[attr-defined]
    assert make(kind, cycle_momentum=False).build(optimizer()).cycle_momentum is False  # type: ignore[attr-defined]
    if cycled:
        assert len(momentums) > 3
        assert group.get("betas", (0, 0))[1:] == plain.get("betas", (0, 0))[1:]
    else:
        assert momentums == {tuple(plain.get("betas", [plain.get("momentum")])[:1])}
    check_code(make(kind), optimizer)
    check_code(make(kind, cycle_momentum=cycled), optimizer)


@pytest.mark.parametrize("kind", ["onecycle", "cyclic"])
def test_a_momentum_that_is_in_the_groups_alone_is_not_cycled(kind: str) -> None:
    optimizer = sgd()
    del optimizer.defaults["momentum"]  # where torch looks for it
    scheduler: Any = make(kind).build(optimizer)
    assert scheduler.cycle_momentum is False
    assert optimizer.param_groups[0]["momentum"] == 0.9


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("plateau", "constant")])
def test_total_steps_calls_of_step_are_allowed(kind: str) -> None:
    scheduler = make(kind).build(sgd())
    states(scheduler, TOTAL)
    if kind == "onecycle":
        with pytest.raises(ValueError, match="Tried to step"):
            scheduler.step()


@kinds
def test_a_checkpoint_continues_where_it_was_saved(kind: str) -> None:
    turns = TOTAL if kind != "plateau" else EPOCHS
    whole = states(make(kind).build(sgd(1.0, 0.1)), turns)
    for stop in (0, 1, 3, turns // 2):
        scheduler: Any = make(kind).build(sgd(1.0, 0.1))
        for t in range(stop):
            advance(scheduler, t)
        saved = pickle.dumps((scheduler.state_dict(), scheduler.optimizer.state_dict()))

        resumed: Any = make(kind).build(sgd(1.0, 0.1))
        of_scheduler, of_optimizer = pickle.loads(saved)
        resumed.load_state_dict(of_scheduler)
        resumed.optimizer.load_state_dict(of_optimizer)
        resumed.optimizer.step()  # torch warns unless the optimizer steps before the scheduler does
        assert states(resumed, turns - stop) == whole[stop:]


def run(code: str, optimizer: torch.optim.Optimizer, model: nn.Module) -> list[list[tuple[float, Any]]]:
    """Execute pasted lines; returns LR and momentum of every group before each update and after the last."""
    seen: list[list[tuple[float, Any]]] = []

    def note(*_: Any) -> None:
        seen.append([(float(g["lr"]), g.get("momentum", g.get("betas"))) for g in optimizer.param_groups])

    hook = optimizer.register_step_pre_hook(note)
    loader = [(torch.randn(4, 3), torch.randn(4, 2)) for _ in range(BATCHES)]
    space: dict[str, Any] = {
        "model": model,
        "optimizer": optimizer,
        "criterion": nn.functional.mse_loss,
        "train_loader": loader,
    }
    exec(compile(code, "pasted", "exec"), space)
    hook.remove()
    note()
    return seen


def check_code(one: Recipe, optimizer: Callable[[], torch.optim.Optimizer]) -> None:
    """The printed lines give each update the LR and momentum that the built scheduler gives it."""
    pasted = optimizer()
    one = replace(one, group_scales=group_scales(pasted))
    for group in pasted.param_groups:
        group["lr"] = 123.0  # the lines do not read the LR
    seen = run(one.code(), pasted, nn.Linear(3, 2))
    # A loop of open length runs for 10 epochs. Neither is long enough for a plateau to lose its patience.
    built = states(one.build(optimizer()), one.total_steps or (10 * BATCHES if one.interval == "step" else 10))
    if one.interval == "epoch":
        built = [state for state in built[:-1] for _ in range(BATCHES)] + built[-1:]
    for now, then in zip(seen, built, strict=True):
        assert [lr for lr, _ in now] == pytest.approx([lr for lr, _ in then], rel=1e-12, abs=1e-15)
        assert [momentum for _, momentum in now] == [momentum for _, momentum in then]


LENGTHS: list[tuple[dict[str, Any], list[str]]] = [
    ({"epochs": EPOCHS, "steps_per_epoch": BATCHES}, list(KINDS)),
    ({"total_steps": 37}, list(KINDS)),
    ({"epochs": EPOCHS}, PER_EPOCH),
    ({}, [kind for kind, row in KIND_TABLE.items() if not row.needs_length]),
]


@pytest.mark.parametrize(("kind", "length"), [(kind, length) for length, group in LENGTHS for kind in group], ids=str)
@pytest.mark.parametrize("lrs", [(0.5,), (1.0, 0.1), (0.0, 0.3, 0.7)], ids=str)
def test_the_lines_to_paste_run_and_give_what_build_gives(
    kind: str, length: dict[str, Any], lrs: tuple[float, ...]
) -> None:
    check_code(recipe(kind, peak_lr=0.03, **length), lambda: sgd(*lrs))


@kinds
def test_the_lines_to_paste_train_a_real_model(kind: str) -> None:
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    before = copy.deepcopy(model.state_dict())
    run(make(kind).code(), torch.optim.AdamW(model.parameters(), lr=5.0), model)
    assert not torch.equal(before["weight"], model.weight)


@kinds
@pytest.mark.parametrize("earlier", ["onecycle", "cosine", "plateau"])
def test_the_lines_to_paste_can_be_run_again_with_another_peak(kind: str, earlier: str) -> None:
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(
        [{"params": [model.weight], "lr": 1.0}, {"params": [model.bias], "lr": 0.1}], lr=1.0, momentum=0.9
    )
    scales = group_scales(optimizer)
    run(make(earlier, peak_lr=0.7, group_scales=scales).code(), optimizer, model)
    for peak_lr in (0.03, 0.01):
        one = make(kind, peak_lr=peak_lr, group_scales=scales)
        for t, groups in enumerate(run(one.code(), optimizer, model)):
            if kind != "plateau":
                assert [lr for lr, _ in groups] == pytest.approx([one.lr_at(t), 0.1 * one.lr_at(t)], abs=1e-15)
            elif t == 0:
                assert [lr for lr, _ in groups] == pytest.approx([peak_lr, 0.1 * peak_lr])


@kinds
def test_the_lines_to_paste_accept_an_lr_held_in_a_tensor(kind: str) -> None:
    lr = torch.tensor(0.5)
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    one = make(kind)
    seen = run(one.code(), optimizer, model)
    assert seen[0][0][0] == pytest.approx(one.lr_at(0), rel=1e-6)
    assert max(groups[0][0] for groups in seen) == pytest.approx(0.03, rel=1e-4)
    # The plain number wins over the tensor where the lines set the LR themselves; build() fills the tensor.
    assert (optimizer.param_groups[0]["lr"] is lr) == (kind in ("onecycle", "cyclic"))


@kinds
def test_lines_for_another_number_of_groups_are_refused(kind: str) -> None:
    code = make(kind, group_scales=(1.0, 0.1)).code()
    for lrs in ((1.0,), (1.0, 0.1, 0.1)):
        with pytest.raises(ValueError, match=r"expected \d values|max_lr|base_lr|zip\(\) argument"):
            run(code, sgd(*lrs), nn.Linear(3, 2))
    run(code, sgd(1.0, 0.1), nn.Linear(3, 2))


@kinds
def test_build_takes_the_group_ratios_from_its_optimizer(kind: str) -> None:
    one = make(kind, group_scales=(1.0, 0.5, 0.25))
    optimizer = sgd(1.0, 0.1)
    one.build(optimizer)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([one.lr_at(0), 0.1 * one.lr_at(0)])


@pytest.mark.parametrize("kind", ["onecycle", "step", "multistep", "plateau", "restarts"])
def test_a_number_that_is_said_to_be_that_of_torch_is(kind: str) -> None:
    notes = recipe(kind, peak_lr=0.1, total_steps=None if kind == "plateau" else 100).notes
    pairs = [note.removesuffix(" (torch)").split("=") for note in notes if note.endswith(" (torch)")]
    parameters = inspect.signature(getattr(lr_scheduler, STOCK[kind])).parameters
    defaults = {name: parameters[name].default for name, _ in pairs}
    assert defaults == {name: type(defaults[name])(text) for name, text in pairs} != {}


@kinds
def test_arguments_left_out_of_the_lines_equal_torch_defaults(kind: str) -> None:
    spec = make(kind).spec
    for part in spec.parts if isinstance(spec, Sequential) else (spec,):
        parameters = inspect.signature(getattr(lr_scheduler, part.torch_class)).parameters
        assert {name: parameters[name].default for name in part.torch_defaults} == part.torch_defaults


def test_one_eta_min_for_groups_of_different_lr_is_refused() -> None:
    for kind in ("cosine", "restarts"):
        one = make(kind, eta_min=0.001)
        with pytest.raises(SetupError, match="take 'linear' with end_factor"):
            one.build(sgd(1.0, 0.1))
        with pytest.raises(ConfigError, match="take 'linear' with end_factor"):
            make(kind, eta_min=0.001, group_scales=(1.0, 0.1))
        one.build(sgd(1.0, 1.0))
        make(kind).build(sgd(1.0, 0.1))


def test_a_refused_optimizer_is_left_as_it_was() -> None:
    optimizer = sgd(1.0, 0.1)
    with pytest.raises(SetupError):
        make("cosine", eta_min=0.001).build(optimizer)
    assert [group["lr"] for group in optimizer.param_groups] == [1.0, 0.1]
    assert "initial_lr" not in optimizer.param_groups[0]


def test_something_that_is_no_optimizer_is_refused() -> None:
    with pytest.raises(SetupError, match=r"needs a torch.optim.Optimizer; got Linear"):
        build(make("cosine"), nn.Linear(1, 1))  # type: ignore[arg-type]
    build(make("cosine"), sgd())
