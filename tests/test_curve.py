"""The record of a range test: what it holds, which learning rate a loss belongs to, and what it refuses."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrfinder.errors import ConfigError, FileFormatError, LRFinderError
from lrfinder.files import read_json, write_json
from lrfinder.record.curve import MODES, LossCurve, StopReason, SweepConfig

CONFIG = SweepConfig(start_lr=0.1, end_lr=0.4, num_iter=3)

lrs = st.floats(min_value=1e-300, max_value=1e300)
finite = st.floats(allow_nan=False, allow_infinity=False)
configs = st.builds(
    lambda ends, num_iter, mode, early_stop: SweepConfig(
        start_lr=min(ends), end_lr=max(ends), num_iter=num_iter, mode=mode, early_stop=early_stop
    ),
    st.tuples(lrs, lrs).filter(lambda ends: ends[0] != ends[1]),
    st.integers(2, 10**6),
    st.sampled_from(MODES),
    st.booleans(),
)


@st.composite
def curves(draw: st.DrawFn) -> LossCurve:
    points = draw(st.lists(st.tuples(finite, finite), max_size=30))
    return LossCurve(
        lrs=tuple(lr for lr, _ in points),
        losses=tuple(loss for _, loss in points),
        stop=draw(st.sampled_from(StopReason)),
        config=draw(configs),
        measured=draw(st.sampled_from(["before", "after"])),
        nonfinite_lr=draw(st.none() | lrs),
        group_scales=tuple(draw(st.lists(finite, min_size=1, max_size=4))),
        optimizer=draw(st.text(max_size=20)),
        momentum=draw(st.floats(0, 1)),
        batches=draw(st.integers(0, 10**12)),
        skipped=draw(st.integers(0, 10**6)),
    )


def curve(**changes: Any) -> LossCurve:
    fields = {"lrs": (0.1, 0.2, 0.4), "losses": (3.0, 2.0, 1.0), "stop": StopReason.COMPLETED, "config": CONFIG}
    return LossCurve(**{**fields, **changes})


# --- SweepConfig ------------------------------------------------------------------------------------------------------


@given(config=configs)
def test_a_ramp_starts_and_ends_at_the_given_learning_rates(config: SweepConfig) -> None:
    assert config.lr_at(0) == pytest.approx(config.start_lr, rel=1e-12, abs=0)
    assert config.lr_at(config.num_iter - 1) == pytest.approx(config.end_lr, rel=1e-12, abs=0)


@pytest.mark.parametrize("mode", MODES)
def test_past_its_end_a_ramp_goes_on_with_the_same_spacing(mode: str) -> None:
    config = SweepConfig(start_lr=1e-3, end_lr=1.0, num_iter=10, mode=mode)
    values = [config.lr_at(i) for i in range(20)]
    steps = [math.log(b / a) if mode == "exp" else b - a for a, b in zip(values, values[1:], strict=False)]
    assert steps == pytest.approx([steps[0]] * 19)


@pytest.mark.parametrize("name", ["start_lr", "end_lr"])
@pytest.mark.parametrize(
    "value", [0, 0.0, -1e-3, float("nan"), float("inf"), True, None, "0.2", 10**400], ids=lambda value: str(value)[:8]
)
def test_a_learning_rate_that_is_not_a_positive_finite_number_is_refused(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"{name} must be a positive finite number; got"):
        SweepConfig(**{"start_lr": 0.1, "end_lr": 0.4, "num_iter": 3, name: value})


def test_the_smallest_positive_number_and_whole_numbers_are_learning_rates() -> None:
    assert SweepConfig(start_lr=5e-324, end_lr=1, num_iter=2).end_lr == 1


def test_an_end_not_above_the_start_is_refused_the_next_float_accepted() -> None:
    for end_lr in (0.1, 0.01):
        with pytest.raises(ConfigError, match=f"got start_lr=0.1, end_lr={end_lr}. Did you swap them?"):
            SweepConfig(start_lr=0.1, end_lr=end_lr, num_iter=3)
    SweepConfig(start_lr=0.1, end_lr=math.nextafter(0.1, 1), num_iter=3)


@pytest.mark.parametrize("value", [1, 0, -5, 3.0, True, None, "3"])
def test_fewer_than_two_iterations_are_refused_and_two_accepted(value: object) -> None:
    with pytest.raises(ConfigError, match=r"num_iter must be a whole number of at least 2"):
        SweepConfig(start_lr=0.1, end_lr=0.4, num_iter=value)  # type: ignore[arg-type]
    SweepConfig(start_lr=0.1, end_lr=0.4, num_iter=2)


@pytest.mark.parametrize("mode", ["log", "EXP", "", None])
def test_an_unknown_mode_is_refused_with_the_two_there_are(mode: object) -> None:
    with pytest.raises(ConfigError, match="mode must be one of exp, linear; got"):
        SweepConfig(start_lr=0.1, end_lr=0.4, num_iter=3, mode=mode)  # type: ignore[arg-type]


# --- StopReason -------------------------------------------------------------------------------------------------------


def test_each_stop_reason_has_a_sentence_and_an_abnormal_one_a_hint() -> None:
    assert {reason.value for reason in StopReason} == {
        "completed",
        "diverged",
        "nonfinite",
        "data_exhausted",
        "interrupted",
        "error",
    }
    assert all(reason.sentence and reason.short for reason in StopReason)
    assert {reason for reason in StopReason if not reason.hint} == {StopReason.COMPLETED, StopReason.DIVERGED}


# --- LossCurve --------------------------------------------------------------------------------------------------------


def test_a_training_loss_is_paired_with_the_lr_of_the_update_before() -> None:
    assert curve(measured="before").pairs() == ((0.1, 0.2), (2.0, 1.0))


def test_a_validation_loss_is_paired_with_the_lr_of_its_own_update() -> None:
    assert curve(measured="after").pairs() == ((0.1, 0.2, 0.4), (3.0, 2.0, 1.0))


@pytest.mark.parametrize("measured", ["before", "after"])
@pytest.mark.parametrize("count", [0, 1])
def test_a_curve_too_short_for_a_pair_has_none(measured: str, count: int) -> None:
    short = curve(lrs=(0.1,) * count, losses=(1.0,) * count, measured=measured)
    assert len(short) == count
    assert len(short.pairs()[0]) == len(short.pairs()[1]) == (count if measured == "after" else 0)


@given(curve=curves())
def test_lrs_and_losses_of_the_pairs_have_one_length(curve: LossCurve) -> None:
    paired_lrs, paired_losses = curve.pairs()
    expected = len(curve) if curve.measured == "after" else max(0, len(curve) - 1)
    assert len(paired_lrs) == len(paired_losses) == expected


@given(curve=curves())
def test_a_curve_is_equal_after_a_round_trip_through_strict_json(
    tmp_path_factory: pytest.TempPathFactory, curve: LossCurve
) -> None:
    text = json.dumps(curve.to_dict(), allow_nan=False)
    assert LossCurve.from_dict(json.loads(text)) == curve
    path = write_json(tmp_path_factory.mktemp("curve") / "curve.json", "curve", curve.to_dict())
    assert LossCurve.from_dict(read_json(path, "curve")) == curve


def test_a_curve_and_its_config_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        curve().losses = ()  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        CONFIG.end_lr = 2.0  # type: ignore[misc]
    assert hash(curve()) == hash(curve())


def test_lrs_and_losses_of_two_lengths_are_refused() -> None:
    with pytest.raises(ConfigError, match="lrs and losses must have one length; got 3 and 2"):
        curve(losses=(3.0, 2.0))
    curve(lrs=(0.1, 0.2), losses=(3.0, 2.0))


@pytest.mark.parametrize("name", ["lrs", "losses"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_nonfinite_value_is_refused_and_the_largest_float_accepted(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match="leave a non-finite loss out and set nonfinite_lr"):
        curve(**{name: (0.1, value, 0.4)})
    curve(**{name: (0.1, 1.7976931348623157e308, 0.4)})


def test_a_pairing_other_than_before_and_after_is_refused() -> None:
    with pytest.raises(ConfigError, match="measured must be one of before, after; got 'during'"):
        curve(measured="during")
    assert curve(measured="after").measured == "after"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0, -0.1, "0.1"])
def test_the_learning_rate_that_ended_the_sweep_must_be_one(value: object) -> None:
    with pytest.raises(ConfigError, match="nonfinite_lr must be a positive finite number; got"):
        curve(nonfinite_lr=value)
    assert curve(nonfinite_lr=0.2).nonfinite_lr == 0.2
    assert curve(nonfinite_lr=None).nonfinite_lr is None


@pytest.mark.parametrize("changes", [{"group_scales": (1.0, float("inf"))}, {"momentum": float("nan")}])
def test_scales_and_momentum_must_be_finite(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="group_scales and momentum must be finite"):
        curve(**changes)
    curve(group_scales=(1.0, 0.0), momentum=0.0)


# --- a saved curve that was tampered with -----------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["lrs", "losses", "stop", "config", "group_scales", "optimizer", "batches"])
def test_a_saved_curve_with_a_part_missing_is_damaged(field: str) -> None:
    content = curve().to_dict()
    LossCurve.from_dict(dict(content))
    del content[field]
    with pytest.raises(FileFormatError, match="the saved curve is damaged: .*Run the range test again"):
        LossCurve.from_dict(content)


@pytest.mark.parametrize(
    "change",
    [
        {"losses": [3.0, 2.0]},
        {"losses": [3.0, None, 1.0]},
        {"losses": [3.0, float("nan"), 1.0]},
        {"lrs": 0.1},
        {"lrs": [10**400, 1, 1]},
        {"stop": "bored"},
        {"config": {"start_lr": 1.0, "end_lr": 0.1, "num_iter": 10}},
        {"config": {**CONFIG.__dict__, "speed": 3}},
        {"config": None},
        {"measured": "sometimes"},
        {"nonfinite_lr": "0.1"},
        {"group_scales": [float("nan")]},
        {"momentum": "large"},
        {"batches": float("inf")},
        {"colour": "blue"},
    ],
    ids=lambda change: f"{change}"[:40],
)
def test_a_saved_curve_with_a_wrong_part_is_damaged(change: dict[str, Any]) -> None:
    with pytest.raises(FileFormatError, match="Run the range test again"):
        LossCurve.from_dict({**curve().to_dict(), **change})


@given(content=st.none() | st.integers() | st.text() | st.lists(st.integers()) | st.dictionaries(st.text(), st.none()))
def test_anything_but_a_saved_curve_is_damaged(content: Any) -> None:
    with pytest.raises(FileFormatError):
        LossCurve.from_dict(content)


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


@given(field=st.sampled_from([field.name for field in dataclasses.fields(LossCurve)]), value=junk)
def test_a_saved_curve_with_anything_in_a_field_is_read_or_refused_by_name(field: str, value: Any) -> None:
    try:
        read = LossCurve.from_dict({**curve().to_dict(), field: value})
    except LRFinderError as error:
        assert isinstance(error, FileFormatError)
    else:
        json.dumps(read.to_dict(), allow_nan=False)


def test_the_repr_of_a_curve_fits_a_line_and_names_the_stop_reason() -> None:
    config = SweepConfig(start_lr=1e-3, end_lr=1.0, num_iter=200)
    lrs = tuple(config.lr_at(i) for i in range(200))
    curve = LossCurve(lrs=lrs, losses=(1.0,) * 200, stop=StopReason.COMPLETED, config=config)
    assert repr(curve) == "<LossCurve: 200 iterations, lr 0.001 to 1, lowest loss 1, completed>"
