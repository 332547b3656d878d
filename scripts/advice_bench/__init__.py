"""How good the advised learning rates are: the parts of ``scripts/bench_advice``, which says how to run them."""
