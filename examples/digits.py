"""The data of the examples: the 1,797 handwritten digits that ship with lrfinder."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources

import numpy as np
import torch
from torch.utils.data import TensorDataset


def load_digits(classes: Sequence[int] = range(10)) -> tuple[TensorDataset, TensorDataset]:
    """Load training images and one in five held out, always with the same split.

    Args:
        classes: digits to keep; a label is the position of its digit in this sequence.

    Returns:
        Training and test set of (image, label): float32 of shape (1, 8, 8) from 0 to 1, and int64.
    """
    with resources.files("lrfinder.tasks").joinpath("data/digits.npz").open("rb") as file:
        content = np.load(file)
        images = torch.from_numpy(content["images"]).float().div(16).unsqueeze(1)
        digits = torch.from_numpy(content["labels"])
    order = torch.randperm(len(digits), generator=torch.Generator().manual_seed(0))
    kept = [int(i) for i in order if int(digits[i]) in classes]
    labels = torch.tensor([classes.index(int(digits[i])) for i in kept])
    held_out = len(kept) // 5
    return (
        TensorDataset(images[kept[held_out:]], labels[held_out:]),
        TensorDataset(images[kept[:held_out]], labels[:held_out]),
    )
