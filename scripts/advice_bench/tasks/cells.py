"""The cells: families (a data set with an architecture) here, and how each is trained in ``cells.csv``.

Families are split, and the split was fixed before any constant was fitted to them. Methods were developed on
calibration cells and chosen with the validation cells; the constants are fitted to both. Held-out cells have no part in
either and are looked at once for each released calibration; afterwards they join the fit as first, second and third
held-out, and the next calibration gets new held-out cells (``results/advice-looks.md``).

The data come from scikit-learn, from matplotlib's sample data and fonts, from the standard library of Python (its
sources, bytecode and help texts) and from simulations. With ``--data`` also ``adult.csv`` (UCI census) and
``cifar10-small`` (an image folder), of which vehicles are calibration and animals first held-out.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pandas as pd
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import MLP

from advice_bench.tasks import convolutional, dense, images, sequential, signals, tabular, text
from advice_bench.tasks.cell import NEW_CLASSES, Cell
from advice_bench.tasks.data import Data

__all__ = ["CELLS"]


def next_token(output: Tensor, target: Tensor) -> Tensor:
    """Cross entropy over all places of a sequence."""
    return functional.cross_entropy(output.flatten(0, 1), target.flatten())


CE, MSE = functional.cross_entropy, functional.mse_loss
BCE, HUBER = functional.binary_cross_entropy_with_logits, functional.smooth_l1_loss
Family = tuple[Callable[[], Data], Callable[[], nn.Module], Callable[[Tensor, Tensor], Tensor]]

vehicles = partial(images.pictures, "airplane", "automobile", "ship", "truck")
animals = partial(images.pictures, "bird", "cat", "deer", "dog", "frog", "horse")
ten_classes = partial(images.pictures, *"airplane automobile bird cat deer dog frog horse ship truck".split())
solids = partial(tabular.clouds, "sphere", "cylinder", "cone", "ring", "hyperboloid")
other_solids = partial(tabular.clouds, "disc", "double cone", "bowl", "vase", "spindle")

FAMILIES: dict[str, dict[str, Family]] = {
    "calibration": {
        "digits-mlp": (lambda: images.digits(flat=True), lambda: MLP(64, [64, 10]), CE),
        "digits-cnn-bn": (images.digits, convolutional.small_cnn, CE),
        "digits-cnn": (images.digits, lambda: convolutional.small_cnn(norm=None), CE),
        "high-digits-cnn": (lambda: images.digits(range(5, 10)), lambda: convolutional.small_cnn(5), CE),
        "adult-mlp": (tabular.adult, lambda: MLP(6, [64, 64, 2]), CE),
        "code-gru": (text.source_code, sequential.char_gru, next_token),
        "vehicles-cnn-bn": (vehicles, lambda: convolutional.photo_cnn(4), CE),
        "teacher-mlp": (tabular.teacher, lambda: MLP(20, [64, 64, 1]), MSE),
        "raw-digits-mlp": (lambda: images.digits(flat=True, raw=True), lambda: MLP(64, [48, 48, 48, 10]), CE),
        "large-teacher-mlp": (lambda: tabular.teacher(20), lambda: MLP(20, [64, 1]), MSE),
    },
    "validation": {
        "raw-diabetes-mlp": (lambda: tabular.diabetes(raw=True), lambda: MLP(10, [32, 1]), MSE),
        "diabetes-mlp": (tabular.diabetes, lambda: MLP(10, [32, 1]), MSE),
        "cancer-mlp-bn": (
            lambda: tabular.bundled("breast_cancer"),
            lambda: MLP(30, [32, 2], norm_layer=nn.BatchNorm1d),
            CE,
        ),
        "topics-bag": (text.help_topics, dense.word_bag, CE),
    },
    "first held-out": {
        "patches-autoencoder": (images.patches, dense.autoencoder, MSE),
        "patches-denoiser": (images.noisy_patches, convolutional.denoiser, MSE),
        "animals-resnet": (animals, lambda: convolutional.resnet(6), CE),
        "animals-vit": (animals, lambda: sequential.vit(6), CE),
        "help-transformer": (text.help_text, sequential.char_transformer, next_token),
        "raw-patches-autoencoder": (lambda: images.patches(raw=True), dense.autoencoder, MSE),
        "raw-wine-mlp": (
            lambda: tabular.bundled("wine", val=0.3, raw=True),
            lambda: MLP(13, [24, 3], norm_layer=nn.BatchNorm1d),
            CE,
        ),
        "wine-mlp": (lambda: tabular.bundled("wine", val=0.3), lambda: MLP(13, [32, 32, 32, 3]), CE),
    },
    "second held-out": {
        "terrain-waves": (tabular.terrain_points, lambda: MLP(20, [64, 64, 64, 1], activation_layer=nn.GELU), MSE),
        "terrain-upsampler": (images.terrain_patches, convolutional.upsampler, MSE),
        "head-inpainter": (images.head_patches, convolutional.inpainter, MSE),
        "eeg-conv": (signals.eeg, convolutional.wave_conv, MSE),
        "names-lstm": (lambda: text.names("Lo", "So", "Ll", "Lu", "Mn"), sequential.name_lstm, CE),
        "iris-mlp": (
            lambda: tabular.bundled("iris", val=0.3),
            lambda: MLP(4, [24, 3], norm_layer=nn.LayerNorm, activation_layer=nn.Tanh),
            CE,
        ),
        "moons-mlp": (tabular.moons, lambda: MLP(2, [32, 32, 2], norm_layer=nn.BatchNorm1d), CE),
        "friedman-residual": (tabular.friedman, dense.residual_mlp, MSE),
    },
    "third held-out": {
        "letters-mobile": (lambda: images.letters(string.ascii_uppercase), lambda: convolutional.mobile_net(26), CE),
        "portrait-unet": (images.written_over, convolutional.UNet, BCE),
        "membrane-gru": (signals.membrane, sequential.forecast_gru, HUBER),
        "charges-graph": (signals.charges, dense.InteractionNet, MSE),
        "census-tabular": (tabular.census, dense.Tabular, CE),
        "words-factors": (text.word_counts, dense.Factors, MSE),
        "pictures-mixer": (ten_classes, lambda: sequential.Mixer(10), CE),
        "clouds-set": (solids, sequential.set_encoder, CE),
    },
    "held-out": {
        "clusters-dropout": (tabular.clusters, dense.dropout_mlp, CE),
        "altered-vgg": (images.altered_patches, lambda: convolutional.vgg(5), CE),
        "opcodes-lstm": (text.opcodes, sequential.opcode_lstm, next_token),
        "heartbeats-resnet": (signals.heartbeats, convolutional.PulseResNet, CE),
        "lorenz-deep": (signals.lorenz, lambda: MLP(3, [48] * 6 + [3]), MSE),
        "chirps-gated": (signals.chirps, dense.GatedMLP, MSE),
        "lines-encoder": (text.package_lines, sequential.line_encoder, CE),
    },
}
BEFORE: dict[str, Callable[[], Data]] = {  # data of the first training for new classes
    "high-digits-cnn": lambda: images.digits(range(5)),
    "letters-mobile": lambda: images.letters(string.ascii_lowercase),
    "clouds-set": other_solids,
    "altered-vgg": images.places_of_patches,
    "animals-resnet": vehicles,
    "names-lstm": lambda: text.names("Sm", "No", "Nd", "Po", "Mc"),
}
NEED_DATA = ("adult-mlp", "vehicles-cnn-bn", "animals-resnet", "animals-vit", "census-tabular", "pictures-mixer")
OPTIONS: dict[str, dict[str, float]] = {
    "": {},
    "momentum": {"momentum": 0.9},
    "nesterov": {"momentum": 0.9, "nesterov": True, "weight_decay": 5e-4},
    "decay": {"weight_decay": 0.05},
}


def _read(path: Path) -> Iterator[Cell]:
    places = {family: (split, *parts) for split, families in FAMILIES.items() for family, parts in families.items()}
    for row in pd.read_csv(path, keep_default_na=False).to_dict("records"):
        family, optimizer, start = row["family"], row["optimizer"], row["start"]
        split, data, model, loss = places[family]
        row["options"] = OPTIONS[row["options"]]
        words = [family, "plain SGD" if optimizer == "SGD" and not row["options"] else optimizer, row["schedule"]]
        yield Cell(
            **row,
            name=" ".join(words + [start] * (start != "scratch")),
            split=split,
            data=data,
            model=model,
            loss=loss,
            before=BEFORE.get(family) if start in NEW_CLASSES else None,
            needs_data=family in NEED_DATA,
        )


CELLS: tuple[Cell, ...] = tuple(_read(Path(__file__).with_name("cells.csv")))
