"""What a range test costs: the parts of ``scripts/bench_overhead``, which says how to run them."""
