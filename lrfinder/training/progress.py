"""Progress bar of a range test or a trial search: in a terminal or a notebook, on the main rank only."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

from lrfinder.training.wrappers import is_main_rank

__all__ = ["Progress", "progress_bar"]


class Progress:
    """Bar that counts optimizer steps; without a bar its methods do nothing."""

    def __init__(self, bar: Any = None) -> None:
        self._bar = bar

    def note(self, text: str) -> None:
        """Show the text beside the bar from the next step on."""
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=False)

    def record(self, lr: float, loss: float) -> None:
        """Show a learning rate and its loss, and count one step."""
        if self._bar is not None:
            self.note(f"lr {lr:.1e}, loss {loss:.4g}")
            self.advance()

    def advance(self) -> None:
        """Count one step."""
        if self._bar is not None:
            self._bar.update()


@contextlib.contextmanager
def progress_bar(steps: int, title: str, *, shown: bool) -> Iterator[Progress]:
    """Context of a progress bar, which is cleared at its end.

    Args:
        steps: optimizer steps expected; more may be counted.
        title: text before the bar.
        shown: False shows nothing anywhere. True still shows nothing in a pipe or file, or on another rank.
    """
    if not (shown and is_main_rank()):
        yield Progress()
        return
    with warnings.catch_warnings():
        # In a notebook without ipywidgets, tqdm warns in red and shows a plain bar; its warning is of no use.
        warnings.simplefilter("ignore")
        from tqdm.auto import tqdm  # late: it looks for a notebook when imported

    # disable=None shows no bar where stderr is a file or a pipe.
    with tqdm(total=steps, desc=title, leave=False, disable=None) as bar:
        yield Progress(None if bar.disable else bar)
