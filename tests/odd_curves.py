"""Curves of every shape that a range test can record, and schedules of every kind, to be drawn."""

from __future__ import annotations

import numpy as np

from lrfinder.advice.advice import Advice
from lrfinder.recipes import recipe
from lrfinder.record.curve import LossCurve, StopReason, SweepConfig

NO_ADVICE = Advice(max_lr=None, base_lr=None, min_lr=None, interval=None, grade="none", reasons=("Flat.",))


def falls_and_breaks(lrs):
    return 0.4 + 1.9 / (1 + (lrs / 0.01) ** 0.9) + (lrs / 0.7) ** 3


def curve_of(loss, *, n=100, start_lr=1e-5, end_lr=1.0, mode="exp", noise=0.02, stop=StopReason.DIVERGED, **facts):
    config = SweepConfig(start_lr=start_lr, end_lr=end_lr, num_iter=max(n, 2), mode=mode)
    lrs = np.array([config.lr_at(i) for i in range(n)])
    losses = loss(lrs) + noise * np.random.default_rng(0).standard_normal(n)
    return LossCurve(lrs=tuple(lrs.tolist()), losses=tuple(losses.tolist()), stop=stop, config=config, **facts)


def advice_of(base_lr=0.09, max_lr=0.14, grade="high"):
    return Advice(
        max_lr=max_lr,
        base_lr=base_lr,
        min_lr=base_lr / 50,
        interval=(base_lr / 3, base_lr * 2),
        grade=grade,
        reasons=("A reason.",),
        edge_lr=None,
    )


ODD_CURVES = {
    "clean": curve_of(falls_and_breaks),
    "noisy": curve_of(falls_and_breaks, noise=0.3),
    "no point": curve_of(falls_and_breaks, n=0),
    "one loss, so no pair": curve_of(falls_and_breaks, n=1),
    "one pair": curve_of(falls_and_breaks, n=2),
    "two pairs": curve_of(falls_and_breaks, n=3),
    "constant": curve_of(lambda lrs: 2.3 + 0 * lrs, noise=0.0, stop=StopReason.COMPLETED),
    "zero": curve_of(lambda lrs: 0 * lrs, noise=0.0, stop=StopReason.COMPLETED),
    "only noise": curve_of(lambda lrs: 2.3 + 0 * lrs, stop=StopReason.COMPLETED),
    "never turned": curve_of(falls_and_breaks, end_lr=0.1, stop=StopReason.COMPLETED),
    "only rises": curve_of(lambda lrs: lrs**2),
    "nonfinite": curve_of(falls_and_breaks, end_lr=0.3, stop=StopReason.NONFINITE, nonfinite_lr=0.31),
    "nonfinite at once": curve_of(falls_and_breaks, n=0, stop=StopReason.NONFINITE),
    "interrupted": curve_of(falls_and_breaks, n=30, stop=StopReason.INTERRUPTED),
    "linear": curve_of(falls_and_breaks, start_lr=1e-3, mode="linear"),
    "one linear point": curve_of(falls_and_breaks, n=1, start_lr=1e-3, mode="linear"),
    "negative losses": curve_of(lambda lrs: falls_and_breaks(lrs) - 50),
    "validation": curve_of(falls_and_breaks, measured="after"),
    "ten orders of magnitude": curve_of(lambda lrs: falls_and_breaks(lrs) + 1e10 * np.maximum(lrs - 0.5, 0) ** 4),
    "huge losses": curve_of(lambda lrs: 1e300 * falls_and_breaks(lrs), noise=0.0),
    "almost infinite": curve_of(lambda lrs: falls_and_breaks(lrs) + 1e308 * (lrs > 0.9)),
    "tiny losses": curve_of(lambda lrs: 1e-300 * falls_and_breaks(lrs), noise=0.0),
}

RECIPES = {
    "onecycle": recipe("onecycle", peak_lr=0.1, epochs=30, steps_per_epoch=100),
    "onecycle without momentum": recipe("onecycle", peak_lr=0.1, total_steps=100, cycle_momentum=False),
    "cosine": recipe("cosine", peak_lr=0.1, total_steps=1000),
    "step, per epoch": recipe("step", peak_lr=0.1, epochs=90),
    "multistep": recipe("multistep", peak_lr=0.1, total_steps=1000),
    "exponential, long": recipe("exponential", peak_lr=0.1, total_steps=2_000_000),
    "linear, one step": recipe("linear", peak_lr=1e-5, total_steps=1, warmup_steps=0),
    "plateau": recipe("plateau", peak_lr=0.1),
    "plateau with epochs": recipe("plateau", peak_lr=0.1, epochs=20),
    "cyclic": recipe("cyclic", peak_lr=0.1, total_steps=1000),
    "restarts": recipe("restarts", peak_lr=0.1, total_steps=700),
    "wsd": recipe("wsd", peak_lr=3e-4, total_steps=5000),
    "constant": recipe("constant", peak_lr=0.1),
    "constant after warm-up": recipe("constant", peak_lr=0.1, warmup_steps=400),
}
