"""The race: which learning rates run, for how long, and which wins. No torch: losses come from formulas."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrfinder.errors import ConfigError, FileFormatError
from lrfinder.race import Heat, HeatPlan, Race, RaceRecord, plan_race, whole_schedule
from lrfinder.recipes import recipe
from lrfinder.tables.constants import FITTED
from lrfinder.tables.kinds import KINDS

CENTRE = 0.1
TOTAL = 4000
QUALIFYING, WITH_FINAL = TOTAL // 4, TOTAL  # budgets without and with room for a final

kinds = pytest.mark.parametrize("kind", KINDS)
budgets = pytest.mark.parametrize("budget_steps", [QUALIFYING, WITH_FINAL], ids=["qualifying", "with final"])

LossAt = Callable[[float], float | None]


def record(**numbers: Any) -> RaceRecord:
    """An empty record; every number can be changed."""
    given = {"schedule": "cosine", "total_steps": TOTAL, "budget_steps": QUALIFYING, "start_loss": 8.0}
    return RaceRecord(**{**given, "centre": CENTRE, **numbers})


def run(loss_at: LossAt, *, ceiling: float | None = None, **numbers: Any) -> RaceRecord:
    """The record of a whole race in which a heat ends with the loss that its LR gives."""
    race = Race(record(**numbers), ceiling=ceiling)
    while not race.done:
        race.add(Heat(lr=race.lr, steps=race.steps, loss=loss_at(race.lr), stage=race.stage))
    return race.record


def bowl(bottom: float) -> Callable[[float], float]:
    """A parabola over octaves of the LR, 0 at the bottom."""
    return lambda lr: math.log2(lr / bottom) ** 2


def blows_up_above(limit: float, loss_at: LossAt) -> LossAt:
    return lambda lr: None if lr > limit else loss_at(lr)


def heats(*pairs: tuple[float, float | None], stage: str = "qualifying", steps: int = 100) -> tuple[Heat, ...]:
    return tuple(Heat(lr=lr, steps=steps, loss=loss, stage=stage) for lr, loss in pairs)


def tried(made: RaceRecord, stage: str = "qualifying") -> list[float]:
    """Learning rates of a stage, in the order in which they ran."""
    return [heat.lr for heat in made.heats if heat.stage == stage]


# --- the budget -------------------------------------------------------------------------------------------------------


@given(
    outcomes=st.lists(st.tuples(st.none() | st.floats(-100, 100), st.floats(0.1, 1.0)), min_size=1, max_size=12),
    total_steps=st.integers(1, 3000),
    part=st.floats(0.01, 3.0),
    visible=st.sampled_from([0.0, 1.0]),
    ceiling=st.none() | st.floats(0.01, 10.0),
)
def test_the_budget_is_never_exceeded_whatever_the_heats_end_with(
    outcomes: list[tuple[float | None, float]], total_steps: int, part: float, visible: float, ceiling: float | None
) -> None:
    budget_steps = max(1, int(part * total_steps))
    race = Race(
        record(total_steps=total_steps, budget_steps=budget_steps, start_loss=50.0, visible=visible), ceiling=ceiling
    )
    for loss, ended in itertools.cycle(outcomes):
        if race.done:
            break
        assert race.record.spent + race.steps <= budget_steps
        steps = race.steps if loss is not None else max(1, math.ceil(ended * race.steps))
        race.add(Heat(lr=race.lr, steps=steps, loss=loss, stage=race.stage))
    assert race.record.spent <= budget_steps
    assert (race.record.spent > 0) == bool(plan_race(budget_steps, total_steps))
    assert race.record.winner is None or race.record.winner > 0


@given(total_steps=st.integers(1, 10**6), part=st.floats(0.001, 3.0))
def test_a_plan_fits_its_budget_and_its_heats_are_long_enough_to_say_something(total_steps: int, part: float) -> None:
    budget_steps = int(part * total_steps)
    plan = plan_race(budget_steps, total_steps)
    assert sum(count * steps for count, steps in plan.values()) <= budget_steps
    assert all(10 <= steps <= total_steps for _, steps in plan.values())
    assert set(plan) in (set(), {"qualifying"}, {"qualifying", "final"})
    assert not plan or plan["qualifying"][0] >= 3


@pytest.mark.parametrize("total_steps", [1000, 10**5])
def test_a_race_needs_three_heats_of_ten_steps(total_steps: int) -> None:
    assert plan_race(29, total_steps) == {}
    assert plan_race(30, total_steps) == {"qualifying": (3, 10)}


@pytest.mark.parametrize("budget_steps", [1, 1, 29])
def test_without_room_for_a_race_it_is_over_before_it_begins(budget_steps: int) -> None:
    race = Race(record(budget_steps=budget_steps))
    assert race.done
    assert race.record.winner is None
    with pytest.raises(RuntimeError, match="the race is over"):
        _ = race.lr


def test_a_larger_budget_buys_longer_heats_and_then_a_final() -> None:
    plans = [plan_race(budget_steps, TOTAL) for budget_steps in (100, QUALIFYING, WITH_FINAL)]
    assert plans[0]["qualifying"][1] < plans[1]["qualifying"][1] == plans[2]["qualifying"][1]
    assert ["final" in plan for plan in plans] == [False, False, True]
    assert plans[2]["final"][1] > plans[2]["qualifying"][1]


def test_steps_that_a_blow_up_left_over_are_given_to_other_heats() -> None:
    def count(part: float) -> int:
        race = Race(record())
        while not race.done:
            high = race.lr > CENTRE
            steps = max(1, int(part * race.steps)) if high else race.steps
            race.add(Heat(lr=race.lr, steps=steps, loss=None if high else bowl(CENTRE / 3)(race.lr), stage=race.stage))
        return len(race.record.heats)

    assert count(0.2) >= count(1.0)


# --- which learning rates ---------------------------------------------------------------------------------------------


@budgets
def test_the_first_heat_is_at_the_centre_and_the_next_two_are_at_four_times_above_and_below(budget_steps: int) -> None:
    lrs = tried(run(bowl(CENTRE), budget_steps=budget_steps))
    assert lrs[:3] == pytest.approx([CENTRE, 4 * CENTRE, CENTRE / 4])


@pytest.mark.parametrize("bottom", [CENTRE / 20, CENTRE, CENTRE * 20])
def test_the_fourth_heat_follows_the_loss_outward_or_closes_in_on_the_best(bottom: float) -> None:
    if FITTED.search.trials < 4:
        pytest.skip("a race has three heats")
    lrs = tried(run(bowl(bottom), start_loss=100.0))
    assert len(lrs) >= 4
    if bottom == CENTRE:
        assert CENTRE / 4 < lrs[3] < CENTRE * 4
    else:
        assert lrs[3] == pytest.approx(16 * CENTRE if bottom > CENTRE else CENTRE / 16)


@budgets
@given(log_bottom=st.floats(-5, 5), visible=st.sampled_from([0.0, 2.0]))
def test_no_lr_is_tried_twice_in_one_stage(budget_steps: int, log_bottom: float, visible: float) -> None:
    made = run(bowl(CENTRE * 2**log_bottom), budget_steps=budget_steps, start_loss=30.0, visible=visible)
    for stage in ("qualifying", "final"):
        lrs = sorted(tried(made, stage))
        assert all(b / a > 1.001 for a, b in itertools.pairwise(lrs))


@budgets
@given(log_bottom=st.floats(-4, 8), log_ceiling=st.floats(-3, 6))
def test_no_heat_exceeds_the_ceiling_and_the_centre_is_always_allowed(
    budget_steps: int, log_bottom: float, log_ceiling: float
) -> None:
    ceiling = CENTRE * 2**log_ceiling
    made = run(bowl(CENTRE * 2**log_bottom), budget_steps=budget_steps, start_loss=100.0, ceiling=ceiling)
    assert made.heats[0].lr == CENTRE
    assert all(heat.lr <= max(ceiling, CENTRE) * (1 + 1e-6) for heat in made.heats)


@budgets
def test_a_race_without_a_fall_that_is_visible_tries_nothing_below_the_centre_in_qualifying(budget_steps: int) -> None:
    # Lower is better here, but by less than what counts as learning: so it looks from trained weights.
    made = run(lambda lr: 7.9 + 0.01 * math.log2(lr / CENTRE), budget_steps=budget_steps, visible=1.0)
    assert not made.learning
    assert min(tried(made)) == CENTRE
    assert max(tried(made)) > CENTRE


@budgets
@pytest.mark.parametrize("visible", [0.0, 1.0])
def test_a_race_with_a_visible_fall_tries_below_the_centre_too(budget_steps: int, visible: float) -> None:
    made = run(bowl(CENTRE / 3), budget_steps=budget_steps, visible=visible)
    assert made.learning
    assert min(tried(made)) < CENTRE


def test_a_centre_that_blows_up_sends_the_race_downwards() -> None:
    made = run(blows_up_above(CENTRE / 10, bowl(CENTRE / 16)))
    assert made.winner is not None
    assert made.winner <= CENTRE / 10


# --- the final --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bottom", [CENTRE / 3, CENTRE, CENTRE * 3])
def test_the_final_runs_at_the_lr_that_qualified_and_at_twice_it(bottom: float) -> None:
    made = run(bowl(bottom), budget_steps=WITH_FINAL)
    qualified = made.qualified
    assert qualified is not None
    assert tried(made, "final") == pytest.approx([qualified, 2 * qualified])


@pytest.mark.parametrize("wrong", [None, 8.0, 9.0], ids=["blew up", "no better than the start", "worse"])
def test_a_final_that_goes_wrong_at_first_is_run_again_at_half(wrong: float | None) -> None:
    race = Race(record(budget_steps=WITH_FINAL))
    while not race.done:
        loss = bowl(CENTRE)(race.lr) if race.stage == "qualifying" else wrong
        race.add(Heat(lr=race.lr, steps=race.steps, loss=loss, stage=race.stage))
    qualified, winner = race.record.qualified, race.record.winner
    assert qualified is not None and winner is not None
    assert tried(race.record, "final") == pytest.approx([qualified, qualified / 2])
    assert winner < qualified / 2


def test_a_qualifying_heat_is_never_counted_in_the_final() -> None:
    made = run(bowl(CENTRE), budget_steps=WITH_FINAL)
    assert {heat.lr for heat in made.in_stage("final")} == set(tried(made, "final"))
    assert len(made.in_stage("qualifying")) + len(made.in_stage("final")) == len(made.heats)


def test_the_heats_of_a_stage_come_by_rising_lr() -> None:
    made = run(bowl(CENTRE), budget_steps=WITH_FINAL)
    for stage in ("qualifying", "final"):
        lrs = [heat.lr for heat in made.in_stage(stage)]
        assert lrs == sorted(lrs)


# --- the winner -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("octaves", [-2.0, -1.3, -0.7, 0.0, 0.4, 1.0, 1.7, 2.0])
@pytest.mark.parametrize("sharp", [1.0, 2.0])
def test_on_a_smooth_bowl_the_winner_is_within_a_factor_two_of_the_bottom(octaves: float, sharp: float) -> None:
    bottom = CENTRE * 2**octaves
    made = run(lambda lr: sharp * bowl(bottom)(lr), budget_steps=WITH_FINAL, start_loss=4.5 * sharp)
    assert made.winner is not None
    assert 0.5 < made.winner / bottom < 2.0


@pytest.mark.parametrize("loss", [-3.0, 0.0, 1.0])
@budgets
def test_a_tie_goes_to_the_centre(budget_steps: int, loss: float) -> None:
    made = run(lambda lr: loss, budget_steps=budget_steps, start_loss=5.0)
    assert made.winner == pytest.approx(CENTRE)


@pytest.mark.parametrize("loss", [None, 8.0, 8.5], ids=["blow-ups", "no change", "worse"])
@budgets
def test_there_is_no_winner_where_no_heat_came_below_the_start(budget_steps: int, loss: float | None) -> None:
    made = run(lambda lr: loss, budget_steps=budget_steps)
    assert made.heats
    assert made.winner is None and made.qualified is None and not made.learning


def test_a_final_that_learnt_says_something_though_no_qualifying_heat_did() -> None:
    # A slow start: after a sixteenth of the training the loss is still that of the start, after a third it is not.
    race = Race(record(budget_steps=WITH_FINAL))
    while not race.done:
        loss = 8.01 if race.stage == "qualifying" else 4 + 0.1 * bowl(CENTRE)(race.lr)
        race.add(Heat(lr=race.lr, steps=race.steps, loss=loss, stage=race.stage))
    assert race.record.winner is not None


@given(loss=st.integers(-5, 4), low=st.integers(-4, 7), lowest=st.integers(-4, 7))
def test_a_heat_above_the_best_that_blew_up_holds_the_winner_at_a_part_of_it(loss: int, low: int, lowest: int) -> None:
    made = record(heats=heats((CENTRE / 4, lowest), (CENTRE / 2, low), (CENTRE, loss), (CENTRE * 4, None)))
    assert made.learning and made.winner is not None
    assert made.winner <= 4 * CENTRE / FITTED.search.margin * (1 + 1e-9)


def test_a_blow_up_holds_nothing_back_where_no_heat_fell_visibly() -> None:
    # From trained weights every high learning rate begins with a loss.
    made = record(visible=1.0, heats=heats((CENTRE, 7.5), (2 * CENTRE, None)))
    assert not made.learning
    assert made.winner == pytest.approx(CENTRE)


def test_a_heat_that_blew_up_below_the_best_is_no_limit() -> None:
    ran = heats((CENTRE / 4, None), (CENTRE, 1.0), (CENTRE * 4, 1.0))
    assert record(heats=ran).winner == pytest.approx(CENTRE, rel=0.5)


def losses_at(values: list[int | None], scale: float = 1.0, shift: float = 0.0) -> Callable[[Race], Heat]:
    """Heats whose losses are those of the list, one after the other, scaled and shifted."""
    following = itertools.cycle(values)

    def next_heat(race: Race) -> Heat:
        value = next(following)
        loss = None if value is None else scale * (value + shift)
        return Heat(lr=race.lr, steps=race.steps, loss=loss, stage=race.stage)

    return next_heat


@given(
    values=st.lists(st.none() | st.integers(-60, 60), min_size=1, max_size=8),
    start_loss=st.integers(-20, 60),
    visible=st.sampled_from([0, 5]),
    power=st.integers(-20, 20),
    shift=st.integers(-1000, 1000),
    budget_steps=st.sampled_from([QUALIFYING, WITH_FINAL]),
)
def test_scaling_and_shifting_all_losses_changes_no_lr_and_no_winner(
    values: list[int | None], start_loss: int, visible: int, power: int, shift: int, budget_steps: int
) -> None:
    # Exact in floating point, so that even ties must come out the same.
    records = []
    for scale, added in ((1.0, 0.0), (2.0**power, float(shift))):
        race = Race(record(budget_steps=budget_steps, start_loss=scale * (start_loss + added), visible=scale * visible))
        next_heat = losses_at(values, scale, added)
        while not race.done:
            race.add(next_heat(race))
        records.append(race.record)
    plain, other = records
    assert [heat.lr for heat in other.heats] == [heat.lr for heat in plain.heats]
    assert (other.winner, other.learning) == (plain.winner, plain.learning)


@budgets
@given(log_bottom=st.floats(-3, 3), power=st.integers(-20, 20), log_limit=st.floats(-1, 6))
def test_multiplying_all_lrs_by_a_power_of_two_multiplies_the_winner_and_nothing_else(
    budget_steps: int, log_bottom: float, power: int, log_limit: float
) -> None:
    # Losses look at the LR relative to its unit, so they are the same to the last bit.
    def race_in(unit: float) -> RaceRecord:
        relative = blows_up_above(CENTRE * 2**log_limit, bowl(CENTRE * 2**log_bottom))
        return run(lambda lr: relative(lr / unit), budget_steps=budget_steps, centre=CENTRE * unit, start_loss=30.0)

    plain, other = race_in(1.0), race_in(2.0**power)
    assert [heat.lr / 2.0**power for heat in other.heats] == pytest.approx([heat.lr for heat in plain.heats])
    assert (plain.winner is None) == (other.winner is None)
    if plain.winner is not None and other.winner is not None:
        assert other.winner / 2.0**power == pytest.approx(plain.winner)


@pytest.mark.parametrize("factor", [1e-4, 0.3, 7.0, 1e5])
def test_multiplying_all_lrs_by_anything_multiplies_the_winner(factor: float) -> None:
    bottom = 1.3 * CENTRE
    plain = run(bowl(bottom), budget_steps=WITH_FINAL)
    other = run(bowl(factor * bottom), budget_steps=WITH_FINAL, centre=factor * CENTRE)
    assert plain.winner is not None and other.winner is not None
    assert other.winner / factor == pytest.approx(plain.winner, rel=0.05)


# --- the end, and the file --------------------------------------------------------------------------------------------


@budgets
@pytest.mark.parametrize("after", [0, 1, 2])
def test_an_interrupt_ends_the_race_and_keeps_what_was_run(budget_steps: int, after: int) -> None:
    race = Race(record(budget_steps=budget_steps))
    for _ in range(after):
        race.add(Heat(lr=race.lr, steps=race.steps, loss=bowl(CENTRE)(race.lr), stage=race.stage))
    assert not race.done
    race.interrupt()
    assert race.done
    assert race.record.interrupted and len(race.record.heats) == after
    assert (race.record.winner is None) == (after == 0)


def test_the_steps_spent_are_those_of_all_heats() -> None:
    made = record(heats=(*heats((0.1, 1.0), (0.4, None), steps=40), *heats((0.2, 1.0), stage="final", steps=70)))
    assert made.spent == 150


@budgets
@pytest.mark.parametrize("limit", [math.inf, 3 * CENTRE], ids=["all finite", "blow-ups"])
def test_a_record_comes_back_equal_from_json(budget_steps: int, limit: float) -> None:
    made = run(blows_up_above(limit, bowl(CENTRE)), budget_steps=budget_steps, visible=0.5, measured="held-out")
    back = RaceRecord.from_dict(json.loads(json.dumps(made.to_dict(), allow_nan=False)))
    assert back == made
    assert back.winner == made.winner


def saved() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(json.dumps(run(bowl(CENTRE)).to_dict()))
    return content


FIRST = {"lr": 0.1, "steps": 10, "loss": 1.0, "stage": "qualifying"}
DAMAGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no heats": lambda content: content.pop("heats"),
    "no schedule": lambda content: content.pop("schedule"),
    "no centre": lambda content: content.pop("centre"),
    "an unknown key": lambda content: content.update(winner=0.1),
    "heats of no list": lambda content: content.update(heats=3),
    "a heat of no numbers": lambda content: content.update(heats=["fast"]),
    "a heat without a loss": lambda content: content["heats"][0].pop("loss"),
    "a heat with an unknown key": lambda content: content["heats"][0].update(colour="red"),
    "a nan loss": lambda content: content["heats"][0].update(loss=math.nan),
    "a loss that is a word": lambda content: content["heats"][0].update(loss="low"),
    "an lr of 0": lambda content: content["heats"][0].update(lr=0.0),
    "an lr that is a word": lambda content: content["heats"][0].update(lr="0.1"),
    "no steps": lambda content: content["heats"][0].update(steps=0),
    "another stage": lambda content: content["heats"][0].update(stage="semifinal"),
    "an unknown schedule": lambda content: content.update(schedule="cosin"),
    "a schedule that is a list": lambda content: content.update(schedule=["cosine"]),
    "a negative centre": lambda content: content.update(centre=-0.1),
    "an infinite start": lambda content: content.update(start_loss=math.inf),
    "no start": lambda content: content.update(start_loss=None),
    "more steps than the budget": lambda content: content.update(budget_steps=10),
    "a budget that is a word": lambda content: content.update(budget_steps="all"),
    "another measure": lambda content: content.update(measured="training"),
}


def test_the_content_that_is_damaged_below_is_whole_before() -> None:
    assert RaceRecord.from_dict(saved()) == run(bowl(CENTRE))


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_content_is_refused_as_a_damaged_file(damage: Callable[[dict[str, Any]], Any]) -> None:
    content = saved()
    damage(content)
    with pytest.raises(FileFormatError, match="the saved race is damaged.*Run refine again"):
        RaceRecord.from_dict(content)


@pytest.mark.parametrize("content", [None, [], "race", 3], ids=repr)
def test_content_that_is_no_dictionary_is_refused_as_a_damaged_file(content: Any) -> None:
    with pytest.raises(FileFormatError, match="damaged"):
        RaceRecord.from_dict(content)


@pytest.mark.parametrize(
    ("name", "bad", "nearest"),
    [
        ("lr", 0.0, 5e-324),
        ("lr", -0.1, 0.1),
        ("lr", math.inf, 1e30),
        ("lr", math.nan, 1.0),
        ("steps", 0, 1),
        ("steps", 1.5, 2),
        ("steps", True, 1),
        ("loss", math.nan, None),
        ("loss", math.inf, 1e300),
        ("loss", -math.inf, -1e300),
        ("stage", "Final", "final"),
    ],
)
def test_a_number_that_no_heat_has_is_refused_and_the_nearest_accepted(name: str, bad: Any, nearest: Any) -> None:
    with pytest.raises(ConfigError):
        Heat(**{**FIRST, name: bad})
    assert getattr(Heat(**{**FIRST, name: nearest}), name) == nearest


@pytest.mark.parametrize(
    ("name", "bad", "nearest"),
    [
        ("schedule", "Cosine", "cosine"),
        ("total_steps", 0, 1),
        ("total_steps", 10.5, 10),
        ("total_steps", True, 1),
        ("budget_steps", 9, 10),
        ("budget_steps", math.nan, 10),
        ("budget_steps", 10.5, 11),
        ("centre", 0.0, 5e-324),
        ("centre", math.inf, 1e30),
        ("start_loss", math.nan, 0.0),
        ("start_loss", math.inf, 1e300),
        ("visible", -1e-9, 0.0),
        ("visible", math.nan, 0.0),
        ("measured", "heldout", "held-out"),
    ],
)
def test_a_number_that_no_race_has_is_refused_and_the_nearest_accepted(name: str, bad: Any, nearest: Any) -> None:
    with pytest.raises(ConfigError):
        record(heats=(Heat(**FIRST),), **{name: bad})
    assert getattr(record(heats=(Heat(**FIRST),), **{name: nearest}), name) == nearest


# --- the schedules of the heats ---------------------------------------------------------------------------------------


def plan_of(stage: str, kind: str, lr: float, steps: int, total_steps: int, **options: Any) -> HeatPlan:
    """A heat at ``lr``, raced for a schedule whose peak is 0.1."""
    whole = whole_schedule(kind, 0.1, total_steps, options)
    return HeatPlan(stage=stage, lr=lr, steps=steps, schedule=whole)


def lrs_of(plan: HeatPlan) -> list[float]:
    """LR of each update of a heat."""
    return [plan.lr_at(t) for t in range(plan.steps)]


@kinds
@pytest.mark.parametrize("stage", ["qualifying", "final"])
@pytest.mark.parametrize("steps", [10, 37, 500])
@pytest.mark.parametrize("lr", [1e-7, 0.3, 40.0])
def test_every_kind_has_a_heat_of_every_length_that_never_exceeds_its_peak(
    kind: str, stage: str, steps: int, lr: float
) -> None:
    lrs = lrs_of(plan_of(stage, kind, lr, steps, 500))
    assert lr / 2 < max(lrs) <= lr * (1 + 1e-12)
    assert min(lrs) >= 0


@kinds
@pytest.mark.parametrize("steps", [10, 37, 500])
def test_a_qualifying_heat_is_constant_with_a_cooldown_whatever_the_schedule(kind: str, steps: int) -> None:
    lrs = lrs_of(plan_of("qualifying", kind, 0.3, steps, 1000))
    assert sum(lr == pytest.approx(0.3) for lr in lrs) > steps / 2
    assert 0 < lrs[-1] <= 0.15
    assert lrs[len(lrs) // 2 :] == sorted(lrs[len(lrs) // 2 :], reverse=True)


@pytest.mark.parametrize(("given", "kept"), [(0, 0), (1, 0), (100, 10), (999, 50)])
def test_a_qualifying_heat_keeps_its_part_of_the_warmup_and_never_more_than_half(given: int, kept: int) -> None:
    plan = plan_of("qualifying", "cosine", 0.1, 100, 1000, warmup_steps=given, warmup_factor=0.5)
    assert sum(lr < 0.1 * (1 - 1e-9) for lr in lrs_of(plan)[:60]) == kept
    assert plan.lr_at(0) == pytest.approx(0.05 if kept else 0.1)


OTHER_OPTIONS: dict[str, dict[str, Any]] = {
    "onecycle": {"pct_start": 0.4, "div_factor": 10.0, "cycle_momentum": False},
    "cosine": {"eta_min": 1e-4},
    "step": {"step_size": 100, "gamma": 0.5},
    "multistep": {"milestones": [300, 600], "gamma": 0.5},
    "exponential": {"gamma": 0.999},
    "linear": {"end_factor": 0.1},
    "cyclic": {"step_size_up": 100, "base_factor": 0.5},
    "restarts": {"T_0": 200, "T_mult": 2},
    "wsd": {"cooldown_steps": 500},
}


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        *OTHER_OPTIONS.items(),
        ("cosine", {"warmup_steps": 100}),
        ("linear", {"warmup_steps": 300, "warmup_factor": 0.5}),
        ("multistep", {"milestones": (500, 700, 900), "warmup_steps": 100}),
    ],
)
@pytest.mark.parametrize("lr", [0.1, 0.02, 3.0])
def test_the_final_is_the_schedule_itself_played_faster(kind: str, options: dict[str, Any], lr: float) -> None:
    whole = recipe(kind, peak_lr=0.1, total_steps=1000, **options)
    small = plan_of("final", kind, lr, 250, 1000, **options)
    assert lrs_of(small) == pytest.approx([lr / 0.1 * whole.lr_at(4 * t) for t in range(250)])
    assert [small.momentum_at(t) for t in range(250)] == [whole.momentum_at(4 * t) for t in range(250)]


def test_momentum_is_cycled_in_the_final_alone() -> None:
    assert plan_of("final", "onecycle", 0.1, 50, 500, cycle_momentum=True).momentum_at(20) is not None
    assert plan_of("qualifying", "onecycle", 0.1, 50, 500, cycle_momentum=True).momentum_at(20) is None


def test_plateau_is_rehearsed_as_multistep() -> None:
    plan = plan_of("final", "plateau", 0.1, 100, 1000, patience=7, factor=0.3)
    assert plan.schedule.kind == "multistep"
    assert max(lrs_of(plan)) == pytest.approx(0.1)
    assert lrs_of(plan)[-1] < 0.05


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("multistep", {"milestones": [500, 502, 504]}),
        ("multistep", {"milestones": [500, 799]}),
        ("multistep", {"milestones": [41]}),
        ("cosine", {"warmup_steps": 799}),
        ("cosine", {"eta_min": 0.09}),
        ("onecycle", {"pct_start": 0.008}),
        ("wsd", {"cooldown_steps": 750, "warmup_steps": 50}),
        ("step", {"step_size": 1}),
    ],
    ids=str,
)
@pytest.mark.parametrize("stage", ["qualifying", "final"])
@pytest.mark.parametrize("lr", [0.1, 0.025])
def test_options_that_the_whole_training_takes_break_no_heat(
    stage: str, kind: str, options: dict[str, Any], lr: float
) -> None:
    lrs = lrs_of(plan_of(stage, kind, lr, 50, 800, **options))
    assert all(0 <= each <= lr * (1 + 1e-12) for each in lrs)


def test_an_option_that_the_schedule_does_not_have_is_refused_and_its_own_accepted() -> None:
    with pytest.raises(ConfigError, match="cosine has no option 'gamma'"):
        whole_schedule("cosine", 0.1, 1000, {"gamma": 0.9})
    assert whole_schedule("exponential", 0.1, 1000, {"gamma": 0.9}).kind == "exponential"
