"""Trainings that people really run: the parts of ``scripts/bench_situations``, which says how to run them."""
