"""Analysis of curves: pure functions from numbers to numbers, without advice or prose. No torch."""
