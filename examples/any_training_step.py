"""Use a training step of your own: batches that are dictionaries, bfloat16, accumulated and clipped gradients.

A small transformer classifies a handwritten digit from the sequence of its eight rows. The range test uses the same
loss function as the training, and measures it on held-out batches after each update.

Usage: python examples/any_training_step.py [--epochs N] [--seed N] [--out FOLDER]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from digits import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset, default_collate

from lrfinder import LRFinder

ACCUMULATION_STEPS = 2
CLIP_GRAD_NORM = 1.0


class RowTransformer(nn.Module):
    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.embed = nn.Linear(8, width)
        self.positions = nn.Parameter(0.02 * torch.randn(8, width))
        self.layer = nn.TransformerEncoderLayer(width, nhead=4, dim_feedforward=128, batch_first=True, norm_first=True)
        self.head = nn.Linear(width, 10)

    def forward(self, rows: Tensor) -> Tensor:
        return self.head(self.layer(self.embed(rows) + self.positions).mean(dim=1))


def loss_fn(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    return nn.functional.cross_entropy(model(batch["rows"]), batch["digit"], label_smoothing=0.1)


def collate(samples: list[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    images, digits = default_collate(samples)
    return {"rows": images.squeeze(1), "digit": digits}


@torch.no_grad()
def accuracy(model: nn.Module, data: TensorDataset) -> float:
    model.eval()
    images, digits = data.tensors
    return (model(images.squeeze(1)).argmax(dim=1) == digits).float().mean().item()


def train_epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scheduler: torch.optim.lr_scheduler.LRScheduler,
    loader: DataLoader,
) -> None:
    model.train()
    batches = iter(loader)
    for _ in range(len(loader) // ACCUMULATION_STEPS):
        optimizer.zero_grad()
        for _ in range(ACCUMULATION_STEPS):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = loss_fn(model, next(batches))
            (loss / ACCUMULATION_STEPS).backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP_GRAD_NORM)
        optimizer.step()
        scheduler.step()  # after every update


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("lrfind-out"), help="folder for the plot")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    torch.manual_seed(options.seed)
    train_data, test_data = load_digits()
    train_loader = DataLoader(train_data, batch_size=32, shuffle=True, drop_last=True, collate_fn=collate)
    val_loader = DataLoader(test_data, batch_size=64, collate_fn=collate)
    model = RowTransformer()
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.05)
    updates = len(train_loader) // ACCUMULATION_STEPS  # per epoch: the scheduler counts these, not batches

    finder = LRFinder(
        model,
        optimizer,
        loss_fn=loss_fn,
        amp_dtype=torch.bfloat16,
        accumulation_steps=ACCUMULATION_STEPS,
        clip_grad_norm=CLIP_GRAD_NORM,
    )
    result = finder.range_test(train_loader, val_loader=val_loader, val_batches=2)
    print(result)
    plot = options.out / "any_training_step.png"
    result.plot().figure.savefig(plot)
    print(f"\nThe curve is drawn in {plot}\n")

    scheduler = result.scheduler("cosine", optimizer, total_steps=options.epochs * updates)
    for epoch in range(options.epochs):
        train_epoch(model, optimizer, scheduler, train_loader)
        if epoch % 3 == 0:
            lr = optimizer.param_groups[0]["lr"]
            print(f"Test accuracy after epoch {epoch + 1:2}: {accuracy(model, test_data):.1%} (learning rate {lr:.2g})")


if __name__ == "__main__":
    main()
