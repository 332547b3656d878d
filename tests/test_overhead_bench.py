"""The benchmark of cost: what it makes of seconds, and that it runs."""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"
sys.path.insert(0, str(SCRIPTS))

from overhead_bench import drawing, figures, report, tables, timing, turns  # noqa: E402
from overhead_bench.cases import CASES  # noqa: E402
from overhead_bench.contestants import AGAIN, BARE, OURS, Unable  # noqa: E402

PEER = "torch-lr-finder"


def seconds(ours: float, peer: float) -> dict[str, list[float]]:
    """Nine rounds on a machine whose speed drifts by half: ratios do not."""
    drift = [1.0 + turn / 16 for turn in range(9)]
    return {
        name: [ratio * slow for slow in drift]
        for name, ratio in ((BARE, 1.0), (AGAIN, 1.0), (OURS, ours), (PEER, peer))
    }


def test_a_ratio_is_taken_within_its_round() -> None:
    row = figures.summary(seconds(1.02, 1.2), steps=100)[OURS]
    assert row["ratio"] == pytest.approx(1.02)
    assert row["ratio_quartiles"] == pytest.approx([1.02, 1.02])
    assert row["added_us_per_step"] == pytest.approx(0.02 * 1.25 / 100 * 1e6)


def test_a_ratio_is_to_the_mean_of_the_two_bare_loops_of_the_round() -> None:
    times = {BARE: [1.0, 1.2], AGAIN: [1.2, 1.0], OURS: [1.1, 1.1]}
    rows = figures.summary(times, steps=10)
    assert rows[OURS]["ratio_quartiles"] == [1.0, 1.0]
    assert rows[BARE]["ratio"] == 1.0
    assert rows[AGAIN]["ratio_quartiles"] != [1.0, 1.0]


@pytest.mark.parametrize(("ours", "answer"), [(1.029, "yes"), (1.031, "NO")])
def test_the_limit_is_the_promise(ours: float, answer: str) -> None:
    lines = figures.verdict(figures.summary(seconds(ours, 2.0), 100), limit=1.03)
    assert f"at most 1.03 times the bare loop: {answer} (" in lines[0]


@pytest.mark.parametrize(("peer", "answer"), [(1.2, "yes"), (1.01, "NO")])
def test_against_the_others_rounds_are_counted(peer: float, answer: str) -> None:
    lines = figures.verdict(figures.summary(seconds(1.1, peer), 100), limit=2.0)
    assert lines[1].startswith(f"less than every other finder: {answer} ({PEER} comes nearest")


def test_a_race_that_goes_either_way_is_even() -> None:
    times = seconds(1.1, 1.1)
    times[PEER] = [own * (1.01 if turn % 2 else 0.99) for turn, own in enumerate(times[OURS])]
    assert ": even" in figures.verdict(figures.summary(times, 100), limit=2.0)[1]


def test_quartiles_of_one_value_are_that_value() -> None:
    assert figures.quartiles([3.0]) == (3.0, 3.0, 3.0)
    assert figures.quartiles([1.0, 2.0, 3.0]) == (1.5, 2.0, 2.5)


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0])
def test_growth_is_the_power_over_the_last_decade_whatever_is_below(exponent: float) -> None:
    sizes = [10.0, 30.0, 100.0, 300.0, 1000.0]
    costs = [7.0, 7.0, *(1e-3 * size**exponent for size in sizes[2:])]
    assert figures.growth(sizes, costs) == pytest.approx(exponent)
    assert figures.growth([1.0, 1000.0, 2000.0], [1.0, 2.0, 3.0]) is None


def test_batches_are_counted_once_for_a_finder_with_several_rules() -> None:
    peers = {str(run): {"fastai valley": {"batches": 90 + run}, "fastai steep": {"batches": 7}} for run in range(3)}
    found = figures.batches_by_rule({"a": {"batches": 60}}, peers)
    assert found[OURS] == {"quartiles": (60, 60, 60), "runs": 1}
    assert found["fastai"]["quartiles"][1] == 91 and found["fastai"]["runs"] == 3
    assert PEER not in found


def test_a_marked_block_is_filled_and_the_rest_stays() -> None:
    text = "a\n<!-- overhead: one -->\nold\nolder\n<!-- end -->\nb\n<!-- overhead: two -->\nkept\n<!-- end -->\n"
    assert report.filled(text, {"one": "new"}) == text.replace("old\nolder", "new")
    assert report.filled(report.filled(text, {"one": "new"}), {"one": "new"}) == text.replace("old\nolder", "new")


def test_without_a_run_on_a_gpu_the_page_names_the_command(tmp_path: Path) -> None:
    assert "`python scripts/bench_overhead gpu`" in tables.blocks(tmp_path)["ratio-cuda"]


class Player:
    """A call of so many updates, each of which takes so many seconds of a clock that stands still otherwise."""

    def __init__(self, clock: list[float], order: list[str], name: str, updates: int, lasting: float) -> None:
        self.clock, self.order, self.name, self.updates, self.lasting = clock, order, name, updates, lasting
        self.optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)

    def __call__(self) -> None:
        for _ in range(self.updates):
            self.clock[0] += self.lasting
            self.order.append(self.name)
            self.optimizer.step()
        self.clock[0] += 100.0  # what comes after the last update, as putting the state back


def play(lasting: dict[str, float], updates: int = 6) -> tuple[dict[str, float], list[str]]:
    clock, order = [0.0], []
    players = {name: Player(clock, order, name, updates, each) for name, each in lasting.items()}
    return turns.in_turns(players, lambda: clock[0], random.Random(0)), order


def test_calls_in_turns_have_their_own_seconds_and_no_others() -> None:
    seconds, order = play({"a": 1.0, "b": 2.0, "c": 0.5})
    assert seconds == {"a": 106.0, "b": 112.0, "c": 103.0}
    assert [sorted(order[i : i + 3]) for i in range(0, len(order), 3)] == [["a", "b", "c"]] * 6


def test_a_turn_of_short_updates_holds_many_of_them() -> None:
    short = turns.SHORTEST / 4
    seconds, order = play({"a": short, "b": short}, updates=8)
    assert seconds == pytest.approx({"a": 100 + 8 * short, "b": 100 + 8 * short})
    assert [len(list(own)) for _, own in itertools.groupby(order)] in ([4, 4, 4, 4], [4, 8, 4])


def test_one_call_by_itself_takes_all_turns() -> None:
    assert play({"a": 1.0}) == ({"a": 106.0}, ["a"] * 6)


def test_a_call_that_fails_says_so_and_lets_the_others_end() -> None:
    order: list[str] = []
    clock = [0.0]

    def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        turns.in_turns({"a": Player(clock, order, "a", 3, 1.0), "b": fail}, lambda: clock[0], random.Random(0))
    assert order == ["a"] * 3


def test_a_run_that_was_cut_short_is_shown_as_far_as_it_went(tmp_path: Path) -> None:
    point = {"parameters": 100, "snapshot": [1e-3], "sweep": [2e-3], "bare": [1e-3], "steps": 12}
    made = tables.figures({"scale": {"size | 8": point}}, "cpu")["scale"]
    assert "1 ms with 100 parameters" in tables.scale_sentence(made)
    assert len(tables.scale_tables(made)) == 5
    assert drawing.scales(made, tmp_path / "scales.png").exists()


@pytest.fixture
def race() -> Any:
    def run(names: list[str], steps: int = 12) -> Any:
        case, cpu = CASES["cpu"]["mlp"], torch.device("cpu")
        return timing.race(case, names, cpu, rounds=2, steps=steps, clock=time.perf_counter)

    return run


def test_contestants_take_turns_and_each_round_is_kept(race: Any) -> None:
    times, unable = race([BARE, AGAIN, OURS])
    assert not unable
    assert {name: len(own) for name, own in times.items()} == {BARE: 2, AGAIN: 2, OURS: 2}


def test_who_cannot_do_it_is_left_out_with_the_reason(race: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    contestant = timing.CONTESTANTS[PEER]
    idle = type(contestant)(package="x", module="x", prepare=lambda task: lambda: None, rival=True)
    monkeypatch.setitem(timing.CONTESTANTS, PEER, idle)
    times, unable = race([BARE, AGAIN, OURS, PEER])
    assert PEER not in times and unable == {PEER: "it made 0 updates instead of 12"}


def test_without_the_bare_loop_there_is_nothing_to_compare(race: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    idle = type(timing.CONTESTANTS[BARE])(package="x", module="x", prepare=lambda task: lambda: None)
    monkeypatch.setitem(timing.CONTESTANTS, BARE, idle)
    with pytest.raises(Unable, match="0 updates instead of 12"):
        race([BARE, AGAIN, OURS])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_its_part_says_so_in_one_sentence() -> None:
    run = subprocess.run(
        [sys.executable, str(SCRIPTS / "bench_overhead"), "gpu"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 2
    assert run.stderr.startswith("Error: there is no CUDA device here") and run.stderr.count("\n") == 1
