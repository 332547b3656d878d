"""Cells of a new head alone on a frozen trunk whose weights are trained and which runs as in evaluation.

The features of such a trunk do not change, so they are computed once: a training then takes a second, and is the same
as with the trunk in every step. The model still holds the trunk, so a range test finds the facts that it would find.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from situations import images, language, sentences
from situations.cell import Training, shuffled
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from trained_packages import weights

__all__ = ["OPTIMIZERS", "TRUNKS", "head", "untrained"]

MOST = 6_000  # samples for training
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": partial(torch.optim.SGD, lr=0.01, momentum=0.9),
    "adamw": partial(torch.optim.AdamW, lr=1e-3),
}


class Voice(nn.Module):
    """The speaker encoder of Resemblyzer, of which the embeddings have norm 1, with a new head of 10 classes."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.linear = nn.LSTM(40, 256, 3, batch_first=True), nn.Linear(256, 256)
        stored = weights("resemblyzer", "pretrained.pt")["model_state"]
        self.load_state_dict({name: value for name, value in stored.items() if not name.startswith("similarity")})
        self.head = nn.Linear(256, 10)

    def forward(self, mels: torch.Tensor) -> torch.Tensor:
        embedded = F.relu(self.linear(self.lstm(mels)[1][0][-1]))
        return self.head(F.normalize(embedded, dim=1))  # type: ignore[no-any-return]


class Unit(sentences.Classifier):
    """MiniLM as its authors use it: the embedding of a sentence has norm 1."""

    def __init__(self) -> None:
        super().__init__(sentences.MODULES, "whole")
        self.head = nn.Sequential(Norm1(), self.head)  # type: ignore[assignment]


class Norm1(nn.Module):
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return F.normalize(inputs, dim=1)


def rows(data: Path, seed: int) -> Training:
    """The rows of grey images as the frames of a sound, which they are not: what is trained is far from what was."""
    sets = [images.tensors(data, part, most) for part, most in (("train", MOST), ("test", 1_000))]
    frames = [F.pad(each.tensors[0].float().mean(1) / 255, (4, 4)) for each in sets]
    ours, held = (TensorDataset(mels, each.tensors[1]) for mels, each in zip(frames, sets, strict=True))
    return untrained(Voice(), ours, held, seed)


def characters(data: Path, seed: int) -> Training:
    """The first characters of film reviews, for the character model of textgenrnn: whether they praise."""
    folder = data / "textgenrnn"
    names = language.vocabulary(folder)

    def coded(texts: list[str], classes: list[int]) -> TensorDataset:
        cut = [text.ljust(language.CHARACTERS)[: language.CHARACTERS] for text in texts]
        ids = [[names.get(character, 0) for character in text] for text in cut]
        return TensorDataset(torch.tensor(ids), torch.tensor(classes))

    model = language.CharacterModel(folder / "textgenrnn_weights.hdf5")
    model.out = nn.Linear(model.out.in_features, 2)
    ours, held = sentences.sst2(data)
    return untrained(model, coded(*ours), coded(*held), seed)


def unit77(data: Path, seed: int) -> Training:
    run = sentences.minilm(data, seed, texts="stdlib77")
    return Training(model=Unit(), optimizer=run.optimizer, loader=run.loader, validation=run.validation)


def untrained(model: nn.Module, ours: TensorDataset, held: TensorDataset, seed: int) -> Training:
    update = torch.optim.SGD(model.parameters(), 0.01)
    return Training(model=model, optimizer=update, loader=shuffled(ours, 32, seed), validation=DataLoader(held, 64))


TRUNKS: dict[str, tuple[Callable[[Path, int], Training], str]] = {  # a training, and the name of its head
    "effnet": (partial(images.efficientnet, optimizer="SGD"), "_fc"),
    "sst2": (partial(sentences.minilm, texts="sst2"), "head"),
    "stdlib77": (partial(sentences.minilm, texts="stdlib77"), "head"),
    "unit77": (unit77, "head.1"),
    "digits": (images.digits, "fc_layers.2"),
    "onet": (images.onet, "head"),
    "characters": (characters, "out"),
    "voice": (rows, "head"),
}


@dataclass(frozen=True, kw_only=True)
class Features:
    """A frozen trunk with all that it makes of the data, and the number of classes."""

    trunk: nn.Module
    ours: tuple[torch.Tensor, torch.Tensor]
    held: tuple[torch.Tensor, torch.Tensor]
    classes: int


@functools.cache
def features(data: Path, trunk: str) -> Features:
    build, head = TRUNKS[trunk]
    run: Any = build(data, 0)
    model = run.model.eval().requires_grad_(False)
    classes = model.get_submodule(head).out_features
    model.set_submodule(head, nn.Identity())
    parts = []
    for loader in (DataLoader(run.loader.dataset, 50, collate_fn=run.loader.collate_fn), run.validation):
        with torch.no_grad():
            pairs = [(model(inputs), target) for inputs, target in islice(loader, MOST // 50)]
        made, targets = map(torch.cat, zip(*pairs, strict=True))
        parts.append((made, targets))
    return Features(trunk=model, ours=parts[0], held=parts[1], classes=classes)


class Head(nn.Module):
    """A new head on the features of a trunk that is not run."""

    def __init__(self, trunk: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.trunk, self.head = trunk, head

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.head(features)  # type: ignore[no-any-return]


def head(data: Path, seed: int, *, trunk: str, optimizer: str, batch: int, hidden: bool) -> Training:
    """A new head alone, linear or with a hidden layer of 256; momentum 0.9 with "sgd"."""
    known = features(data, trunk)
    width = known.ours[0].shape[1]
    torch.manual_seed(seed)
    widths = (width, 256) if hidden else (width,)
    layers = [layer for pair in zip(widths, widths[1:]) for layer in (nn.Linear(*pair), nn.ReLU())]
    model = Head(known.trunk, nn.Sequential(*layers, nn.Linear(widths[-1], known.classes)))
    return Training(
        model=model,
        optimizer=OPTIMIZERS[optimizer](model.head.parameters()),
        loader=images.Batches(*known.ours, batch, seed),
        validation=images.Batches(*known.held, 100),
    )
