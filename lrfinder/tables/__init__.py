"""Tables of optimizers, schedule kinds, reference recipes and fitted constants, each row with its source."""
