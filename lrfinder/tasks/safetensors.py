"""Tensors of a ``.safetensors`` file: a header in JSON and plain numbers behind it. Executes nothing."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

__all__ = ["is_safetensors", "read_safetensors"]

# Reference: https://github.com/huggingface/safetensors, README, "Format".
_LENGTH = 8  # bytes of the header's length, little-endian
_TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def is_safetensors(path: Path) -> bool:
    """Whether the file begins as such a file does, whatever its name."""
    with path.open("rb") as file:
        start = file.read(_LENGTH + 1)
    return start[_LENGTH:] == b"{" and int.from_bytes(start[:_LENGTH], "little") <= path.stat().st_size


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors by name.

    Raises:
        ValueError, LookupError, TypeError, AttributeError: the file is damaged, or has a type that torch lacks.
    """
    content = bytearray(path.read_bytes())
    end = _LENGTH + int.from_bytes(content[:_LENGTH], "little")
    header = json.loads(content[_LENGTH:end])
    return {name: _tensor(content, end, entry) for name, entry in header.items() if name != "__metadata__"}


def _tensor(content: bytearray, start: int, entry: dict[str, Any]) -> Tensor:
    dtype, shape = _TYPES[entry["dtype"]], tuple(entry["shape"])
    first, last = (start + offset for offset in entry["data_offsets"])
    count = math.prod(shape)
    inside = start <= first <= last <= len(content)
    if not inside or last - first != count * dtype.itemsize or min(shape, default=1) < 0:
        raise ValueError("a tensor lies outside the file")
    if count == 0:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(content[first:last], dtype=dtype).reshape(shape)
