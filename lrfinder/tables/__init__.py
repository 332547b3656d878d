"""Tables of optimizers, schedule kinds and fitted constants, each row with its source."""
