"""Cells of one linear layer: on the features of a trained trunk, computed beforehand, and on data as they come."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from situations import scratch
from situations.cell import Training
from situations.heads import OPTIMIZERS, features
from situations.scratch import Rows, cifar, parted, standardised, training
from situations.sentences import sst2
from torch import nn

__all__ = ["linear"]


def digits(data: Path) -> tuple[Rows, Rows]:
    """Pixels of handwritten digits, from 0 to 16."""
    from sklearn.datasets import load_digits

    return _parted(*load_digits(return_X_y=True))


def cancer(data: Path) -> tuple[Rows, Rows]:
    """Whether a tumour is malignant, from 30 numbers of usual size."""
    from sklearn.datasets import load_breast_cancer

    inputs, classes = load_breast_cancer(return_X_y=True)
    return _parted(standardised(inputs), classes)


def census(data: Path) -> tuple[Rows, Rows]:
    """Income above or below 50,000, from six numbers of usual size."""
    table = scratch.census(data)
    return _parted(standardised(table[:, :6]), table[:, 6])


def pixels(data: Path) -> tuple[Rows, Rows]:
    """Small photographs, flat and scaled as ImageNet's."""
    (ours, classes), (held, others) = cifar(data, 5_000)
    return (ours.flatten(1), classes), (held.flatten(1), others)


def words(data: Path) -> tuple[Rows, Rows]:
    """Film reviews as their words, weighted by how rare they are (tf-idf)."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    (texts, classes), (held, others) = sst2(data, held=800)
    vectors = TfidfVectorizer(min_df=3, max_features=5000).fit(texts)
    ours, theirs = (torch.from_numpy(vectors.transform(each).toarray()).float() for each in (texts, held))
    return (ours, torch.tensor(classes)), (theirs, torch.tensor(others))


def _parted(inputs: np.ndarray, classes: np.ndarray) -> tuple[Rows, Rows]:
    tensors = torch.from_numpy(inputs.astype(np.float32)), torch.from_numpy(classes.astype(np.int64))
    return parted(*tensors, max(len(inputs) // 5, 100))


DATA: dict[str, Callable[[Path], tuple[Rows, Rows]]] = {
    each.__name__: functools.cache(each) for each in (digits, cancer, census, pixels, words)
}


def linear(data: Path, seed: int, *, source: str, optimizer: str, batch: int) -> Training:
    """A linear layer on features of a trunk or on the data of that name; momentum 0.9 with "sgd", none with "plain"."""
    if source in DATA:
        ours, held = DATA[source](data)
    else:
        ours, held = features(data, source).ours, features(data, source).held
    torch.manual_seed(seed)
    model = nn.Linear(ours[0].shape[1], int(ours[1].max()) + 1)
    return training(model, OPTIMIZERS[optimizer](model.parameters()), ours, held, batch, seed)
