"""Fine-tune with parameter groups: a new head, and a pretrained backbone that trains at a tenth of its learning rate.

A small network learns the digits 0 to 4. Then it gets a new head for the digits 5 to 9, with 300 images to train on,
and its BatchNorm layers are frozen. The range test scales the learning rates of both groups together, so their ratio
stays the same in the range test, in the advice and in the schedule.

Usage: python examples/fine_tune_groups.py [--epochs N] [--seed N] [--out FOLDER]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from digits import load_digits
from torch import nn
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader, Subset, TensorDataset

from lrfinder import LRFinder, plot_recipe

IMAGES = 300


class Net(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(1, 16, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 32, kernel_size=3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Flatten(),
        )
        self.head = nn.Linear(32 * 4 * 4, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.backbone(images))


def freeze_batchnorm(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()  # keeps its statistics
            module.requires_grad_(False)


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loader: DataLoader,
    epochs: int,
    scheduler: LRScheduler | None = None,
) -> None:
    for _ in range(epochs):
        for images, labels in loader:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
            if scheduler is not None:
                scheduler.step()


@torch.no_grad()
def accuracy(model: nn.Module, data: TensorDataset) -> float:
    model.eval()
    images, labels = data.tensors
    return (model(images).argmax(dim=1) == labels).float().mean().item()


def group_lrs(optimizer: torch.optim.Optimizer) -> str:
    return ", ".join(f"{group['name']} {group['lr']:.2g}" for group in optimizer.param_groups)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=10, help="2 or more: the first is the warm-up")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("lrfind-out"), help="folder for the plots")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    torch.manual_seed(options.seed)
    old_data, old_test = load_digits(range(5))
    model = Net(classes=5)
    train(model, torch.optim.AdamW(model.parameters()), DataLoader(old_data, batch_size=64, shuffle=True), epochs=3)
    print(f"Pretrained on the digits 0 to 4: test accuracy {accuracy(model, old_test):.1%}\n")

    new_data, new_test = load_digits(range(5, 10))
    loader = DataLoader(Subset(new_data, range(IMAGES)), batch_size=20, shuffle=True)
    model.head = nn.Linear(model.head.in_features, 5)
    model.train()
    freeze_batchnorm(model)  # after model.train(), which would unfreeze it; the range test keeps both
    # The advised learning rate is that of the first group; the others keep their ratio to it.
    optimizer = torch.optim.AdamW(
        [
            {"name": "head", "params": model.head.parameters(), "lr": 1e-3},
            {"name": "backbone", "params": model.backbone.parameters(), "lr": 1e-4},
        ]
    )

    result = LRFinder(model, optimizer, nn.CrossEntropyLoss()).range_test(loader)
    recipe = result.recipe("cosine", epochs=options.epochs, steps_per_epoch=len(loader), warmup_steps=len(loader))
    print(f"{result}\n\n{recipe.describe()}\n")
    result.plot().figure.savefig(options.out / "fine_tune_curve.png")
    plot_recipe(recipe).figure.savefig(options.out / "fine_tune_schedule.png")

    scheduler = recipe.build(optimizer)
    print(f"First step:     {group_lrs(optimizer)}")
    train(model, optimizer, loader, 1, scheduler)
    print(f"After warm-up:  {group_lrs(optimizer)}")
    train(model, optimizer, loader, options.epochs - 1, scheduler)
    print(f"At the end:     {group_lrs(optimizer)}")
    print(f"\nTest accuracy on the digits 5 to 9, from {IMAGES} images: {accuracy(model, new_test):.1%}")


if __name__ == "__main__":
    main()
