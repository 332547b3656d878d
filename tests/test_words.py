"""The sentences of the advice say the side that the numbers are on, and the numbers themselves."""

from __future__ import annotations

from typing import Any

import pytest

from lrfinder.advice.evidence import Evidence
from lrfinder.advice.search_words import explain_trials
from lrfinder.advice.words import explain
from lrfinder.analysis.finding import Finding
from lrfinder.record.trials import Trial, TrialRecord
from lrfinder.tables.heads import HEAD

FAR = "far_from_published"


def said(
    name: str, lr: float, seen: tuple[float, float], source: str, *, part: float = 1.0, weight: float = 0.4
) -> str:
    """What is said of one of several pieces of evidence."""
    evidence = Evidence(name=name, lr=lr, weight=weight, part=part, seen=seen, source=source)
    other = Evidence(name="range test", lr=0.1, weight=1 - weight, part=1.0, seen=(0.1, 0.1), source="cosine")
    return " ".join(explain((evidence, other), ()))


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (1, "A batch has 1 sample, fewer than the 32 of the calibration runs. Its gradient is noisier"),
        (31, "31 samples, fewer than the 32 of the calibration runs. Its gradient is noisier and needs a lower LR"),
        (33, "33 samples, more than the 32 of the calibration runs. Its gradient is less noisy and allows a higher LR"),
    ],
)
def test_a_batch_is_smaller_and_noisier_or_larger_and_less_noisy(size: int, expected: str) -> None:
    assert expected in said("batch size", 0.01, (32, size), weight=0.0, source="adaptive")


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (999_999, "has 999,999 trainable parameters"),
        (1_000_000, "has 1 million trainable parameters"),
        (11_200_000, "has 11.2 million trainable parameters, those of the calibration runs at most 65,000."),
        (1.5e9, "has 1.5 billion trainable parameters"),
    ],
)
def test_the_size_of_a_network_is_counted_in_its_unit(size: float, expected: str) -> None:
    assert expected in said("model size", 1e-4, (65_000, size), weight=0.0, source="adaptive")


@pytest.mark.parametrize(
    ("momentum", "expected"),
    [
        (0.0, "is 0, and updates add up less than with 0.9. That needs a higher LR: 0.2."),
        (0.99, "is 0.99, and updates add up more than with 0.9. That needs a lower LR: 0.2."),
    ],
)
def test_less_momentum_needs_a_higher_lr(momentum: float, expected: str) -> None:
    assert expected in said("momentum", 0.2, (0.9, momentum), weight=0.0, source="proportional")


@pytest.mark.parametrize(("part", "side"), [(0.5, "below"), (1.0, "near"), (1.5, "above")])
def test_the_best_lr_was_on_that_side_of_the_middle(part: float, side: str) -> None:
    low = said("low region", 0.1 * part, (0.01, 1.0), part=part, source="low region")
    assert f"lowest between 0.01 and 1. In calibration runs the best LR was {side} the middle of that range" in low
    typical = said("typical", 0.1 * part, (0.1, 0.1), part=part, source="SGD")
    assert (f"the best LR was {side} the typical peak LR of SGD (0.1)" in typical) == (part != 1)


@pytest.mark.parametrize(("here", "side"), [(0.05, "larger"), (0.2, "smaller")])
def test_a_larger_loss_has_a_lower_typical_lr(here: float, side: str) -> None:
    assert f"0.1, which is {here} for a loss so much {side} than" in said("typical", here, (0.1, here), source="SGD")


@pytest.mark.parametrize(
    ("name", "source", "expected"),
    [
        ("limit", "edge", "The edge is a limit as well, and a safe distance below it is 0.1."),
        ("limit", "divergence", "The loss had diverged at 0.5, and a safe distance below that is 0.1."),
        ("limit", "highest", "The highest LR tried was 0.5, and a safe distance below it is 0.1."),
        ("edge", "edge", "only the edge (0.5) can be used"),
        ("edge", "highest", "only the highest LR tried (0.5) can be used"),
        ("probe", "edge", "Above 0.5 that loss rises for good, and a safe distance below is 0.1."),
        ("probe", "low region", "not trained on shows where: it is lowest between 0.5 and 0.5."),
        ("ceiling", "edge", "too close to the edge, so base_lr is lowered to 0.1"),
        ("ceiling", "highest", "above every LR tried, so base_lr is lowered to the highest of them, 0.1"),
        ("ceiling", "above edge", "too far above the edge, so base_lr is lowered to 0.1"),
        ("ceiling", "typical", "so far above the typical one (0.5) trains: base_lr is lowered to 0.1"),
    ],
)
def test_what_was_seen_is_named_with_its_lr(name: str, source: str, expected: str) -> None:
    assert expected in said(name, 0.1, (0.5, 0.5), source=source)


@pytest.mark.parametrize(
    ("lr", "source", "expected"),
    [
        (0.2, "edge and divergence", "too close to the edge, so"),
        (0.3, "edge and divergence", "too close to where the loss had diverged, so"),
        (0.2, "edge and highest", "too close to the edge, so"),
        (0.3, "edge and highest", "too close to the highest LR tried, so"),
    ],
)
def test_a_ceiling_is_too_close_to_what_lies_above_it(lr: float, source: str, expected: str) -> None:
    assert expected in said("ceiling", lr, (0.2, 0.8), weight=0.0, source=source)


@pytest.mark.parametrize(
    ("fall", "expected"),
    [
        (0.25, " (more than usual, as at most 25% of the loss vanished in the sweep) for"),
        (0.5, " for"),
        (0.75, " (less than usual, as 75% of the loss vanished in the sweep) for"),
    ],
)
def test_a_head_gets_the_less_the_more_of_the_loss_was_gone(fall: float, expected: str) -> None:
    for source, until in (("edge and highest", "the highest LR tried"), ("edge and divergence", "where the loss had")):
        head = said("head", 0.01, (0.5, 0.8), source, part=HEAD.part / fall, weight=1.0)
        assert f"from the edge (0.5) and {until}" in head and f"(0.8) follows 0.01{expected}" in head


@pytest.mark.parametrize(("part", "told"), [(1.0, False), (0.5, True)])
def test_a_part_of_a_clipped_lr_is_told(part: float, told: bool) -> None:
    clipped = said("typical", 2.0 * part, (0.1, 2.0), part=part, source="clipping")
    assert "typical length is reached at lr=2, not at 0.1." in clipped
    assert (f"a part of it counts, {2 * part:g}." in clipped) == told


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"code": "groups", "values": (1.0, 0.1)}, "the reference parameter group; the groups train at 1, 0.1 times"),
        ({"code": "groups", "values": (0.5, *[1.0] * 5, 2.0)}, "the groups train at 0.5 to 2 times it"),
        ({"code": "groups", "values": (1.0, 0.1), "detail": "body"}, "those of the reference parameter group (body);"),
        ({"code": FAR, "lr": 0.1, "values": (0.01,), "detail": "timm cosine"}, "is 10 times timm's of 0.01"),
        ({"code": FAR, "lr": 0.1, "values": (1.0,), "detail": "timm cosine"}, "is 10 times below timm's of 1"),
        ({"code": "pretrained_contradicted", "detail": "trained"}, "signs of training. Leave `pretrained` out"),
        ({"code": "pretrained_contradicted", "detail": "fresh"}, "no signs of training. Check that they are loaded"),
        ({"code": "nonfinite", "lr": 0.1, "detail": "ValueError"}, "The next step raised ValueError after the update"),
        ({"code": "nonfinite", "lr": 0.1}, "The loss became nan or infinite after the update with lr=0.1."),
    ],
)
def test_a_finding_says_what_was_found(found: dict[str, Any], expected: str) -> None:
    assert expected in explain((), (Finding(**found),))[0]


def test_the_length_of_trials_is_that_of_those_that_did_not_diverge() -> None:
    trials = (Trial(lr=0.1, steps=25, loss=0.5), Trial(lr=0.4, steps=3, loss=None))
    record = TrialRecord(
        schedule="cosine", total_steps=400, budget_steps=100, initial_lr=0.1, start_loss=1.0, trials=trials
    )
    assert "after screening trials of 25 steps: 0.5 at lr 0.1, diverged at lr 0.4." in " ".join(explain_trials(record))
