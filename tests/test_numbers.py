"""How a learning rate is rounded and written."""

from __future__ import annotations

import pytest

from lrfinder.numbers import format_lr, round_lr


@pytest.mark.parametrize(
    ("lr", "text"), [(.0123, "0.012"), (1e-5, "1e-05"), (1.0, "1"), (150.0, "150"), (0.099999, "0.1"), (1e-30, "1e-30")]
)
def test_a_learning_rate_is_written_with_two_digits(lr: float, text: str) -> None:
    assert format_lr(lr) == text
    assert float(text) == round_lr(lr)
