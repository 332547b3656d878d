"""The decision line: one learning rate with its bounds, the same in every output, and true for every grade."""

from __future__ import annotations

import dataclasses
import json
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from curves import breaks, curve_of, flat
from hypothesis import given
from hypothesis import strategies as st
from odd_curves import ODD_CURVES

from lrfinder import Advice, RangeTestResult, StopReason
from lrfinder.analysis.finding import Finding
from lrfinder.cli import main
from lrfinder.display.decision import decide
from lrfinder.errors import FileFormatError
from lrfinder.record.run import RunRecord

SETUP: dict[str, Any] = {
    **{"model": "resnet18", "data": "digits", "optimizer": "SGD", "optimizer_options": {"momentum": 0.9}},
    **{"weights": None, "batch_size": 64, "accumulation_steps": 1, "steps_per_epoch": 28, "seed": 0},
}
RECIPE = "torchvision's recipe at your batch: 0.025"


def advice_of(**changes: Any) -> Advice:
    numbers = {"max_lr": 0.011, "base_lr": 0.011, "min_lr": 0.0001, "interval": (0.002, 0.02), "grade": "high"}
    return Advice(**{**numbers, "reasons": ("Clear.",), "edge_lr": 0.015, "diverged_lr": 0.038, **changes})


def run_of(schedule: str = "cosine", entry: str | None = "IMAGENET1K_V1", **changes: Any) -> RunRecord:
    return RunRecord(setup={**SETUP, **changes}, schedule=schedule, epochs=10, entry=entry)


def test_the_line_has_the_rate_its_interval_the_limit_and_the_recipe() -> None:
    expected = f"Use 0.011 (0.002 to 0.02); never above 0.024. {RECIPE} (SGD)."
    assert decide(advice_of(), run_of()).text == expected


def test_without_a_run_or_a_recipe_nothing_is_said_of_one() -> None:
    alone = "Use 0.011 (0.002 to 0.02); never above 0.024."
    ported = run_of(model="efficientnet_b0", entry="IMAGENET1K_V1")
    assert [decide(advice_of(), run).text for run in (None, run_of(entry=None), ported)] == [alone] * 3


@pytest.mark.parametrize(
    ("scales", "name", "words"),
    [
        ((1.0, 0.1), "", "Use 0.011 for parameter group 0 (0.002 to 0.02); never above 0.024."),
        ((1.0, 10.0), "", "group 0 (0.002 to 0.02); never above 0.024. Parameter group 1 then has 0.11."),
        ((1.0, 2.0, 4.0, 4.0), "lr_scale 0.25", "0.02); never above 0.024. Parameter group 2 then has 0.044."),
        ((0.0, 1.0, 10.0), "backbone", "group 1, backbone (0.002 to 0.02); never above 0.024. Parameter group 2 then"),
        ((0.0, 1.0, 2.0), "group 0 of optimizer[1]", "Use 0.011 for group 0 of optimizer[1] (0.002 to 0.02); never"),
    ],
)
def test_the_line_says_which_of_several_groups_it_is_for(scales: tuple[float, ...], name: str, words: str) -> None:
    found = Finding(code="groups", values=scales, detail=name)
    assert words in decide(advice_of(findings=(found,))).text
    parts = {"lr_of": "all but the head", "head_lr_scale": 10.0}  # which say it in the user's words
    assert "Use 0.011 for all but the head (" in decide(advice_of(findings=(found,)), run_of(**parts)).text


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"batch_size": 16, "accumulation_steps": 4}, f"{RECIPE} (SGD)."),
        ({"weights": "DEFAULT"}, f"{RECIPE} (SGD, from random weights)."),
        (
            {"optimizer": "AdamW", "optimizer_options": {}},
            f"{RECIPE} (SGD(momentum=0.9), not comparable with AdamW).",
        ),
    ],
)
def test_the_recipe_says_what_it_is_for(changes: dict[str, Any], words: str) -> None:
    assert decide(advice_of(), run_of(**changes)).sentences[1] == words


def test_a_peak_of_the_schedule_that_is_another_number_is_named() -> None:
    decision = decide(advice_of(max_lr=0.014), run_of("onecycle"))
    assert decision.sentences[0] == "Use 0.011 (0.002 to 0.02), as peak of onecycle 0.014; never above 0.024."
    assert decision.schedule_lr == 0.014
    assert "peak" not in decide(advice_of(), run_of("cosine")).text


@pytest.mark.parametrize("limits", [{"diverged_lr": None}, {"edge_lr": None, "diverged_lr": None}])
def test_no_limit_is_given_below_what_is_advised(limits: dict[str, Any]) -> None:
    assert decide(advice_of(**limits)).text == "Use 0.011 (0.002 to 0.02)."


def test_the_edge_is_the_limit_where_the_loss_did_not_diverge() -> None:
    assert decide(advice_of(diverged_lr=None, edge_lr=0.021)).text.endswith("; never above 0.021.")


@given(edge=st.floats(0.002, 0.02), beyond=st.floats(1.0, 50))
def test_the_limit_is_halfway_from_edge_to_divergence_or_what_is_advised(edge: float, beyond: float) -> None:
    diverged = max(0.021, edge * beyond)
    limit = decide(advice_of(edge_lr=edge, diverged_lr=diverged)).limit
    assert limit == pytest.approx(max(0.02, (edge * diverged) ** 0.5), rel=0.05)


def test_a_low_grade_is_a_hint() -> None:
    assert decide(advice_of(grade="low")).text.startswith("Only a hint: 0.011 (0.002 to 0.02)")


def test_an_optimizer_with_its_own_step_size_keeps_its_number() -> None:
    result = RangeTestResult(curve=curve_of(breaks, optimizer="Prodigy", stop=StopReason.DIVERGED))
    assert result.decision.text == "Keep 1: Prodigy sets its own step size."


@pytest.mark.parametrize(
    "name, cause",
    [
        ("constant", "the loss neither falls nor rises"),
        ("nonfinite at once", "the loss became nan or infinite too early"),
        ("one pair", "it has too few points"),
    ],
)
def test_a_curve_without_advice_says_why_and_keeps_the_recipe(name: str, cause: str) -> None:
    result = RangeTestResult(curve=ODD_CURVES[name], run=run_of())
    assert result.decision.text == f"No learning rate can be read from this curve: {cause}. {RECIPE} (SGD)."
    assert (result.decision.lr, result.decision.schedule_lr, result.decision.reference_lr) == (None, None, 0.025)


@given(
    base=st.floats(1e-6, 10),
    spread=st.floats(1, 30),
    limit=st.none() | st.floats(1e-7, 100),
    peak=st.floats(0.5, 3),
)
def test_nothing_advised_is_above_the_limit(base: float, spread: float, limit: float | None, peak: float) -> None:
    interval = (base / spread, base * spread)
    advice = advice_of(base_lr=base, max_lr=base * peak, interval=interval, diverged_lr=limit, edge_lr=None)
    decision = decide(advice, run_of("onecycle"))
    assert decision.limit is None or max(interval[1], base * peak) <= decision.limit
    assert json.loads(json.dumps(decision.to_dict(), allow_nan=False))["text"] == decision.text


@pytest.mark.parametrize("run", [None, run_of()])
def test_text_notebook_and_json_begin_with_the_decision(run: RunRecord | None, tmp_path: Path) -> None:
    result = RangeTestResult(curve=flat(optimizer="SGD"), advice=advice_of(), run=run)
    assert tuple(str(result).splitlines()[: len(result.decision.sentences)]) == result.decision.sentences
    assert result.decision.text in unescape(result._repr_html_())
    path = result.save(tmp_path / "x.json")
    assert RangeTestResult.load(path) == result
    shown = CliRunner().invoke(main, ["show", str(path)], prog_name="lrfind").stdout
    assert shown.startswith(result.decision.sentences[0])
    content = json.loads(CliRunner().invoke(main, ["show", str(path), "--json"], prog_name="lrfind").stdout)
    assert next(iter(content)) == "decision" and content["decision"]["text"] == result.decision.text


def test_run_prints_the_decision_first_and_saves_what_was_run(tmp_path: Path) -> None:
    arguments = ["run", "squeezenet1_1", "--num-iter", "4", "--batch-size", "8", "--start-lr", "1e-4", "--end-lr", "1"]
    done = CliRunner().invoke(main, [*arguments, "--out", str(tmp_path)], prog_name="lrfind")
    result = RangeTestResult.load(tmp_path / "squeezenet1_1-sgd.json")
    assert done.stdout.splitlines()[:2] == list(result.decision.sentences)
    assert result.decision.sentences[1] == "torchvision's recipe at your batch: 0.00063 (SGD)."
    assert result.run is not None
    assert result.run.setup["seed"] == 0 and set(result.run.setup["versions"]) > {"torch", "torchvision"}
    printed = CliRunner().invoke(main, [*arguments, "--json", "--out", str(tmp_path)], prog_name="lrfind").stdout
    assert json.loads(printed)["decision"] == json.loads(json.dumps(result.decision.to_dict()))


def test_a_second_optimizer_does_not_overwrite_the_first(tmp_path: Path) -> None:
    sizes = ["--num-iter", "4", "--batch-size", "8", "--start-lr", "1e-4", "--end-lr", "1", "--out", str(tmp_path)]
    for optimizer in ("SGD", "AdamW"):
        CliRunner().invoke(main, ["run", "squeezenet1_1", "--optimizer", optimizer, *sizes], prog_name="lrfind")
    assert sorted(path.name for path in tmp_path.glob("*.json")) == [
        "squeezenet1_1-adamw.json",
        "squeezenet1_1-sgd.json",
    ]


@pytest.mark.parametrize(
    "damage",
    [
        {"schedule": "zigzag"},
        {"epochs": 0},
        {"entry": 3},
        {"setup": {}},
        {"setup": []},
        {"setup": {**SETUP, "batch_size": "64"}},
        {"setup": {**SETUP, "model": None}},
        {"setup": {**SETUP, "steps_per_epoch": 10**15}, "epochs": 10**15},
        {"setup": {**SETUP, "batch_size": 10**15, "accumulation_steps": 10**15}},
        {"setup": {**SETUP, "optimizer_options": [1]}},
        {"more": 1},
    ],
    ids=str,
)
def test_a_damaged_run_in_a_file_is_refused_in_one_sentence(damage: dict[str, Any]) -> None:
    content = RangeTestResult(curve=flat(), run=run_of()).to_dict()
    content["run"] = {**content["run"], **damage}
    with pytest.raises(FileFormatError, match="the saved result is damaged"):
        RangeTestResult.from_dict(content)


def test_a_file_of_before_has_no_run() -> None:
    content = RangeTestResult(curve=flat()).to_dict()
    del content["run"]
    assert RangeTestResult.from_dict(content).run is None


def test_a_run_stays_equal_through_json_with_tuples_of_options() -> None:
    run = run_of(optimizer="AdamW", optimizer_options={"betas": (0.9, 0.99)})
    assert RunRecord.from_dict(json.loads(json.dumps(run.to_dict()))) == run
    assert dataclasses.replace(run, epochs=3).total_steps == 84
    assert len({run, RunRecord.from_dict(run.to_dict())}) == 1
