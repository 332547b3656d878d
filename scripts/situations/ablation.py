"""What each rule of the advice is worth: the regret of the stored range tests without it, less that with it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

import pandas as pd
from advice_bench.results import load_cases
from situations.cells import CELLS
from situations.report import SEEDS, judged, truth_of
from situations.results import ADVICE_RESULTS, key

from lrfinder.advice.advise import advise
from lrfinder.advice.combine import Estimate, combine
from lrfinder.advice.evidence import Evidence
from lrfinder.analysis.probe import without_probe
from lrfinder.record.curve import LossCurve
from lrfinder.tables import situations
from lrfinder.tables.constants import ByRule
from lrfinder.tables.heads import HEAD

__all__ = ["without_each"]

INTRODUCTION = """## What each rule is worth

Mean regret of the stored range tests without a rule, less that with it, in points: above zero the rule lowers the
regret. The other rules and the fitted constants stay as they are. "Moved" is how many range tests get another learning
rate; a place is empty where none does. "Small networks" are the trainings of `scripts/bench_advice`; "tuned" are
networks tuned whole or partly and adapters; "heads" include single linear layers; "others" are the rest of this page.
The size of the loss matters for losses in another unit, which few of these trainings have. The last two rows are all
rules, and every learning rate times a factor.
"""
GROUPS = {
    "small networks": ("small networks",),
    "tuned": ("fine-tuned", "partly tuned", "adapters", "tuned in other ways"),
    "longer tuned": ("longer fine-tuning",),
    "heads": ("head", "head, no momentum", "head, training mode", "one linear layer"),
    "optimizers": ("other optimizer",),
}
NONE = Evidence(name="ceiling", lr=math.inf, weight=0.0, part=1.0, seen=(1.0, 1.0), source="highest")


def flat(law: situations.Law) -> situations.Law:
    """A law under which nothing changes."""
    same = ByRule(proportional=0.0, adaptive=0.0)
    return dataclasses.replace(law, below=same, above=same)


def head(**changes: Any) -> dict[str, Any]:
    """Other constants of a head, in each module that reads them."""
    changed = dataclasses.replace(HEAD, **changes)
    return {f"{module}.HEAD": changed for module in ("heads", "combine", "laws")}


def times(factor: float) -> dict[str, Any]:
    """All rules, and every learning rate times a factor."""

    def changed(*args: Any, **options: Any) -> Estimate:
        found = combine(*args, **options)
        return dataclasses.replace(found, base_lr=factor * found.base_lr, ceiling=factor * found.ceiling)

    return {"advise.combine": changed}


RULES: dict[str, dict[str, Any]] = {
    "typical learning rate of the optimizer": {"combine.typical_evidence": lambda *_: None},
    "the curve (low region, limit and ceiling)": {
        "combine._low_region": lambda *_: None,
        "combine._limit": lambda *_: None,
        "combine._ceiling": lambda *_: NONE,
    },
    "low region": {"combine._low_region": lambda *_: None},
    "limit": {"combine._limit": lambda *_: None},
    "ceiling": {"combine._ceiling": lambda *_: NONE},
    "a divergence far above the edge counts as nearer": {"combine._DIVERGES_WITHIN": math.inf},
    "half fall of a bounded loss": {"plateau.half_fallen": lambda _: None, "combine.half_fallen": lambda _: None},
    "batch size": {"laws.BATCH_SIZE": flat(situations.BATCH_SIZE)},
    "model size": {
        "laws.MODEL_SIZE": flat(situations.MODEL_SIZE),
        "laws.LAYER_NORM_SIZE": flat(situations.LAYER_NORM_SIZE),
    },
    "steeper with layer normalisation": {"laws.LAYER_NORM_SIZE": situations.MODEL_SIZE},
    "length beyond 2000 steps": {"laws.LENGTH": flat(situations.LENGTH)},
    "length beyond 400 steps of tuned weights": {"laws.TUNING_LENGTH": situations.LENGTH},
    "size of the loss": {"typical.size_factor": lambda *_: 1.0},
    "typical learning rate of clipped SGD": {"typical.clipped_lr": lambda *_: None},
    "trained weights": {"laws.TRAINED": flat(situations.TRAINED)},
    "trained weights by their share": {"laws._trained_part": lambda _: 1.0},
    "less weight of the low region for trained weights": {"combine.situation_of": lambda _: None},
    "probe": {},
    "a head has its own limit": {"combine.head_weight": lambda _: 0.0},
    "head: fall of the loss": {"combine.head_fall": lambda *_: HEAD.usual_fall},
    "head: variation of the features": head(variation=flat(HEAD.variation)),
    "head: momentum": head(momentum=flat(HEAD.momentum)),
    "head: length": head(length=flat(HEAD.length)),
    "one linear layer is partly a head": head(linear_weight=0.0),
    "(times 0.7)": times(0.7),
    "(times 1.4)": times(1.4),
}


def stored(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All range tests whose cell has a ground truth."""
    tests = [
        {"cell": case.cell, "group": "small networks", "held": case.held_out, "truth": case.truth, "curve": curve}
        for case in load_cases(ADVICE_RESULTS)
        for curve in case.curves
    ]
    group_of = {situation: group for group, names in GROUPS.items() for situation in names}
    for cell in CELLS:
        truth = truth_of(cell, content)
        found = {"cell": cell, "group": group_of.get(cell.situation, "others"), "held": cell.split == "held-out"}
        curves = [content["sweeps"].get(key(cell.name, seed)) for seed in SEEDS]
        tests += [found | {"truth": truth, "curve": LossCurve.from_dict(each)} for each in curves if each and truth]
    return tests


def scored(tests: list[dict[str, Any]], seen: Callable[[LossCurve], LossCurve] = lambda curve: curve) -> pd.DataFrame:
    """Advice and regret of each range test."""
    rows = [judged(each["cell"], advise(seen(each["curve"])), each["truth"]) for each in tests]
    return pd.DataFrame(rows)[["advice", "regret"]].astype(float)


def without_each(content: Mapping[str, Any]) -> str:
    """The section of the page: a row for each rule."""
    tests = stored(content)
    names = [f"{each['group']} ({'held-out' if each['held'] else 'fit'})" for each in tests]
    usual, rows = scored(tests), []
    for rule, patches in RULES.items():
        with ExitStack() as stack:
            for target, replacement in patches.items():
                stack.enter_context(patch(f"lrfinder.advice.{target}", replacement))
            found = scored(tests, without_probe) if rule == "probe" else scored(tests)
        moved = found["advice"].fillna(0) != usual["advice"].fillna(0)
        differences = 100 * (found["regret"] - usual["regret"]).groupby(names).mean()[moved.groupby(names).any()]
        shown = {name: f"{value:+.1f}" for name, value in differences.items()}
        rows.append({"without": rule, "moved": moved.sum(), **dict.fromkeys(sorted(set(names)), ""), **shown})
    counts = ", ".join(f"{name} {count}" for name, count in pd.Series(names).value_counts(sort=False).items())
    table = pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True)
    return f"{INTRODUCTION}\n{table}\n\nRange tests: {counts}."
