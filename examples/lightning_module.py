"""Find the learning rate for a LightningModule inside its own Trainer, and train with it.

A small convolutional network learns handwritten digits with AdamW, twice from the same start: with the cosine schedule
that the range test advises, put in place by LRFinderCallback, and with the default learning rate of AdamW.

Usage: python examples/lightning_module.py [--epochs N] [--seed N] [--out FOLDER]
"""

from __future__ import annotations

import argparse
import copy
import logging
import warnings
from pathlib import Path

import lightning
import torch
from digits import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lrfinder.integrations.lightning import LRFinderCallback, range_test

# Advice on hardware and workers, and a deprecation in Lightning itself with the newest torch.
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", module="lightning")


class DigitClassifier(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, 16, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(32 * 4 * 4, 10),
        )

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        loss = nn.functional.cross_entropy(self.net(images), labels, label_smoothing=0.1)
        self.log("train_loss", loss)
        return loss

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        images, labels = batch
        self.log("accuracy", (self.net(images).argmax(dim=1) == labels).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters())  # without a scheduler: the callback adds it


def new_trainer(epochs: int, *callbacks: lightning.Callback) -> lightning.Trainer:
    # As in any training, with what this example does not need switched off.
    return lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        gradient_clip_val=1.0,
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def accuracy(module: lightning.LightningModule, trainer: lightning.Trainer, loader: DataLoader) -> float:
    return trainer.test(module, loader, verbose=False)[0]["accuracy"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("lrfind-out"), help="folder for the plot")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    lightning.seed_everything(options.seed, verbose=False)
    train_data, test_data = load_digits()
    loader = DataLoader(train_data, batch_size=64, shuffle=True, drop_last=True)
    test_loader = DataLoader(test_data, batch_size=len(test_data))
    module = DigitClassifier()
    twin = copy.deepcopy(module)

    # Either by itself: the arguments are those of trainer.fit, which leaves everything as it was.
    result = range_test(new_trainer(options.epochs), module, loader)
    print(result)
    plot = options.out / "lightning_module.png"
    result.plot().figure.savefig(plot)
    print(f"\nThe curve is drawn in {plot}\n")

    # Or as a callback, which sweeps when the fit starts and adds the scheduler.
    finder = LRFinderCallback("cosine")
    trainer = new_trainer(options.epochs, finder)
    trainer.fit(module, loader)
    plain = new_trainer(options.epochs)
    plain.fit(twin, loader)
    print(f"Test accuracy after {options.epochs} epochs")
    print(f"  advised, cosine from {finder.recipe.peak_lr:g}: {accuracy(module, trainer, test_loader):.1%}")
    print(f"  AdamW's default, constant 0.001: {accuracy(twin, plain, test_loader):.1%}")


if __name__ == "__main__":
    main()
