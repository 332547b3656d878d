"""Train a GAN: two networks with an optimizer each, and a training step of its own.

The generator makes handwritten digits from noise, the discriminator tells them from real ones. Both optimizers are
swept by one factor: the discriminator keeps four times the learning rate of the generator.

Neither network's loss shows how good the digits are, as each depends on the other. So the curve is the distance between
generated and held-out digits after each update, as a validation loss: the energy distance of Szekely and Rizzo, "Energy
statistics", 2013. The loss that the step returns, the discriminator's, is recorded beside it. Without ``loss_fn`` and
``val_loader`` it would be the curve: it falls where the discriminator wins, and the learning rate read from it, 0.0006,
makes digits that cover 1% of the held-out ones. The generator's loss does not fall, and the sum of both falls by 2%.

Usage: python examples/gan.py [--epochs N] [--seed N] [--out FOLDER]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from digits import load_digits
from torch import Tensor, nn
from torch.nn.functional import softplus
from torch.utils.data import DataLoader, TensorDataset

from lrfinder import LRFinder

NOISE = 16
USUAL_LR = 0.0002  # of DCGAN, arXiv:1511.06434

Step = Callable[[list[Tensor]], Tensor]


class Gan(nn.Module):
    def __init__(self, width: int = 128) -> None:
        super().__init__()
        self.generator = nn.Sequential(
            *(nn.Linear(NOISE, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()),
            *(nn.Linear(width, 64), nn.Sigmoid()),
        )
        self.discriminator = nn.Sequential(
            *(nn.Linear(64, width), nn.LeakyReLU(0.2), nn.Linear(width, width), nn.LeakyReLU(0.2)),
            nn.Linear(width, 1),
        )

    def digits(self, count: int, seed: int | None = None) -> Tensor:
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        return self.generator(torch.randn(count, NOISE, generator=generator))


def optimizers_of(gan: Gan, lr: float = USUAL_LR) -> list[torch.optim.Optimizer]:
    return [
        torch.optim.Adam(gan.generator.parameters(), lr=lr, betas=(0.5, 0.999)),
        torch.optim.Adam(gan.discriminator.parameters(), lr=4 * lr, betas=(0.5, 0.999)),
    ]


def step_of(gan: Gan, optimizers: list[torch.optim.Optimizer]) -> Step:
    generator_optimizer, discriminator_optimizer = optimizers

    def step(batch: list[Tensor]) -> Tensor:
        real = batch[0].flatten(1)
        fake = gan.digits(len(real))
        loss = softplus(-gan.discriminator(real)).mean() + softplus(gan.discriminator(fake.detach())).mean()
        discriminator_optimizer.zero_grad()
        loss.backward()
        discriminator_optimizer.step()
        generator_optimizer.zero_grad()
        softplus(-gan.discriminator(fake)).mean().backward()
        generator_optimizer.step()
        return loss.detach()

    return step


def distance(gan: nn.Module, batch: list[Tensor]) -> Tensor:
    """Energy distance between the real digits of a batch and as many generated ones, from the same noise each time."""
    real = batch[0].flatten(1)
    fake = gan.digits(len(real), seed=0)
    return 2 * torch.cdist(fake, real).mean() - torch.cdist(fake, fake).mean() - torch.cdist(real, real).mean()


@torch.no_grad()
def coverage(gan: Gan, data: TensorDataset) -> float:
    """Share of the real digits with a generated one nearer than their fifth real neighbour (arXiv:2002.09797)."""
    real = data.tensors[0].flatten(1)
    radius = torch.cdist(real, real).kthvalue(6).values  # the nearest of all is the digit itself
    return (torch.cdist(real, gan.digits(1000, seed=1)).amin(dim=1) < radius).float().mean().item()


def train(loader: DataLoader, step: Step, schedulers: list[torch.optim.lr_scheduler.LRScheduler], epochs: int) -> None:
    for _ in range(epochs):
        for batch in loader:
            step(batch)
            for scheduler in schedulers:
                scheduler.step()  # after every batch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("lrfind-out"), help="folder for the plot")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    torch.manual_seed(options.seed)
    train_data, test_data = load_digits()
    loader = DataLoader(train_data, batch_size=64, shuffle=True)
    gan = Gan()
    optimizers = optimizers_of(gan)
    step = step_of(gan, optimizers)

    finder = LRFinder(gan, optimizers, step_fn=step, loss_fn=distance)
    result = finder.range_test(loader, val_loader=DataLoader(test_data, batch_size=len(test_data)))
    print(result)
    plot = options.out / "gan.png"
    result.plot().figure.savefig(plot)
    print(f"\nThe curve is drawn in {plot}\n")

    schedulers = result.scheduler("cosine", optimizers, total_steps=options.epochs * len(loader))
    train(loader, step, schedulers, options.epochs)
    lr = result.lr_for("cosine")
    print(f"Held-out digits covered by generated ones after {options.epochs} epochs")
    print(f"  advised, cosine from {lr:.2g}: {coverage(gan, test_data):.1%}")

    torch.manual_seed(options.seed)
    other = Gan()
    train(loader, step_of(other, optimizers_of(other)), [], options.epochs)
    print(f"  usual for GANs, constant {USUAL_LR}: {coverage(other, test_data):.1%}")


if __name__ == "__main__":
    main()
