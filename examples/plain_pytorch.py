"""Find the learning rate for a training loop in plain PyTorch, and train with it.

A small convolutional network learns handwritten digits with SGD, twice from the same start: with the learning rate that
the range test advises for the OneCycle schedule, and with the default learning rate of SGD.

Usage: python examples/plain_pytorch.py [--epochs N] [--seed N] [--out FOLDER]
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path

import torch
from digits import load_digits
from torch import nn
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader, TensorDataset

from lrfinder import LRFinder


def build_model() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, 10),
    )


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loader: DataLoader,
    epochs: int,
    scheduler: LRScheduler | None = None,
) -> None:
    criterion = nn.CrossEntropyLoss()
    model.train()
    for _ in range(epochs):
        for images, labels in loader:
            optimizer.zero_grad()
            loss = criterion(model(images), labels)
            loss.backward()
            optimizer.step()
            if scheduler is not None:
                scheduler.step()  # OneCycle changes the learning rate after every batch


@torch.no_grad()
def accuracy(model: nn.Module, data: TensorDataset) -> float:
    model.eval()
    images, labels = data.tensors
    return (model(images).argmax(dim=1) == labels).float().mean().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("lrfind-out"), help="folder for the plot")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    torch.manual_seed(options.seed)
    train_data, test_data = load_digits()
    loader = DataLoader(train_data, batch_size=64, shuffle=True, drop_last=True)
    model = build_model()
    twin = copy.deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), momentum=0.9)
    default_lr = optimizer.defaults["lr"]

    # The range test and its scheduler take three lines.
    finder = LRFinder(model, optimizer, nn.CrossEntropyLoss())
    result = finder.range_test(loader)
    scheduler = result.scheduler("onecycle", optimizer, epochs=options.epochs, steps_per_epoch=len(loader))

    print(result)
    plot = options.out / "plain_pytorch.png"
    result.plot().figure.savefig(plot)
    print(f"\nThe curve is drawn in {plot}\n")

    # The range test has restored the untrained model.
    train(model, optimizer, loader, options.epochs, scheduler)
    train(twin, torch.optim.SGD(twin.parameters(), momentum=0.9), loader, options.epochs)
    print(f"Test accuracy after {options.epochs} epochs")
    print(f"  advised, OneCycle up to {result.lr_for('onecycle'):g}: {accuracy(model, test_data):.1%}")
    print(f"  SGD's default, constant {default_lr:g}: {accuracy(twin, test_data):.1%}")


if __name__ == "__main__":
    main()
