"""What the benchmark trains: data sets, models, and the cells that combine them."""

from advice_bench.tasks.cell import Cell, Task, batches, build
from advice_bench.tasks.cells import CELLS

__all__ = ["CELLS", "Cell", "Task", "batches", "build"]
