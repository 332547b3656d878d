"""What the advised LR depends on beside the usual reading of a curve, each with its source.

The constants of the advice were fitted to trainings of small networks from scratch, in batches of about 32. A law
gives the factor of the LR outside of that: for batch size, model size, length, passes through the data and trained
weights. The other rows are for clipped gradients, losses of unusual size, bounded losses and probes of trained weights.
"""

from __future__ import annotations

from dataclasses import dataclass

from lrfinder.tables.constants import ByRule

__all__ = ["BATCH_SIZE", "CLIPPED", "LAYER_NORM_SIZE", "LENGTH", "LOSS_SIZE", "MODEL_SIZE", "PASSES", "PLATEAU"]
__all__ += ["PROBE", "TRAINED", "TUNING_LENGTH", "Clipped", "Law", "LossSize", "Plateau", "Probe"]


@dataclass(frozen=True, kw_only=True)
class Law:
    """A power law around a reference: ``factor = (value / reference) ** power``.

    Args:
        reference: value of the calibration runs, where the factor is 1; > 0.
        below: power for values below the reference, by update rule.
        above: power for values above it.
        highest: larger values count as this one: the law was measured or published up to there.
        source: where the law comes from.
    """

    reference: float
    below: ByRule
    above: ByRule
    highest: float
    source: str

    def factor(self, value: float, rule: str) -> float:
        """Factor of the LR at that value; > 0.

        Args:
            value: what the law is about, > 0.
            rule: ``"proportional"`` or ``"adaptive"``.

        Example:
            >>> round(BATCH_SIZE.factor(8, "proportional"), 3), round(BATCH_SIZE.factor(8, "adaptive"), 3)
            (0.25, 0.5)
        """
        power = (self.below if value < self.reference else self.above).of(rule)
        return float((min(value, self.highest) / self.reference) ** power)


@dataclass(frozen=True, kw_only=True)
class Clipped:
    """A recurrent net with SGD of which most gradients are clipped, so that an update is not as long as the gradient.

    Args:
        movement: length of an update at a typical peak LR, as a part of the norm of the weights.
        least_part: smallest part of the steps of a sweep that must have been clipped.
        source: where the movement comes from.
    """

    movement: float
    least_part: float
    source: str


@dataclass(frozen=True, kw_only=True)
class LossSize:
    """Size of the loss for which the typical LR of SGD holds: c times the loss needs 1/c of the LR.

    Args:
        lowest, highest: losses at the start between which it holds; a larger one is compared with ``usual``.
        moves: how many times its noise, or its fall in the sweep, a loss usually is.
        source: where they come from.
    """

    lowest: float
    usual: float
    highest: float
    moves: float
    source: str


@dataclass(frozen=True, kw_only=True)
class Plateau:
    """A bounded loss, of which the sweep ends on a plateau and shows where half of the fall was gone.

    Args:
        weight: of that LR in the logarithmic mean, against the typical LR.
        within: it counts as no further from the typical LR than this factor.
        part: best LR as a part of the mean.
        source: where they come from.
    """

    weight: float
    within: float
    part: float
    source: str


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Trained weights whose sweep shows how the loss of a fixed probe changes.

    Args:
        larger_than: trainable parameters above which a probe is measured.
        samples: of the probe, at least, in whole batches.
        batches: of the probe, at most.
        low_region_part: best LR as a part of the middle of the probe's low region.
        edge_part: the same as a part of its edge.
        weight: of both, against what the training loss and the laws give.
        source: where the parts come from.
    """

    larger_than: int
    samples: int
    batches: int
    low_region_part: float
    edge_part: float
    weight: float
    source: str


_FLAT = ByRule(proportional=0.0, adaptive=0.0)

BATCH_SIZE = Law(
    reference=32,
    below=ByRule(proportional=1.0, adaptive=0.5),
    above=ByRule(proportional=0.5, adaptive=0.5),
    highest=128,
    source=(
        "linear for SGD and square root for Adam: Malladi et al., arXiv:2205.10287; the 122 trainings of "
        "scripts/bench_advice, in batches of 8 to 128, have powers of 0.50 +- 0.37 and 0.46 +- 0.21"
    ),
)
MODEL_SIZE = Law(
    reference=65_000,
    below=_FLAT,
    above=ByRule(proportional=0.0, adaptive=-0.2),
    highest=2e11,
    source=(
        "the reference is the largest network of the calibration runs; the power for Adam is a little less than that "
        "between 125 million parameters (6e-4) and 175 billion (6e-5) in table 2.1 of Brown et al., arXiv:2005.14165; "
        "torchvision's recipes with SGD have one LR for networks of 2 to 130 million parameters"
    ),
)
LAYER_NORM_SIZE = Law(
    reference=MODEL_SIZE.reference,
    below=_FLAT,
    above=ByRule(proportional=0.0, adaptive=-0.4),
    highest=MODEL_SIZE.highest,
    source=(
        "torchvision's recipes with AdamW for networks with layer normalisation (ViT, Swin, ConvNeXt, MaxViT; 28 to "
        "306 million parameters) have powers of -0.4 to -0.6 at a batch of 32, of which their length is a part; our "
        "own trainings of a ViT, a GPT and a text encoder of 0.4 to 1.2 million have -0.3 to -0.8"
    ),
)
LENGTH = Law(
    reference=2000,
    below=_FLAT,
    above=ByRule(proportional=-0.25, adaptive=-0.25),
    highest=1e6,
    source="longest of the calibration runs; between no dependence and the square root that convex bounds have",
)
TUNING_LENGTH = Law(
    reference=400,
    below=_FLAT,
    above=ByRule(proportional=LENGTH.above.proportional, adaptive=-0.5),
    highest=1e5,
    source=(
        "six fine-tunings of five networks with AdamW in 930 to 4,000 steps (longer fine-tuning, split fit, in "
        "scripts/situations/cells.csv): the mean regret falls from 5.7 to 1.6 %, on five others from 7.8 to 7.2 %; the "
        "power is that of convex bounds"
    ),
)
"""In place of :data:`LENGTH` where trained weights are tuned."""
PASSES = Law(
    reference=8,
    below=_FLAT,
    above=ByRule(proportional=-1.0, adaptive=-1.0),
    highest=32,
    source=(
        "trials of 1/16, 1/8, 1/4 and 3/8 of 106 calibration runs with 0.7 to 29 passes, each over a grid (trials of "
        "scripts/bench_advice): the best LR of a training with more than 20 passes is 1.6 to 2.7 octaves below that of "
        "its trials, with 10 to 20 passes 0.5 to 1.3 octaves, with fewer 0.5 at most"
    ),
)
LOSS_SIZE = LossSize(
    lowest=1.0,
    usual=1.5,
    highest=12.0,
    moves=6.0,
    source=(
        "the mean cross-entropy of 3 to 160,000 classes starts between lowest and highest; the others were chosen on "
        "the 129 fitted range tests with SGD of scripts/bench_advice, with losses in other units and constants added"
    ),
)
CLIPPED = Clipped(
    movement=0.15,
    least_part=0.2,
    source="LR 20 at norm 0.25 in word_language_model of pytorch/examples, and our own training of its network",
)
TRAINED = Law(
    reference=65_000,
    below=_FLAT,
    above=ByRule(proportional=-0.5, adaptive=-0.2),
    highest=2.3e7,
    source=(
        "24 calibration runs start from trained weights, of networks of up to 65,000 parameters, and their best LR is "
        "not lower; the powers were chosen on our own fine-tunings of 0.4 to 23 million parameters"
    ),
)
PLATEAU = Plateau(
    weight=0.5,
    within=20.0,
    part=0.35,
    source=(
        "24 trainings of embeddings of the digits, by hand, with 2 range tests each (those of "
        "scripts/situations/embeddings.py are nearly the same); the best LR with Adam is half the typical one, with "
        "SGD a seventh without those of triplets"
    ),
)
PROBE = Probe(
    larger_than=65_000,
    samples=32,
    batches=4,
    low_region_part=0.36,
    edge_part=0.18,
    weight=0.4,
    source=(
        "50 sweeps of 25 fine-tunings with AdamW in scripts/situations/cells.csv: the parts are a little below the "
        "medians, as too high costs more, and the weight is that of the lowest mean regret, 4.2 points (0.2 to 10.4) "
        "below that without a probe; 64 samples gained as much, 16 less. With SGD it gained nothing on 6 fitted "
        "fine-tunings and cost 16 points on 5 others"
    ),
)
