"""Data sets as tensors: splitting, scaling, and where files come from."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Data:
    """Inputs and target of each part, in tensors with one row per sample."""

    train: tuple[Tensor, ...]
    val: tuple[Tensor, ...]


def split(inputs: Any, target: Any, val: float = 0.2) -> Data:
    """Split at random, always alike; ``val`` is the part for validation."""
    inputs, target = torch.as_tensor(inputs), torch.as_tensor(target)
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(1))
    held = round(val * len(inputs))
    first, rest = order[:held], order[held:]
    return Data(train=(inputs[rest], target[rest]), val=(inputs[first], target[first]))


def standard(data: Data) -> Data:
    """Scale every feature by mean and deviation of the training part."""
    (inputs, target), (held, held_target) = data.train, data.val
    mean, deviation = inputs.mean(0), inputs.std(0) + 1e-6
    return Data(train=((inputs - mean) / deviation, target), val=((held - mean) / deviation, held_target))


def scaled(values: Any, *axis: int) -> Any:
    """Scale a tensor or an array to mean 0 and deviation 1, all values alike or along an axis."""
    return (values - values.mean(*axis)) / values.std(*axis)


def sample_folder() -> Path:
    """Folder of the sample data that come with matplotlib."""
    return Path(matplotlib.get_data_path()) / "sample_data"


def data_folder() -> Path:
    """Folder of ``adult.csv`` and ``cifar10-small``, which ``bench_advice --data`` names."""
    return Path(os.environ["ADVICE_BENCH_DATA"])


def terrain() -> Tensor:
    """Heights of a mountain range (USGS), as a matrix."""
    with np.load(sample_folder() / "jacksboro_fault_dem.npz") as file:
        return torch.tensor(np.asarray(file["elevation"], dtype=np.float32))
