"""Data sets of tables and points."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn import datasets
from torch import Tensor

from advice_bench.tasks.data import Data, data_folder, scaled, split, standard, terrain


def _census() -> Any:
    return np.loadtxt(data_folder() / "adult.csv", delimiter=",", skiprows=1, dtype=np.float32)


def adult() -> Data:
    """Income above a bound (UCI census)."""
    table = _census()
    table[:, 3:5] = np.log1p(table[:, 3:5])  # capital gain and loss
    return standard(split(table[:, :-1], table[:, -1].astype(np.int64), val=0.1))


def census() -> Data:
    """Five levels of education from age, hours and income as categories, and three numbers."""
    table = _census()
    numbers = np.log1p(table[:, [1, 3, 4]])  # weight in the census, capital gain and loss
    levels = np.digitize(table[:, 2], (9, 10, 11, 13))
    return split(np.hstack([table[:, [0, 5, 6]], scaled(numbers, 0)]), levels, val=0.04)


def bundled(name: str, *, val: float = 0.2, raw: bool = False) -> Data:
    """A classification table that comes with scikit-learn; ``raw`` keeps its units, from tenths to a thousand."""
    inputs, target = getattr(datasets, f"load_{name}")(return_X_y=True)
    data = split(inputs.astype(np.float32), target, val)
    return data if raw else standard(data)


def diabetes(*, raw: bool = False) -> Data:
    """Progress of an illness; ``raw`` keeps the target at 25 to 346, for a squared error in the ten thousands."""
    inputs, target = datasets.load_diabetes(return_X_y=True)
    target = target if raw else scaled(target)
    return standard(split(inputs.astype(np.float32), target.astype(np.float32)[:, None]))


def teacher(scale: float = 1) -> Data:
    """A random two-layer net with strong noise on its output, whose best loss is far from zero, times a scale."""
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randn(4000, 20, generator=generator)
    hidden = torch.relu(inputs @ torch.randn(20, 30, generator=generator) / 20**0.5)
    clean = hidden @ torch.randn(30, 1, generator=generator) / 30**0.5
    return split(inputs, scale * (clean + 0.5 * torch.randn(4000, 1, generator=generator)))


def moons() -> Data:
    """Two interleaved half circles with a tenth of the labels wrong."""
    inputs, target = datasets.make_moons(1500, noise=0.15, random_state=0)
    wrong = np.random.default_rng(0).random(1500) < 0.1
    return split(inputs.astype(np.float32), np.where(wrong, 1 - target, target))


def friedman() -> Data:
    """Friedman's first regression problem: five features count, five do not."""
    inputs, target = datasets.make_friedman1(3000, n_features=10, noise=1.0, random_state=0)
    return split(inputs.astype(np.float32), target.astype(np.float32)[:, None])


def clusters() -> Data:
    """Six classes of two clusters each among 30 features, 10 of them informative, with some wrong labels."""
    kinds = {"n_features": 30, "n_informative": 10, "n_redundant": 6, "n_classes": 6, "flip_y": 0.05}
    inputs, target = datasets.make_classification(4000, **kinds, random_state=0)
    return standard(split(inputs.astype(np.float32), target.astype(np.int64)))


def terrain_points() -> Data:
    """Height of a mountain range (USGS) from coordinates, given as sines of several wavelengths."""
    height = scaled(terrain())
    rows, columns = (torch.linspace(-1, 1, size) for size in height.shape)
    places = torch.cartesian_prod(rows, columns)
    waves = torch.cat([wave(places * 3.14159 * 2**k) for k in range(5) for wave in (torch.sin, torch.cos)], 1)
    some = torch.randperm(len(waves), generator=torch.Generator().manual_seed(2))[:20_000]
    return split(waves[some], height.flatten()[some, None])


# Surfaces of revolution: radius and height for a place v along the profile, from 0 to 1.
SURFACES: dict[str, Callable[[Tensor], tuple[Tensor, Tensor]]] = {
    "sphere": lambda v: ((3.14159 * v).sin(), (3.14159 * v).cos()),
    "cylinder": lambda v: (torch.ones_like(v), 2 * v - 1),
    "cone": lambda v: (v, 2 * v - 1),
    "ring": lambda v: (0.7 + 0.3 * (6.28319 * v).cos(), 0.3 * (6.28319 * v).sin()),
    "hyperboloid": lambda v: (0.4 + 0.6 * (2 * v - 1) ** 2, 2 * v - 1),
    "disc": lambda v: (v.sqrt(), torch.zeros_like(v)),
    "double cone": lambda v: ((2 * v - 1).abs(), 2 * v - 1),
    "bowl": lambda v: (v.sqrt(), 2 * v - 1),
    "vase": lambda v: (0.6 + 0.3 * (6.28319 * v).sin(), 2 * v - 1),
    "spindle": lambda v: (0.5 * (3.14159 * v).sin(), 2 * v - 1),
}


def clouds(*surfaces: str) -> Data:
    """24 points each of :data:`SURFACES`, stretched and sheared; which surface it was is to be guessed."""
    generator = torch.Generator().manual_seed(9)
    parts = []
    for surface in surfaces:
        along, around = torch.rand(2, 600, 24, generator=generator)
        radius, height = SURFACES[surface](along)
        angle = 6.28319 * around
        points = torch.stack([radius * angle.cos(), radius * angle.sin(), height], 2)
        points = points @ (torch.eye(3) + 0.25 * torch.randn(600, 3, 3, generator=generator))
        parts.append(points + 0.08 * torch.randn(points.shape, generator=generator))
    return split(torch.cat(parts), torch.arange(len(surfaces)).repeat_interleave(600))
