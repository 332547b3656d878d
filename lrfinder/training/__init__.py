"""Trains for real through given learning rates, and restores everything."""
