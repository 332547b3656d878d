"""Recommended learning rates, with their evidence and reasons. No torch."""
