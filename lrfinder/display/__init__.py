"""Words and pictures made from values. No torch."""
