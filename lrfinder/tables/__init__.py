"""What is known before any range test: one row each, with its source."""
