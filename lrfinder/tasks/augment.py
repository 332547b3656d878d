"""Random transforms of training samples, as torchvision's training programs have them, and how they are drawn.

Each family builds its own transforms; this module holds what they share. The random numbers of a sample come from a
number that the sampler draws for it, so that they depend on the seed alone, not on the number of worker
processes, and torch's global generator is left as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import Dataset, Sampler

from lrfinder.checks import check_choice
from lrfinder.tasks.settings import Settings

__all__ = ["AUGMENT", "PLAIN", "Augmentation", "Drawn", "Draws", "drawn_from", "refused"]

AUGMENT = ("recipe", "none")
"""What ``augment`` may be."""

_NOT_AUGMENTED = {
    "digits": "The digits are not augmented: a mirrored digit is another sign.",
    "fake": "Fake data is not augmented: it is noise.",
}
# Data sets of torchvision that hold digits, letters, traffic signs or words.
_SIGNS = ("gtsrb", "kmnist", "mnist", "qmnist", "renderedsst2", "svhn", "usps")


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How training samples are made from the data.

    Args:
        transform: from a sample of the data to tensors, with random numbers of torch's global generator; None for the
            transform of validation.
        steps: what it does, in the order in which it does it.
        notes: on it, in sentences.
    """

    transform: Callable[[Any], Any] | None = None
    steps: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """The steps, or ``"none"``."""
        return ", ".join(self.steps) or "none"

    @classmethod
    def of(cls, transform: Callable[[Any], Any], *steps: str, but: str = "") -> Augmentation:
        """An augmentation with the note that says its steps, and ``but``, a sentence on what is left out.

        Example:
            >>> Augmentation.of(str, "horizontal flip", but="No crop.").notes[0]
            "Training samples are augmented as torchvision's training program does: horizontal flip. No crop."
        """
        note = f"Training samples are augmented as torchvision's training program does: {', '.join(steps)}. {but}"
        return cls(transform=transform, steps=steps, notes=(note.strip(),))


PLAIN = Augmentation()
"""None, without a note."""


def refused(settings: Settings) -> Augmentation | None:
    """The augmentation where there is to be none; None where there is to be that of the recipe.

    Raises:
        ConfigError: ``augment`` is none of :data:`AUGMENT`.

    Example:
        >>> refused(Settings(model="resnet18", data="photos")), refused(Settings(model="resnet18")).notes
        (None, ('The digits are not augmented: a mirrored digit is another sign.',))
    """
    data, dataset = settings.data, settings.dataset
    if check_choice("augment", settings.augment, AUGMENT) == "none":
        return PLAIN
    if dataset is not None:
        signs = dataset.lower() in _SIGNS
        return Augmentation(notes=(f"{dataset} is not augmented: a mirrored sign is another one.",)) if signs else None
    note = _NOT_AUGMENTED.get(data) if isinstance(data, str) else None
    return None if note is None else Augmentation(notes=(note,))


class Draws(Sampler[tuple[int, int]]):
    """Each place in a data set once, in random order, with a number to draw the random numbers of its sample from.

    Args:
        count: length of the data set.
        seed: of both.

    Example:
        >>> sorted(place for place, _ in Draws(3, 0))
        [0, 1, 2]
    """

    def __init__(self, count: int, seed: int) -> None:
        self._count = count
        # Not the loader's, from which the number of workers decides how often it draws.
        self._generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[tuple[int, int]]:
        order = torch.randperm(self._count, generator=self._generator).tolist()
        yield from zip(order, torch.randint(2**63 - 1, (self._count,), generator=self._generator).tolist(), strict=True)


class Drawn(Dataset[Any]):
    """Samples that are made with random numbers: the pairs of :class:`Draws` say which sample, and which numbers.

    Args:
        source: samples; each reads torch's global generator.
    """

    def __init__(self, source: Any) -> None:
        self._source = source

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, draw: tuple[int, int]) -> Any:
        place, number = draw
        with drawn_from(number):
            return self._source[place]


@contextmanager
def drawn_from(number: int) -> Iterator[None]:
    """Context in which torch's global generator of the CPU starts from ``number``; its state is restored.

    Example:
        >>> state = torch.get_rng_state()
        >>> with drawn_from(7):
        ...     first = torch.rand(1)
        >>> with drawn_from(7):
        ...     assert torch.rand(1) == first
        >>> torch.equal(torch.get_rng_state(), state)
        True
    """
    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(number)  # torch.manual_seed would seed the GPUs too
        yield
