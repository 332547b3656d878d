"""Cells on images: CIFAR-10 (``cifar10-20k`` in the folder of data) and the digits of scikit-learn."""

from __future__ import annotations

import functools
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from situations.cell import Collate, Loader, Training, shuffled
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from trained_packages import efficientnet_lite, weights

__all__ = ["digits", "efficientnet", "onet", "tutorial"]

MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)  # of ImageNet, as EfficientNet-Lite was trained
STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
Rows = list[tuple[torch.Tensor, torch.Tensor]]


@functools.cache
def cifar(data: Path, part: str, most: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The first images (n, 3, 32, 32), uint8 in the memory order of their files, and their classes."""
    from PIL import Image

    stored = np.load(data / "cifar10-20k" / f"{part}.npz")
    offset, jpeg = stored["offset"], stored["jpeg"]
    count = min(most, len(offset) - 1)
    files = (io.BytesIO(jpeg[offset[i] : offset[i + 1]].tobytes()) for i in range(count))
    pixels = np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2), torch.from_numpy(stored["label"][:count].astype(np.int64))


def grey(data: Path, part: str, most: int, cut: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The same without colours, from 0 to 1, and without ``cut`` pixels at each side."""
    photos, classes = cifar(data, part, most)
    return photos.float().mean(1, keepdim=True)[:, :, cut:-cut, cut:-cut] / 255, classes


def tensors(data: Path, part: str, most: int) -> TensorDataset:
    images, classes = cifar(data, part, most)
    return TensorDataset(images.contiguous(), classes)


def tutorial(data: Path, seed: int) -> Training:
    """The net of PyTorch's CIFAR-10 tutorial, batch 4; its two epochs become five of the 20,000 images here."""
    torch.manual_seed(seed)
    convolutions = [nn.Conv2d(3, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)]
    dense = [nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)]
    model = nn.Sequential(*convolutions, nn.Flatten(), *dense)
    (images, classes), (held, held_classes) = cifar(data, "train", 20_000), cifar(data, "test", 3_000)
    return Training(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), 0.001, momentum=0.9),
        loader=Batches(images.float() / 127.5 - 1, classes, 4, seed),
        validation=Batches(held.float() / 127.5 - 1, held_classes, 100),
    )


def digits(data: Path, seed: int) -> Training:
    """A CNN trained on handwritten digits, tuned to those of scikit-learn at 20 of 28 pixels: AdamW, batch 16."""
    from digit_recognizer.model import CNN
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = torch.tensor(bunch.images, dtype=torch.float32)[:, None] / 16
    images = F.pad(F.interpolate(images, 20, mode="bilinear", align_corners=False), (4, 4, 4, 4))
    images, classes = (images - 0.1307) / 0.3081, torch.tensor(bunch.target)
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(images)))
    ours, held = order[:1297], order[1297:]
    torch.manual_seed(seed)
    model: nn.Module = CNN()
    model.load_state_dict(weights("digit_recognizer", "models", "handwriting_model.pth"))
    return Training(
        model=model.train(),
        optimizer=torch.optim.AdamW(model.parameters(), 1e-3),
        loader=shuffled(TensorDataset(images[ours], classes[ours]), 16, seed),
        validation=DataLoader(TensorDataset(images[held], classes[held]), 100),
    )


def enlarged(rows: Rows) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch at 64 pixels, scaled as ImageNet's; channels last is 1.5 times as fast on a CPU."""
    images = F.interpolate(stacked(rows) / 255, 64, mode="bilinear", align_corners=False)
    images = ((images - MEAN) / STD).contiguous(memory_format=torch.channels_last)
    return images, torch.stack([row[1] for row in rows])


def loaders(data: Path, seed: int, collate: Collate, most: int = 8_000, held: int = 512) -> tuple[Loader, Loader]:
    """So many images in batches of 32 for training and of 64 for validation, which ``collate`` scales."""
    ours, others = tensors(data, "train", most), tensors(data, "test", held)
    return shuffled(ours, 32, seed, collate), DataLoader(others, 64, collate_fn=collate)


def efficientnet(data: Path, seed: int, *, optimizer: str, head: bool = False, number: int = 1) -> Training:
    """EfficientNet-Lite trained on ImageNet, a new head, CIFAR-10 at 64 pixels, batch 32; whole or the head alone."""
    torch.manual_seed(seed)
    model: Any = efficientnet_lite(number)
    if head:
        model.requires_grad_(False)
        model._fc.requires_grad_(True)  # the package has no other name for its head
    model.train().to(memory_format=torch.channels_last)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    update: torch.optim.Optimizer = torch.optim.AdamW(parameters, 5e-4, weight_decay=0.01)
    if optimizer == "SGD":
        update = torch.optim.SGD(parameters, 0.01, momentum=0.9, weight_decay=1e-4)
    loader, validation = loaders(data, seed, enlarged)
    return Training(model=model, optimizer=update, loader=loader, validation=validation)


def for_mtcnn(rows: Rows) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch at 48 pixels, scaled as MTCNN does."""
    images = F.interpolate(stacked(rows), 48, mode="bilinear", align_corners=False)
    return (images - 127.5) / 128, torch.stack([row[1] for row in rows])


def onet(data: Path, seed: int) -> Training:
    """The last net of MTCNN (faces; no normalisation) with a new head, CIFAR-10 at 48 pixels: SGD, batch 32."""
    torch.manual_seed(seed)
    model = ONet().train()
    update = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    loader, validation = loaders(data, seed, for_mtcnn, 20_000, 1_024)
    return Training(model=model, optimizer=update, loader=loader, validation=validation)


def stacked(rows: Rows) -> torch.Tensor:
    return torch.stack([row[0] for row in rows]).float()


class Batches:
    """A loader that indexes tensors: several times as fast as a DataLoader, which small batches need."""

    def __init__(self, inputs: torch.Tensor, targets: torch.Tensor, size: int, seed: int | None = None) -> None:
        self.inputs, self.targets, self.size = inputs, targets, size
        self.generator = None if seed is None else torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return len(self.inputs) // self.size

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        order = torch.arange(len(self.inputs))
        if self.generator is not None:
            order = torch.randperm(len(self.inputs), generator=self.generator)
        for indices in order[: len(self) * self.size].view(-1, self.size):
            yield self.inputs[indices], self.targets[indices]


class ONet(nn.Module):
    """The package's net up to its last hidden layer, and a new linear head."""

    def __init__(self) -> None:
        super().__init__()
        from facenet_pytorch import ONet as Packaged

        self.net: Any = Packaged()
        self.head = nn.Linear(256, 10)
        for name in ("dense6_1", "softmax6_1", "dense6_2", "dense6_3"):  # face, box and landmarks
            delattr(self.net, name)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        net = self.net
        hidden = net.pool2(net.prelu2(net.conv2(net.pool1(net.prelu1(net.conv1(images))))))
        hidden = net.prelu4(net.conv4(net.pool3(net.prelu3(net.conv3(hidden)))))
        hidden = net.prelu5(net.dense5(hidden.permute(0, 3, 2, 1).flatten(1)))
        return self.head(hidden)  # type: ignore[no-any-return]
