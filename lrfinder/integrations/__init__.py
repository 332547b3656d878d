"""The range test inside the trainers that people use: a module each, which imports its trainer, and an extra each.

A trainer sets the training up and supplies its own step; the loop, the recording and the restoring are ours. Running
the trainer's loop instead would fail: the range search repeats a batch and rewinds, and their loops log, save,
validate, step schedulers and count. Nothing outside this package names a trainer.
"""
