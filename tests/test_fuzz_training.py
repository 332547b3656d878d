"""No trace, whatever is combined: models, optimizers, loaders, options and faults drawn by seed.

``FUZZ_SEEDS=1000:2000 pytest tests/test_fuzz_training.py`` runs other seeds than those of the suite.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
from fuzz_data import LOADERS
from fuzz_faults import HOWS, PLACES, Fault, armed
from fuzz_models import FEATURES
from fuzz_worlds import COMPANIONS, CRITERIA, OPTIMIZERS, RANGES, Combination, Training, visible

SEEDS = 160
FIRST, LAST = (int(number) for number in os.environ.get("FUZZ_SEEDS", f"0:{SEEDS}").split(":"))
STEPS = 3


@pytest.mark.parametrize("seed", range(FIRST, LAST))
def test_training_after_any_range_test_is_training_without_it(seed: int) -> None:
    combination = Combination.of(seed)
    twin = Training(combination)
    expected_losses = twin.train(STEPS)
    expected = visible(twin)
    training = Training(combination)
    before = visible(training, identities=True)
    fault = training.fault()
    raised = run(training, fault)
    check(combination, before, visible(training, identities=True), "right after the range test")
    losses = training.train(STEPS)
    assert losses == expected_losses, failure(combination, "the losses of the training after it")
    check(combination, expected, visible(training), "after the training that follows")
    if fault is not None:
        check_outcome(combination, fault, raised)
    else:
        assert raised is None, failure(combination, f"raised {raised!r}")


def test_the_seeds_of_the_suite_draw_every_part() -> None:
    drawn = [Combination.of(seed) for seed in range(SEEDS)]
    parts = {name for each in drawn for name in (*each.features, *each.companions, each.loader, each.criterion)}
    assert parts == {*FEATURES, *COMPANIONS, *LOADERS, *CRITERIA}
    assert {each.optimizer for each in drawn} == set(OPTIMIZERS)
    assert {each.range for each in drawn} == set(RANGES)
    faults = [each.fault for each in drawn if each.fault is not None]
    assert {place for place, *_ in faults} == set(PLACES)
    assert {how for _, how, *_ in faults} == set(HOWS)


def run(training: Training, fault: Fault | None) -> BaseException | None:
    """Run the range test with that fault; the exception that came out."""
    try:
        with armed(fault):
            training.range_test()
    except BaseException as error:
        return error
    return None


def check(combination: Combination, expected: dict[str, Any], found: dict[str, Any], when: str) -> None:
    """Fail with the first values that differ, and how to see it again."""
    absent = "nothing"
    paths = [path for path in (expected | found) if expected.get(path, absent) != found.get(path, absent)]
    lines = [f"{path}: {expected.get(path, absent)!s:.90} -> {found.get(path, absent)!s:.90}" for path in paths[:8]]
    assert not paths, failure(combination, f"{len(paths)} values differ {when}:\n" + "\n".join(lines))


def check_outcome(combination: Combination, fault: Fault, raised: BaseException | None) -> None:
    """A fault that happened comes out as it is; what divergence may have caused can also end the sweep."""
    if fault.how in ("nan", "inf") or not fault.struck:
        expected = raised is None
    elif fault.how == "interrupt":
        expected = isinstance(raised, KeyboardInterrupt)
    else:
        same = raised is not None and fault.raised in (raised, raised.__cause__ or raised)
        as_warning = fault.how == "warning" and isinstance(raised, Warning)
        at_divergence = raised is None and fault.how != "exit" and combination.range != "calm"
        expected = same or as_warning or at_divergence
    assert expected, failure(combination, f"the fault was {fault}, and out came {raised!r}")


def failure(combination: Combination, what: str) -> str:
    """What failed, the combination, and how to run it alone."""
    seed = combination.seed
    command = f"FUZZ_SEEDS={seed}:{seed + 1} python -m pytest tests/test_fuzz_training.py"
    return f"{what}\n{combination}\nRun it alone: {command}"
