"""How a learning rate is rounded and written, and how a name is."""

from __future__ import annotations

import pytest

from lrfinder.numbers import format_lr, printable, round_lr


@pytest.mark.parametrize(
    ("lr", "text"), [(.0123, "0.012"), (1e-5, "1e-05"), (1.0, "1"), (150.0, "150"), (0.099999, "0.1"), (1e-30, "1e-30")]
)
def test_a_learning_rate_is_written_with_two_digits(lr: float, text: str) -> None:
    assert format_lr(lr) == text
    assert float(text) == round_lr(lr)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("cat\x1b[31m", r"cat\x1b[31m"),
        ("two\nlines\r", r"two\nlines\r"),
        ("\udcff.png", r"\udcff.png"),
        ("right\u202eleft", r"right\u202eleft"),
        ("größe 猫 👍", "größe 猫 👍"),
    ],
)
def test_what_controls_a_terminal_in_a_name_is_escaped(name: str, shown: str) -> None:
    assert printable(name) == shown
