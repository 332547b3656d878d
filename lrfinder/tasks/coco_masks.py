"""Masks of COCO annotations: polygons, and run lengths as lists or compressed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["decode_counts", "mask_of"]


def mask_of(segmentation: Any, height: int, width: int) -> np.ndarray:
    """The pixels that an annotation covers, as 0 and 1, shape (height, width).

    Args:
        segmentation: a list of polygons, each as x0, y0, x1, y1 ...; or a dictionary with ``size`` and ``counts``.
        height, width: of the image.

    Raises:
        ValueError, TypeError, LookupError: it is neither.

    Example:
        >>> mask_of([[0, 0, 2, 0, 2, 1, 0, 1]], 2, 3)[0].tolist()
        [1, 1, 0]
        >>> mask_of({"size": [2, 3], "counts": [2, 3, 1]}, 2, 3).tolist()
        [[0, 1, 1], [0, 1, 0]]
    """
    if isinstance(segmentation, dict):
        return _from_runs(segmentation, height, width)
    mask = np.zeros((height, width), bool)
    for polygon in segmentation:
        corners = np.asarray(polygon, np.float64).reshape(-1, 2)
        if len(corners) > 2:  # else it has no area
            mask |= _inside(corners, height, width)
    return mask.astype(np.uint8)


def decode_counts(text: str) -> list[int]:
    """Run lengths of a compressed ``counts``, as in pycocotools: groups of 5 bits, differences from the third on.

    Example:
        >>> decode_counts("231")
        [2, 3, 1]
    """
    counts: list[int] = []
    position = 0
    while position < len(text):
        value, shift, more = 0, 0, True
        while more:
            code = ord(text[position]) - 48
            if not 0 <= code < 64:
                raise ValueError(f"{text[position]!r} is no part of compressed run lengths")
            value |= (code & 31) << shift
            more = bool(code & 32)
            shift += 5
            position += 1
            if not more and code & 16:
                value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
    return counts


def _inside(corners: np.ndarray, height: int, width: int) -> np.ndarray:
    """Pixels whose centre is inside a polygon: each edge turns over the pixels to the right of it."""
    mask = np.zeros((height, width), bool)
    columns = np.arange(width) + 0.5
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        low, high = (int(np.clip(np.ceil(each - 0.5), 0, height)) for each in sorted((y0, y1)))
        if low < high:
            crossings = x0 + (np.arange(low, high) + 0.5 - y0) * (x1 - x0) / (y1 - y0)
            mask[low:high] ^= columns >= crossings[:, None]
    return mask


def _from_runs(segmentation: dict[str, Any], height: int, width: int) -> np.ndarray:
    counts: Sequence[int] | str | bytes = segmentation["counts"]
    if isinstance(counts, (str, bytes)):
        counts = decode_counts(counts if isinstance(counts, str) else counts.decode("ascii"))
    if list(segmentation["size"]) != [height, width] or min(counts, default=0) < 0 or sum(counts) != height * width:
        raise ValueError(f"the run lengths do not fill the image of {width}x{height} pixels")
    values = np.repeat(np.arange(len(counts)) % 2, counts).astype(np.uint8)
    mask: np.ndarray = values.reshape(width, height).T
    return mask
