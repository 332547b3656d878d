"""Cells of nets whose trained weights are in packages, with a new head: tuned whole, or the head with LoRA."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from situations import drawn, heads, images, nets, packaged, sentences, sounds
from situations.cell import Training, shuffled
from torch import nn
from torch.utils.data import TensorDataset

__all__ = ["whole"]


def task(
    data: Path, seed: int, *, net: Callable[[int], nn.Module], samples: Callable[[Path], sounds.Task]
) -> Training:
    inputs, classes = samples(data)
    ours, held = (TensorDataset(inputs[at], classes[at]) for at in (slice(sounds.HELD, None), slice(sounds.HELD)))
    return heads.untrained(net(int(classes.max()) + 1), ours, held, seed)


TRUNKS: dict[str, Callable[[Path, int], Training]] = {
    **{name: build for name, (build, _) in heads.TRUNKS.items()},
    "effnet0": partial(images.efficientnet, optimizer="SGD", number=0),
    "crepe": partial(task, net=nets.Crepe, samples=sounds.timbres),
    "pesto": partial(task, net=nets.Pesto, samples=sounds.pitches),
    "fcpe": partial(task, net=nets.Fcpe, samples=sounds.mel_contours),
    "silero": partial(task, net=nets.Silero, samples=partial(sounds.timbres, length=4160)),
    "beatnet": partial(task, net=nets.BeatNet, samples=sounds.metres),
    "attacut": partial(task, net=nets.Attacut, samples=sounds.code),
    "ppocr": partial(task, net=packaged.PPOcr, samples=drawn.faces),
    "rxnmapper": partial(task, net=packaged.RxnMapper, samples=drawn.formulas),
    "batdetect": partial(task, net=packaged.BatDetect, samples=drawn.calls),
    "deepcr": partial(task, net=packaged.DeepCR, samples=drawn.skies),
    "g2p": partial(task, net=packaged.G2p, samples=drawn.letters),
    "wordllama": partial(task, net=packaged.WordLlama, samples=drawn.reviews),
}


def whole(data: Path, seed: int, *, trunk: str, optimizer: str, batch: int, lora: bool) -> Training:
    """A trained trunk and its new head, in training mode; momentum 0.9 with "sgd", decay 0.01 with "adamw".

    ``lora``: of the trunk, only products added to its linear layers are trained.
    """
    torch.manual_seed(seed)
    run: Any = TRUNKS[trunk](data, seed)
    model = run.model.train()
    if lora:
        adapt(model)
    return Training(
        model=model,
        optimizer=heads.OPTIMIZERS[optimizer]([each for each in model.parameters() if each.requires_grad]),
        loader=shuffled(run.loader.dataset, batch, seed, run.loader.collate_fn),
        validation=run.validation,
    )


def adapt(model: nn.Module) -> None:
    """Freeze all but the head, and add LoRA to the linear layers of the trunk."""
    linear = {name: each for name, each in model.named_modules() if isinstance(each, nn.Linear) and name != "head"}
    model.requires_grad_(False).get_submodule("head").requires_grad_(True)
    for name, layer in linear.items():
        model.set_submodule(name, sentences.LoRA(layer))
