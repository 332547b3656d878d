"""Several optimizers of one training: swept by one factor, scheduled with their ratios, nothing left behind."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import matplotlib.pyplot as plt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from own_steps import SWEEP, FakeScaler, net, shuffled, state_of, step_of
from torch import Tensor, nn

from lrfinder import LRFinder, RangeTestResult, recipe
from lrfinder.errors import ConfigError, FileFormatError, SetupError
from lrfinder.param_groups import group_scales
from lrfinder.schedules import KINDS
from lrfinder.training.joint import JointOptimizer

WHOLE = {"start_lr": 1e-4, "end_lr": 10.0, "num_iter": 60}


def halves(
    model: nn.Module, kind: Any = torch.optim.SGD, lrs: Sequence[float] = (0.1, 0.4), **options: Any
) -> list[Any]:
    """An optimizer for the first layers and one for the last."""
    return [
        kind([*model[0].parameters(), *model[1].parameters()], lr=lrs[0], **options),
        kind(model[4].parameters(), lr=lrs[1], **options),
    ]


def grouped(model: nn.Module, kind: Any = torch.optim.SGD, lrs: Sequence[float] = (0.1, 0.4), **options: Any) -> Any:
    """One optimizer with the same groups."""
    groups = [[*model[0].parameters(), *model[1].parameters()], list(model[4].parameters())]
    return kind([{"params": each, "lr": lr} for each, lr in zip(groups, lrs, strict=True)], **options)


KINDS_OF: dict[str, tuple[Any, dict[str, Any]]] = {
    "SGD": (torch.optim.SGD, {"momentum": 0.9}),
    "Adam": (torch.optim.Adam, {}),
}
kinds = pytest.mark.parametrize(("kind", "options"), KINDS_OF.values(), ids=KINDS_OF)
UPDATES: dict[str, dict[str, Any]] = {
    "plain": {},
    "two batches": {"accumulation_steps": 2},
    "clipped": {"clip_grad_norm": 0.5},
    "bfloat16": {"amp_dtype": torch.bfloat16},
    "a scaler that skips": {"grad_scaler": FakeScaler(3)},
    "a scaler and clipping": {"grad_scaler": FakeScaler(0), "clip_grad_norm": 0.5},
}


# --- the same training ------------------------------------------------------------------------------------------------


@kinds
@pytest.mark.parametrize("lrs", [(0.1, 0.4), (0.0, 0.4), (0.1, 0.0)], ids=str)
@pytest.mark.parametrize("sweep", [SWEEP, {}], ids=["given range", "chosen range"])
def test_two_optimizers_are_as_two_groups_of_one(kind: Any, options: Any, lrs: Any, sweep: Any) -> None:
    results = []
    for build in (grouped, halves):
        model = net()
        finder = LRFinder(model, build(model, kind, lrs, **options), nn.CrossEntropyLoss())
        results.append(finder.range_test(shuffled(), **sweep))
    one, several = results
    assert several.curve.losses == one.curve.losses and several.curve.lrs == one.curve.lrs
    assert several.curve.group_scales == one.curve.group_scales
    numbers = [dataclasses.replace(each.advice, findings=(), reasons=()) for each in results]
    assert numbers[0] == numbers[1]  # the words name the optimizer of the reference group
    assert [each.code for each in several.advice.findings] == [each.code for each in one.advice.findings]
    assert (several.curve.optimizer, several.curve.momentum) == (one.curve.optimizer, one.curve.momentum)


@pytest.mark.parametrize("updates", UPDATES.values(), ids=UPDATES)
@pytest.mark.parametrize("sweep", [SWEEP, {}], ids=["given range", "chosen range"])
def test_each_way_to_update_is_that_of_one_optimizer(updates: dict[str, Any], sweep: Any) -> None:
    curves = []
    for build in (grouped, halves):
        model = net()
        finder = LRFinder(model, build(model), nn.CrossEntropyLoss(), **copy.deepcopy(updates))
        curves.append(finder.range_test(shuffled(), **sweep).curve)
    assert curves[0].losses == curves[1].losses and curves[0].lrs == curves[1].lrs
    assert curves[0].skipped == curves[1].skipped


def test_a_step_of_ones_own_is_the_same_training() -> None:
    curves = []
    for own in (False, True):
        model = net()
        optimizers = halves(model)
        step_fn = step_of(model, optimizers) if own else None
        finder = LRFinder(model, optimizers, None if own else nn.CrossEntropyLoss(), step_fn=step_fn)
        curves.append(finder.range_test(shuffled(), **SWEEP).curve)
    assert curves[0].losses == curves[1].losses


def test_a_list_of_one_is_that_optimizer() -> None:
    model = net()
    optimizer = grouped(model)
    finder = LRFinder(model, [optimizer], nn.CrossEntropyLoss())
    assert finder.optimizer is optimizer
    result = finder.range_test(shuffled(), **WHOLE)
    assert result.curve.facts is not None and result.curve.facts.optimizers is None
    assert result.recipe("cosine", total_steps=9).code() == plain_result().recipe("cosine", total_steps=9).code()


def plain_result() -> RangeTestResult:
    model = net()
    return LRFinder(model, grouped(model), nn.CrossEntropyLoss()).range_test(shuffled(), **WHOLE)


# --- no trace ---------------------------------------------------------------------------------------------------------


@kinds
@pytest.mark.parametrize("warm", [0, 3], ids=["fresh", "warm"])
@pytest.mark.parametrize("own", [False, True], ids=["criterion", "step_fn"])
@pytest.mark.parametrize("sweep", [SWEEP, {}], ids=["given range", "chosen range"])
def test_all_of_them_are_put_back(kind: Any, options: Any, warm: int, own: bool, sweep: Any) -> None:
    model, loader = net(), shuffled()
    optimizers = halves(model, kind, **options)
    schedulers = [torch.optim.lr_scheduler.StepLR(each, 100) for each in optimizers]
    step = step_of(model, optimizers)
    for batch in list(loader)[:warm]:
        step(batch)
    before = state_of(model, *optimizers, loader)
    finder = LRFinder(model, optimizers, None if own else nn.CrossEntropyLoss(), step_fn=step if own else None)
    result = finder.range_test(loader, **sweep)
    assert len(result.curve) >= 10
    assert state_of(model, *optimizers, loader) == before
    assert all(not optimizer.state for optimizer in optimizers) is (warm == 0)
    assert all("initial_lr" in optimizer.param_groups[0] for optimizer in optimizers) and len(schedulers) == 2


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_exception_between_two_updates_leaves_no_trace(error: Any) -> None:
    model, loader = net(), shuffled()
    optimizers, calls = halves(model, torch.optim.Adam), []

    def fail(*_: Any) -> None:
        calls.append(1)
        if len(calls) == 9:
            raise error

    optimizers[1].register_step_pre_hook(fail)
    before = state_of(model, *optimizers, loader)
    with pytest.raises(error):
        LRFinder(model, optimizers, nn.CrossEntropyLoss()).range_test(loader, **SWEEP)
    assert state_of(model, *optimizers, loader) == before


def test_refining_keeps_the_ratios_and_leaves_no_trace() -> None:
    model, loader, ratios = net(), shuffled(), set()
    optimizers = halves(model, torch.optim.Adam, (1e-3, 4e-3))

    def note(*_: Any) -> None:
        first, second = (optimizer.param_groups[0]["lr"] for optimizer in optimizers)
        ratios.add(round(second / first, 9) if first else 4.0)

    optimizers[0].register_step_pre_hook(note)
    finder = LRFinder(model, optimizers, nn.CrossEntropyLoss())
    before = state_of(model, *optimizers, loader)
    result = finder.refine(finder.range_test(loader, **WHOLE), loader, schedule="onecycle", total_steps=200)
    assert result.trials is not None and ratios == {4.0}
    assert state_of(model, *optimizers, loader) == before


def test_a_state_that_was_loaded_meanwhile_is_swept() -> None:
    # Loading a state replaces the dictionaries of the groups.
    model = net()
    optimizers = halves(model, torch.optim.Adam)
    finder = LRFinder(model, optimizers, nn.CrossEntropyLoss())
    first = finder.range_test(shuffled(), **SWEEP)
    for optimizer in optimizers:
        optimizer.load_state_dict(optimizer.state_dict())
    torch.manual_seed(0)
    second = finder.range_test(shuffled(), **SWEEP)
    assert len(set(first.curve.losses)) > 10 and len(set(second.curve.losses)) > 10
    assert [optimizer.param_groups[0]["lr"] for optimizer in optimizers] == [0.1, 0.4]


class ScheduleFreeLike(torch.optim.SGD):
    """Keeps other weights for training than for evaluation, and steps in train mode alone."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for group in self.param_groups:
            group["train_mode"] = False

    def train(self) -> None:
        self._to(True)

    def eval(self) -> None:
        self._to(False)

    def _to(self, mode: bool) -> None:
        for group in self.param_groups:
            if group["train_mode"] is not mode:
                group["train_mode"] = mode
                for parameter in group["params"]:
                    parameter.data.mul_(2.0 if mode else 0.5)

    def step(self, closure: Any = None) -> Any:
        assert all(group["train_mode"] for group in self.param_groups), "not in train mode"
        return super().step(closure)


@pytest.mark.parametrize("own", [False, True], ids=["criterion", "step_fn"])
@pytest.mark.parametrize("val", [False, True], ids=["training loss", "validation loss"])
def test_optimizers_with_modes_train_in_train_mode(own: bool, val: bool) -> None:
    model = net()
    optimizers = [
        ScheduleFreeLike(model[0].parameters(), lr=0.1),
        torch.optim.Adam(model[1].parameters(), lr=0.1),
        ScheduleFreeLike(model[4].parameters(), lr=0.1),
    ]
    before = state_of(model, *optimizers)
    step_fn = step_of(model, optimizers) if own else None
    finder = LRFinder(model, optimizers, nn.CrossEntropyLoss(), step_fn=step_fn)
    result = finder.range_test(shuffled(), val_loader=shuffled() if val else None, **SWEEP)
    assert len(result.curve) > 10
    assert state_of(model, *optimizers) == before


def test_steps_of_which_one_is_compiled_sweep_as_the_others() -> None:
    curves = []
    for compiled in (False, True):
        model = net()
        optimizers = halves(model)
        if compiled:
            optimizers[1].step = torch.compile(optimizers[1].step, backend="eager")
        step = optimizers[1].step
        curves.append(LRFinder(model, optimizers, nn.CrossEntropyLoss()).range_test(shuffled(), **SWEEP).curve)
        assert optimizers[1].step == step and isinstance(optimizers[1].param_groups[0]["lr"], float)
    assert curves[0].losses == pytest.approx(curves[1].losses, rel=1e-4)


# --- GAN and Muon -----------------------------------------------------------------------------------------------------


class Gan:
    """Two nets with an optimizer each, whose learning rates stand at 1 to 4."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.generator = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 6))
        self.discriminator = nn.Sequential(nn.Linear(6, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1))
        self.optimizers = [
            torch.optim.Adam(self.generator.parameters(), lr=1e-4, betas=(0.5, 0.99)),
            torch.optim.Adam(self.discriminator.parameters(), lr=4e-4, betas=(0.5, 0.99)),
        ]

    def step(self, batch: Any) -> Tensor:
        real = batch[0]
        fake = self.generator(torch.randn(len(real), 2))
        softplus = nn.functional.softplus
        loss = softplus(-self.discriminator(real)).mean() + softplus(self.discriminator(fake.detach())).mean()
        self.optimizers[1].zero_grad()
        loss.backward()
        self.optimizers[1].step()
        self.optimizers[0].zero_grad()
        generated = softplus(-self.discriminator(fake)).mean()
        generated.backward()
        self.optimizers[0].step()
        return loss.detach() + generated.detach()

    def finder(self) -> LRFinder:
        return LRFinder(nn.ModuleList([self.generator, self.discriminator]), self.optimizers, step_fn=self.step)


@pytest.mark.parametrize("sweep", [{}, {"start_lr": 1e-5, "end_lr": 1.0, "num_iter": 40}], ids=["chosen", "given"])
def test_a_gan_is_swept_with_its_ratio_and_left_as_it_was(sweep: Any) -> None:
    gan, twin, ratios = Gan(), Gan(), set()
    finder = gan.finder()
    hook = gan.optimizers[0].register_step_pre_hook(
        lambda *_: ratios.add(gan.optimizers[1].param_groups[0]["lr"] / gan.optimizers[0].param_groups[0]["lr"])
    )
    torch.manual_seed(1)
    before = state_of(gan.generator, gan.discriminator, *gan.optimizers)
    result = finder.range_test(shuffled(), **sweep)
    hook.remove()
    assert [round(ratio, 9) for ratio in ratios] == [4.0] * len(ratios)
    assert state_of(gan.generator, gan.discriminator, *gan.optimizers) == before
    assert result.curve.group_scales == pytest.approx((1.0, 4.0))
    losses = []
    for each in (gan, twin):
        torch.manual_seed(2)
        losses.append([each.step(batch).item() for batch in shuffled()])
    assert losses[0] == losses[1]


def test_the_discriminator_is_found_where_the_generator_is_the_model() -> None:
    gan = Gan()
    before = state_of(gan.generator, gan.discriminator, *gan.optimizers)
    LRFinder(gan.generator, gan.optimizers, step_fn=gan.step).range_test(shuffled(), **SWEEP)
    assert state_of(gan.generator, gan.discriminator, *gan.optimizers)[0] == before[0]


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon")
@pytest.mark.parametrize("own", [False, True], ids=["criterion", "step_fn"])
def test_muon_beside_adamw_is_swept_and_scheduled(own: bool) -> None:
    model, loader = net(), shuffled()
    matrices = [parameter for parameter in model.parameters() if parameter.ndim == 2]
    rest = [parameter for parameter in model.parameters() if parameter.ndim != 2]
    optimizers = [torch.optim.Muon(matrices, lr=0.02), torch.optim.AdamW(rest, lr=3e-4)]
    before = state_of(model, *optimizers, loader)
    step_fn = step_of(model, optimizers) if own else None
    result = LRFinder(model, optimizers, nn.CrossEntropyLoss(), step_fn=step_fn).range_test(loader, **WHOLE)
    assert state_of(model, *optimizers, loader) == before
    assert result.curve.optimizer == "Muon" and result.curve.group_scales == pytest.approx((1.0, 0.015))
    assert "Learning-rate range test with Muon and AdamW" in str(result)
    first, second = result.scheduler("cosine", optimizers, total_steps=20, warmup_steps=5)
    for _ in range(20):
        step_of(model, optimizers)(next(iter(loader)))
        first.step(), second.step()
    assert all(group["lr"] == pytest.approx(0.0, abs=1e-9) for each in optimizers for group in each.param_groups)


# --- schedulers -------------------------------------------------------------------------------------------------------


def swept(lrs: Sequence[float] = (1e-3, 4e-3), kind: Any = torch.optim.Adam) -> tuple[RangeTestResult, list[Any]]:
    model = net()
    optimizers = halves(model, kind, lrs)
    return LRFinder(model, optimizers, nn.CrossEntropyLoss()).range_test(shuffled(), **WHOLE), optimizers


def rates(optimizers: Sequence[Any]) -> list[float]:
    return [float(group["lr"]) for optimizer in optimizers for group in optimizer.param_groups]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lrs", [(1e-3, 4e-3), (0.0, 4e-3), (1e-3, 0.0)], ids=str)
def test_each_kind_keeps_the_ratios_to_its_end(kind: str, lrs: Any) -> None:
    result, optimizers = swept(lrs)
    plan = result.recipe(kind, total_steps=40)
    schedulers = result.scheduler(kind, optimizers, total_steps=40)
    assert isinstance(schedulers, list) and [each.optimizer for each in schedulers] == optimizers
    seen = [rates(optimizers)]
    for t in range(39):
        for optimizer, scheduler in zip(optimizers, schedulers, strict=True):
            optimizer.step()
            scheduler.step(float(t)) if kind == "plateau" else scheduler.step()
        seen.append(rates(optimizers))
    scales = group_scales(SimpleNamespace(param_groups=[{"lr": lr} for lr in lrs]))
    for t, found in enumerate(seen):
        at = max(found) / max(scales) if kind == "plateau" else plan.lr_at(t)
        assert found == pytest.approx([at * scale for scale in scales], rel=1e-6, abs=1e-12)
    assert kind == "constant" or len({tuple(each) for each in seen}) > 2


def test_a_lowest_lr_is_for_optimizers_of_one_lr() -> None:
    result, optimizers = swept((1e-3, 1e-3))
    schedulers = result.scheduler("cosine", optimizers, total_steps=10, eta_min=1e-6, warmup_steps=0)
    for _ in range(10):
        for optimizer, scheduler in zip(optimizers, schedulers, strict=True):
            optimizer.step(), scheduler.step()
    assert rates(optimizers) == pytest.approx([1e-6, 1e-6])
    result, optimizers = swept((1e-3, 4e-3))
    with pytest.raises(ConfigError, match="eta_min must be 0 for parameter groups of different LR"):
        result.scheduler("cosine", optimizers, total_steps=10, eta_min=1e-6)
    assert rates(optimizers) == [1e-3, 4e-3]


def test_a_refusal_changes_none_of_the_optimizers() -> None:
    optimizers = halves(net(), lrs=(0.1, 0.4))
    with pytest.raises(SetupError, match="eta_min must be 0"):
        recipe("cosine", peak_lr=0.1, total_steps=10, eta_min=1e-6).build(optimizers)
    assert rates(optimizers) == [0.1, 0.4]
    assert not any("initial_lr" in group for each in optimizers for group in each.param_groups)


BAD_LISTS: dict[str, tuple[Callable[[list[Any]], Any], str]] = {
    "one of them": (lambda both: both[0], "swept 2 optimizers, .*; got one of them. Pass the list of all"),
    "one of them in a list": (lambda both: both[:1], "swept 2 optimizers; got 1. Pass those that were swept"),
    "another order": (lambda both: both[::-1], "in another order than in the range test.* Pass them in the same order"),
    "one of them twice": (lambda both: [both[0], both[0]], "the same object as"),
    "none": (lambda both: [], "the list of optimizers is empty"),
    "a scheduler among them": (lambda both: [both[0], object()], "got a object at optimizer"),
}


@pytest.mark.parametrize(("given", "sentence"), BAD_LISTS.values(), ids=BAD_LISTS)
def test_other_optimizers_than_those_swept_are_refused(given: Any, sentence: str) -> None:
    result, optimizers = swept()
    with pytest.raises(SetupError, match=sentence) as refusal:
        result.scheduler("cosine", given(optimizers), total_steps=10)
    assert "\n" not in str(refusal.value)
    assert rates(optimizers) == [1e-3, 4e-3]


def test_a_ratio_that_was_changed_on_purpose_is_kept() -> None:
    result, optimizers = swept()
    optimizers[1].param_groups[0]["lr"] = 2e-3
    result.scheduler("constant", optimizers, warmup_steps=0)
    assert rates(optimizers) == pytest.approx([result.lr_for("constant"), 2 * result.lr_for("constant")])


@st.composite
def several(draw: Any) -> list[list[float]]:
    """Learning rates of the groups of one to four optimizers; one of them at least is not 0."""
    lr = st.one_of(st.just(0.0), st.floats(1e-6, 10.0))
    made = draw(st.lists(st.lists(lr, min_size=1, max_size=3), min_size=1, max_size=4))
    return made if any(map(any, made)) else [[draw(st.floats(1e-6, 10.0))], *made]


@given(several(), st.floats(1e-6, 10.0), st.sampled_from(KINDS))
def test_any_ratios_are_those_of_one_optimizer(lrs: list[list[float]], peak: float, kind: str) -> None:
    def groups(each: list[float]) -> list[dict[str, Any]]:
        return [{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in each]

    optimizers = [torch.optim.SGD(groups(each), momentum=0.9) for each in lrs]
    one = torch.optim.SGD(groups([lr for each in lrs for lr in each]), momentum=0.9)
    joint = JointOptimizer(optimizers)
    assert group_scales(joint) == group_scales(one)
    assert joint.optimizer.param_groups and any(group["lr"] for group in joint.optimizer.param_groups)
    plan = recipe(kind, peak_lr=peak, total_steps=30)
    schedulers, single = plan.build(optimizers), plan.build(one)
    for t in range(29):
        assert rates(optimizers) == rates([one])
        for optimizer, scheduler in zip([*optimizers, one], [*schedulers, single], strict=True):
            optimizer.step()
            scheduler.step(1.0) if kind == "plateau" else scheduler.step()


# --- texts and lines --------------------------------------------------------------------------------------------------


def test_the_texts_name_each_optimizer_and_the_reference() -> None:
    result, _ = swept()
    text = " ".join(str(result).split())
    assert "Learning-rate range test with Adam and Adam" in text
    assert "The 2 parameter groups of Adam (1) and Adam (1) keep their ratios" in text
    assert "multiply a learning rate (that of optimizer[0]) by 1, 4." in text
    axes = result.plot()
    assert axes.get_title("left").startswith("Adam and Adam range test")
    plt.close(axes.figure)
    facts = result.curve.facts
    assert facts is not None and facts.optimizers == (("Adam", 1), ("Adam", 1)) and facts.form == "plain"
    assert facts.weight_rms is not None and len(facts.weight_rms) == 2
    assert RangeTestResult.from_dict(result.to_dict()) == result


@pytest.mark.parametrize("counts", [[["Adam", 1]], [["Adam", 1], ["Adam", 2]], [["Adam", 0], ["Adam", 2]]], ids=str)
def test_a_saved_result_with_other_groups_is_damaged(counts: Any) -> None:
    content = swept()[0].to_dict()
    content["curve"]["facts"]["optimizers"] = counts
    with pytest.raises(FileFormatError, match="the optimizers must hold the 2 parameter groups"):
        RangeTestResult.from_dict(content)


def test_a_frozen_optimizer_first_is_not_the_reference() -> None:
    model = net()
    first = torch.optim.SGD(model[0].parameters(), lr=0.0)
    second = torch.optim.AdamW(model[4].parameters(), lr=1e-3)
    result = LRFinder(model, [first, second], nn.CrossEntropyLoss()).range_test(shuffled(), **WHOLE)
    assert (result.curve.optimizer, result.curve.group_scales) == ("AdamW", (0.0, 1.0))
    assert "multiply a learning rate (that of optimizer[1]) by 0, 1." in " ".join(str(result).split())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("updates", UPDATES.values(), ids=UPDATES)
def test_the_lines_to_paste_schedule_each_of_them(kind: str, updates: dict[str, Any]) -> None:
    model = net()
    scale, shift = model[1].parameters()
    groups = [{"params": [scale], "lr": 0.2}, {"params": [shift], "lr": 0.0}]
    optimizers = [
        torch.optim.SGD(model[0].parameters(), lr=0.1, momentum=0.9),
        torch.optim.SGD(model[4].parameters(), lr=0.4, momentum=0.9),
        torch.optim.Adam(groups),
    ]
    finder = LRFinder(model, optimizers, nn.CrossEntropyLoss(), **copy.deepcopy(updates))
    result = finder.range_test(shuffled(), **SWEEP)
    steps = updates.get("accumulation_steps", 1)
    plan = result.recipe(kind, peak_lr=0.1, epochs=2, steps_per_epoch=6 // steps)
    seen: list[list[float]] = []
    optimizers[0].register_step_pre_hook(lambda *_: seen.append(rates(optimizers)))
    space = {"torch": torch, "optimizers": optimizers, "model": model, "criterion": nn.CrossEntropyLoss()}
    space |= {"train_loader": shuffled()}
    # The scaler of the lines is torch's, which scales on a CPU too.
    exec(compile(plan.code().replace("range(10)", "range(2)"), "pasted", "exec"), space)
    expected = [0.1 * scale for scale in (1.0, 4.0, 2.0, 0.0)]
    assert len(seen) == 2 * 6 // steps and len(space["schedulers"]) == 3  # type: ignore[arg-type]
    for t, found in enumerate(seen):
        part = 1.0 if kind == "plateau" else plan.lr_at(t) / plan.peak_lr
        assert found == pytest.approx([lr * part for lr in expected], rel=1e-6, abs=1e-12)


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_a_list_that_cannot_be_stepped_is_one_sentence() -> None:
    model = net()
    first, second = halves(model)
    shared = torch.optim.Adam(model[0].parameters(), lr=0.1)
    lbfgs = torch.optim.LBFGS(model[4].parameters())
    refused: dict[str, Any] = {
        r"the list of optimizers is empty\. Write \[": [],
        r"optimizer\[1\] is the same object as optimizer\[0\]": [first, first],
        r"optimizer\[2\] is the same object as optimizer\[1\]": [first, second, second],
        r"optimizer\[0\] and optimizer\[1\] hold the same parameter": (first, shared),
        r"must be a torch optimizer; got a list at optimizer\[1\]": [first, [second]],
        r"must be a torch optimizer; got a Linear at optimizer\[0\]": [model[0], second],
        r"must be a torch optimizer; got a NoneType at optimizer\[0\]": [None],
        r"optimizer must be a torch optimizer; got a dict\..* several optimizers as a list": {"g": first},
        r"LBFGS needs a closure, so it cannot be stepped beside .* Give step_fn": [first, lbfgs],
    }
    for sentence, optimizers in refused.items():
        with pytest.raises(SetupError, match=sentence):
            LRFinder(model, optimizers, nn.CrossEntropyLoss())
    LRFinder(model, [first, second], nn.CrossEntropyLoss())
    LRFinder(model, (first, second), nn.CrossEntropyLoss())
    LRFinder(model, [first, lbfgs], step_fn=step_of(model, [first, lbfgs]))


def test_a_learning_rate_that_is_no_number_is_named_by_its_optimizer() -> None:
    model = net()
    first, second = halves(model, torch.optim.Adam)
    second.param_groups[0]["lr"] = math.nan
    with pytest.raises(SetupError, match="got nan for group 0 of Adam"):
        LRFinder(model, [first, second], nn.CrossEntropyLoss())
    second.param_groups[0]["lr"] = None
    with pytest.raises(SetupError, match="parameter group 0 of Adam has lr=None"):
        recipe("cosine", peak_lr=0.1, total_steps=5).build([first, second])
