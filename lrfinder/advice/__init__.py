"""Which learning rate to train with: the only opinions of the package. No torch."""
