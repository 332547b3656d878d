"""Parts of scripts/bench_cost: what is trained, how it is measured, and the report. Here: the contestants' names."""

BARE, AGAIN, RISING = "bare loop", "bare loop, again", "bare loop, rising LR"
OURS, DEFAULT = "lrfinder", "lrfinder, no range given"
