"""Signs of training in the statistics of a model's parameters. Numbers only, no torch.

Initialisers make the affine parameters of normalisation layers and most biases constant; one step of training makes
them differ. They draw the elements of a weight independently, from one distribution. In trained weights the mean
squares of rows and of columns differ by more than such a draw allows, or the tails are heavier. A uniform or truncated
draw ends at a sharp edge, which training blurs. None of this depends on which initialiser it was.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

__all__ = ["LayerSeen", "VectorSeen", "WeightSeen", "are_trained"]

_KNOWN = 1000  # elements of a weight from which on an independent draw counts as fresh
_FLAT_KNOWN = 250  # elements by which a uniform draw can be told from a normal one
_FEWEST = 8  # rows of a weight, or elements of a bias, that say anything
_SMALLEST_SD = 1e-5  # of biases: below, they are drawn so (torchvision's ViT: 1e-6) or have hardly moved
_SIGMAS = 6.0
_HEAVY = 4.0  # kurtosis that no usual initialiser reaches, sparse ones aside
_UNIFORM, _NORMAL = 1.8, 3.0  # kurtosis of these draws
# Kurtosis and largest element relative to the rms of normal draws cut off at 0, 1, 1.5, 2 and 2.5 standard deviations.
_EDGES = ((1.8, 1.7321), (1.9426, 1.8531), (2.1287, 2.0197), (2.3687, 2.2737), (2.6225, 2.6173))


@dataclass(frozen=True, kw_only=True)
class WeightSeen:
    """Statistics of a sample of a weight, which has two or more dimensions.

    Args:
        fan_in, fan_out: elements that one output is computed from, and outputs computed from one element.
        rows, columns: size of the sample.
        eps: relative rounding of the dtype.
        low, high: smallest and largest element.
        rms: root mean square.
        kurtosis: 3 for a normal draw, 1.8 for a uniform one; not raised by rows or columns of unequal scale.
        whole_kurtosis: the same, but raised by them.
        zeros: share of elements that are 0.
        row_dispersion, column_dispersion: mean squared difference of the mean squares of neighbouring rows, relative to
            that of an independent draw.
    """

    fan_in: int
    fan_out: int
    rows: int
    columns: int
    eps: float
    low: float
    high: float
    rms: float
    kurtosis: float
    whole_kurtosis: float
    zeros: float
    row_dispersion: float
    column_dispersion: float

    @property
    def count(self) -> int:
        """Elements of the sample."""
        return self.rows * self.columns

    @property
    def is_constant(self) -> bool:
        """True where all elements of the sample are equal, as zeros are."""
        return self.low == self.high

    @property
    def is_flat(self) -> bool:
        """True where the kurtosis is that of a uniform draw, and the sample large enough to tell."""
        return self.count >= _FLAT_KNOWN and abs(self.kurtosis - _UNIFORM) < 0.03 + 5 / math.sqrt(self.count)

    @property
    def has_default_rms(self) -> bool:
        """True where the rms is that of torch's default, which is uniform up to ``1 / sqrt(fan_in)``."""
        ratio = self.rms * math.sqrt(3 * self.fan_in)
        return self.is_flat and abs(ratio - 1) < 0.02 + _SIGMAS * math.sqrt(0.2 / self.count)

    def trained(self) -> bool | None:
        """True with signs of training; False where it is as drawn; None where nothing can be said."""
        if self.is_constant:
            return False
        if self._is_uneven() or self._has_tails() or self._is_blurred():
            return True
        return False if self.count >= _KNOWN and math.isfinite(self.kurtosis) else None

    def _is_uneven(self) -> bool:
        for dispersion, count in ((self.row_dispersion, self.rows), (self.column_dispersion, self.columns)):
            # Neighbouring differences share a row, so that the variance is 3 / count, not 2 / count.
            if count >= _FEWEST and dispersion > 1.3 + _SIGMAS * math.sqrt(3 / count):
                return True
        return False

    def _has_tails(self) -> bool:
        # Few rows of unequal scale have tails as well.
        enough = self.zeros < 0.02 and min(self.rows, self.columns) >= 32
        return enough and self.kurtosis > _HEAVY + _SIGMAS * math.sqrt(24 / self.count)

    def _may_be_xavier(self) -> bool:
        """Whether the bound of another uniform initialiser happens to lie just beyond that of torch's default."""
        both, fan_out = self.fan_in + self.fan_out, self.fan_out
        squares = [gain / both for gain in (6, 12, 150 / 9)] + [gain / fan_out for gain in (1, 3, 6)]
        return any(1.0001 < square * self.fan_in < 1.5 for square in squares)

    def _is_blurred(self) -> bool:
        """Whether elements lie beyond the edge of a draw from a bounded distribution."""
        largest = max(-self.low, self.high)
        beyond = largest * math.sqrt(self.fan_in) > 1 + max(2 * self.eps, 1e-5)
        if beyond and self.has_default_rms and not self._may_be_xavier():
            return True
        # Blocks of unequal scale have no common edge.
        if self.count < _KNOWN or self.whole_kurtosis > 1.02 * self.kurtosis:
            return False
        edge, noise = largest / self.rms, _SIGMAS * math.sqrt(0.2 / self.count)
        if self.is_flat and edge > math.sqrt(3) * (1 + self.eps + noise):
            return True
        kurtosis = self.kurtosis + 10 / math.sqrt(self.count)
        dimension = max(self.rows, self.columns)  # that of an orthogonal matrix, whose kurtosis is below 3
        most = min(_EDGES[-1][0], (_NORMAL - 0.1) * dimension / (dimension + 2))
        return kurtosis < most and edge > (1.01 + noise) * _edge_at(kurtosis)


@dataclass(frozen=True, kw_only=True)
class VectorSeen:
    """Statistics of a sample of a vector, such as a bias or a scale.

    Args:
        name: within its module.
        size: elements of the sample.
        low, high, mean, sd: smallest and largest element, mean and standard deviation.
        kurtosis: as in :class:`WeightSeen`.
        distinct: number of different values.
    """

    name: str
    size: int
    low: float
    high: float
    mean: float
    sd: float
    kurtosis: float
    distinct: float

    @property
    def is_constant(self) -> bool:
        """True where there are a few values only, as in the biases of an LSTM with open forget gates."""
        return self.distinct <= min(_FEWEST, 1 + self.size // 4)

    def beyond_default(self, fan_in: int) -> float | None:
        """Largest element relative to the bound of torch's default draw beside a weight with so many inputs.

        None where the size of the elements is not that of the default.
        """
        noise = 0.1 + 5 * math.sqrt(0.2 / self.size)
        is_default = self.sd > 0 and abs(math.log(self.sd * math.sqrt(3 * fan_in))) < noise
        return max(-self.low, self.high) * math.sqrt(fan_in) if is_default else None


@dataclass(frozen=True, kw_only=True)
class LayerSeen:
    """The parameters that one module holds itself; what cannot be examined is left out.

    Args:
        weights: those of two or more dimensions.
        vectors: the others.
    """

    weights: tuple[WeightSeen, ...] = ()
    vectors: tuple[VectorSeen, ...] = ()

    @property
    def scale(self) -> VectorSeen | None:
        """The scale of a normalisation layer; None for any other layer."""
        names = ("weight", "gamma", "scale", "g", "layer_scale")
        return None if self.weights else next((each for each in self.vectors if each.name in names), None)

    @property
    def biases(self) -> list[VectorSeen]:
        """Biases beside weights, the constant and the smallest left out."""
        named = [each for each in self.vectors if "bias" in each.name and self.weights and each.size >= _FEWEST]
        return [each for each in named if not each.is_constant and each.sd > _SMALLEST_SD]

    @property
    def drawn_biases(self) -> list[VectorSeen]:
        """Biases that are not as torch draws them by default."""
        fan_ins = [weight.fan_in for weight in self.weights]
        return [each for each in self.biases if not any((each.beyond_default(n) or 9) < 1.1 for n in fan_ins)]

    @property
    def is_drawn(self) -> bool:
        """True where it has weights, all of them drawn at random."""
        return bool(self.weights) and not any(weight.is_constant for weight in self.weights)

    def trained(self) -> bool | None:
        """What the layer shows by itself; see :meth:`WeightSeen.trained`."""
        if (scale := self.scale) is not None:
            return self._norm_trained(scale)
        verdicts = [weight.trained() for weight in self.weights]
        if any(verdicts) or any(map(self._exceeds_default, self.biases)):
            return True
        return False if False in verdicts and not self.drawn_biases else None

    def _norm_trained(self, scale: VectorSeen) -> bool | None:
        shifts = [each for each in self.vectors if each is not scale]
        if scale.is_constant and all(shift.is_constant for shift in shifts):
            return False
        # The scales of DCGAN are drawn around 1; its shifts are 0. Scales drawn around 0 come with drawn shifts.
        drawn = not scale.is_constant and abs(scale.mean) < scale.sd
        return True if not drawn and not all(shift.is_constant for shift in shifts or [scale]) else None

    def _exceeds_default(self, bias: VectorSeen) -> bool:
        """Whether a bias lies a little beyond the bound of torch's default draw."""
        reached = [bias.beyond_default(weight.fan_in) for weight in self.weights]
        return any(1.0001 < each < 1.1 for each in reached if each is not None)


def are_trained(layers: Sequence[LayerSeen]) -> list[bool | None]:
    """Whether each layer has been trained, in the order of the model; None where nothing can be said."""
    verdicts = [layer.trained() for layer in layers]
    if _biases_differ(layers) or verdicts.count(True) > verdicts.count(False):
        verdicts = [True if layer.drawn_biases else verdict for layer, verdict in zip(layers, verdicts, strict=True)]
    for index, (layer, norm) in enumerate(pairwise(layers)):
        # Steps too few to show in a convolution show in the normalisation layer after it.
        if layer.is_drawn and norm.scale is not None and verdicts[index + 1]:
            verdicts[index] = True
    return verdicts


def _biases_differ(layers: Sequence[LayerSeen]) -> bool:
    """Whether the sizes of the biases fit no initialiser: neither one size for all, nor one for a fan-in of 1."""
    drawn = [(bias, layer.weights[0].fan_in) for layer in layers for bias in layer.drawn_biases]
    if len(drawn) < 3:
        return False
    for power in (0.0, 0.5):
        logs = [math.log(bias.sd) + power * math.log(fan_in) for bias, fan_in in drawn]
        precisions = [4 * bias.size / max(bias.kurtosis - 1, 0.5) for bias, _ in drawn]
        mean = sum(map(float.__mul__, logs, precisions)) / sum(precisions)
        chi2 = sum(precision * (log - mean) ** 2 for log, precision in zip(logs, precisions, strict=True))
        if chi2 < 10 * (len(drawn) - 1) or max(logs) - min(logs) < 0.3:
            return False
    return True


def _edge_at(kurtosis: float) -> float:
    (low, first), (high, second) = next(each for each in pairwise(_EDGES) if kurtosis <= each[1][0])
    return first + (second - first) * (kurtosis - low) / (high - low)
