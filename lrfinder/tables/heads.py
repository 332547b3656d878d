"""What is known of a new head alone, on the features of a frozen network, and of one linear layer."""

from __future__ import annotations

from dataclasses import dataclass

from lrfinder.tables.constants import ByRule
from lrfinder.tables.situations import Law

__all__ = ["HEAD", "Head"]


@dataclass(frozen=True, kw_only=True)
class Head:
    """A new head alone on a frozen network that is trained.

    Args:
        deepest: weights in a row that a head has at most, as one with two hidden layers.
        part: best LR of a training of the reference length, as a part of the middle of edge and divergence, where a
            linear head is done after the sweep: where the loss fell to 0. It is the larger the less the loss fell.
        least_fall: part of its level by which the loss falls at least; less counts as this.
        usual_fall: the same of a head of several layers, and where the level is not known.
        middle: of the interval, as a multiple of the advised LR, which is lower as too high costs more than too low.
        spread: half width of the interval around its middle, as a factor.
        length: how it depends on the length of the training.
        momentum: how it depends on 1 minus the momentum.
        variation: with momentum, how it depends on the share of the features that varies between samples.
        least_variation: less counts as this.
        linear_weight: its weight for a model that is one linear layer, whose features may come from anywhere.
        source: where the part comes from.
    """

    deepest: int
    part: float
    least_fall: float
    usual_fall: float
    middle: float
    spread: float
    length: Law
    momentum: Law
    variation: Law
    least_variation: float
    linear_weight: float
    source: str


HEAD = Head(
    deepest=3,
    part=1 / 90,
    least_fall=1 / 16,
    usual_fall=1 / 2,
    middle=1.5,
    spread=10.0,
    length=Law(
        reference=500,
        below=ByRule(proportional=-0.5, adaptive=-0.5),
        above=ByRule(proportional=-0.5, adaptive=-0.5),
        highest=1e6,
        source=(
            "the training of a linear head is a convex problem, and this is the length in its bounds; between 200 and "
            "2,000 steps our own trainings of heads have powers of 0 to -0.5 with SGD and -0.5 to -1 with Adam"
        ),
    ),
    momentum=Law(
        reference=0.1,
        below=ByRule(proportional=0.6, adaptive=0.0),
        above=ByRule(proportional=0.6, adaptive=0.0),
        highest=1.0,
        source="heads of 9 of the networks below without momentum have their best LR a factor 4 nearer to the limit",
    ),
    variation=Law(
        reference=1.0,
        below=ByRule(proportional=-0.25, adaptive=-0.5),
        above=ByRule(proportional=0.0, adaptive=0.0),
        highest=1.0,
        source=(
            "the mean of the features holds the edge down, and what varies is learnt at a higher LR; powers between a "
            "quarter and three quarters were as good on heads of 13 networks, where that share is 0.12 to 1"
        ),
    ),
    least_variation=1 / 8,
    linear_weight=0.7,
    source=(
        "52 heads on 13 trained networks, 7 of them with the network in training mode (cells of the split fit in "
        "scripts/situations/cells.csv); batch size and typical LR explain little more there; "
        "the best LR is 1.5 times the advised one in the median, and the interval held it in 99 of their 104 range "
        "tests and in 54 of 72 on other networks"
    ),
)
