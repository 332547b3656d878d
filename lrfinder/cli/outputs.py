"""Files and text of a finished range test. What was measured is saved first, and no failure after that loses it."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from lrfinder.cli.plot import own_backend
from lrfinder.cli.report import result_text, text_columns
from lrfinder.cli.terminal import LateError, abandon_output, echo
from lrfinder.display.reference import reference_facts, reference_lines
from lrfinder.display.text import bullets
from lrfinder.errors import LRFinderError
from lrfinder.files import json_text, write_atomic, write_together
from lrfinder.tables.kinds import KINDS

if TYPE_CHECKING:
    from lrfinder.recipes import Recipe
    from lrfinder.record.curve import LossCurve
    from lrfinder.result import RangeTestResult
    from lrfinder.tasks.estimate import Meter

T = TypeVar("T")

__all__ = ["Outputs", "as_json", "as_text", "csv_text"]


class Outputs:
    """Writes and prints results of one model, and collects what fails.

    Args:
        folder: where the files go.
        name: with which the names of the files begin: model and optimizer.
        csv_file: where the losses go besides; None for nowhere.
        page: where the page goes besides; None for nowhere.
    """

    def __init__(self, folder: Path, name: str, csv_file: Path | None = None, page: Path | None = None) -> None:
        self._folder = folder
        self._name = name
        self._csv_file = csv_file
        self._page = page
        self.files: dict[str, str] = {}
        self.problems: list[str] = []
        self._shown = False

    @property
    def saved(self) -> str:
        """Where the result is, as the end of a sentence."""
        if "result" in self.files:
            return f"the range test is saved in {self.files['result']}"
        return "the result is on stdout" if self._shown else "nothing was written"

    def check(self) -> None:
        """Report the problems, if there are any.

        Raises:
            LateError: there are; the message has each of them, and where the result is.
        """
        if self.problems:
            raise LateError(f"{'; '.join(each.rstrip('.') for each in self.problems)}; {self.saved}.")

    @contextmanager
    def kept(self, failed: str) -> Iterator[None]:
        """Context of a step after the sweep: an error in the input or of the system becomes one of the problems.

        Args:
            failed: beginning of the sentence, as in ``"cannot refine the advice"``.
        """
        try:
            yield
        except (LRFinderError, OSError) as error:
            self.problems.append(f"{failed}: {_reason(error)}")

    def save(self, result: RangeTestResult, plan: Recipe | None) -> None:
        """Write result and recipe, both or neither, in place of those of an earlier run."""
        contents: dict[str, tuple[Path, str]] = {
            "result": (self._path(".json"), json_text("result", result.to_dict())),
        }
        if plan is not None:
            contents["recipe"] = (self._path(f"-{plan.kind}.json"), json_text("recipe", plan.to_dict()))
            contents["code"] = (self._path(f"-{plan.kind}.py"), plan.code())
        with self.kept("the result is not saved"):
            self._folder.mkdir(parents=True, exist_ok=True)  # another run that made it and failed has removed it
            write_together(dict(contents.values()))
            self.files |= {key: str(path) for key, (path, _) in contents.items()}
            old = [self._path(".png")]  # of an earlier run: it must not stay beside this result
            if plan is None:
                old += [self._path(f"-{kind}{ending}") for kind in KINDS for ending in (".json", ".py")]
            for path in filter(Path.is_file, old):
                path.unlink()

    def save_losses(self, result: RangeTestResult) -> None:
        """Write the losses as a table, where that is asked for."""
        if self._csv_file is not None:
            with self.kept("the losses are not saved"):
                self.files["csv"] = str(write_atomic(self._csv_file, csv_text(result.curve)))

    def draw(self, result: RangeTestResult) -> None:
        """Write the plot, if the result could be saved that it belongs to."""
        if "result" not in self.files:
            return
        with self.kept("the plot is missing"):
            path = write_atomic(self._path(".png"), _drawn(lambda: _png(result)))
            self.files = {"plot": str(path), **self.files}

    def write_page(self, result: RangeTestResult, plan: Recipe | None) -> None:
        """Write the page, where that is asked for."""
        if self._page is not None:
            with self.kept("the page is missing"):
                self.files["page"] = str(write_atomic(self._page, _drawn(lambda: result.to_html(plan))))

    def show(self, text: str) -> None:
        """Print on stdout.

        Raises:
            BrokenPipeError: the program that reads stdout has closed it.
        """
        try:
            echo(text)
            self._shown = True
        except OSError as error:
            abandon_output()
            if error.errno == errno.EPIPE:
                raise
            self.problems.append(f"the result is not printed: {_reason(error)}")

    def _path(self, ending: str) -> Path:
        return self._folder / f"{self._name}{ending}"


def csv_text(curve: LossCurve) -> str:
    """The losses as lines of ``step,lr,loss`` with all digits, for other programs; steps count from 0.

    Example:
        >>> from lrfinder import LossCurve, StopReason, SweepConfig
        >>> config = SweepConfig(start_lr=0.1, end_lr=0.4, num_iter=3)
        >>> print(csv_text(LossCurve(lrs=(0.1, 0.2), losses=(3.0, 2.5), stop=StopReason.INTERRUPTED, config=config)))
        step,lr,loss
        0,0.1,3.0
        1,0.2,2.5
        <BLANKLINE>
    """
    rows = (f"{step},{lr!r},{loss!r}" for step, (lr, loss) in enumerate(zip(curve.lrs, curve.losses, strict=True)))
    return "\n".join(["step,lr,loss", *rows, ""])


def _drawn(make: Callable[[], T]) -> T:
    """What ``make`` draws with matplotlib, whose settings and files are the user's."""
    try:
        with own_backend():
            return make()
    except Exception as error:
        raise LRFinderError(f"{type(error).__name__}: {error}") from error


def _png(result: RangeTestResult) -> bytes:
    from lrfinder.display.pictures import figure_png

    return figure_png(result.plot)


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)


def as_text(result: RangeTestResult, plan: Recipe | None, files: dict[str, str]) -> str:
    """The advice in words, torchvision's recipe, the lines to paste, and the paths; a result that is in no file."""
    reference = reference_lines(result.run)
    beside = "\n" + "\n".join(bullets("Reference", reference, text_columns())) + "\n" if reference else ""
    lines = f"\nScheduler, for training after this:\n\n{plan.code().rstrip()}\n" if plan is not None else ""
    if "result" in files:
        last = "Files\n" + "\n".join(f"  {key:<8}{path}" for key, path in files.items())
    else:
        last = "Result, as a line to save in a file for `lrfind show`:\n\n"
        last += json_text("result", result.to_dict(), indent=None).rstrip()
    return f"{result_text(result)}\n{beside}{lines}\n{last}"


def as_json(result: RangeTestResult, plan: Recipe | None, files: dict[str, str], *, meter: Meter) -> str:
    """The same, the settings, and what it took as strict JSON."""
    content = {
        "decision": result.decision.to_dict(),
        "setup": None if result.run is None else dict(result.run.setup),
        **{key: each for key, each in result.to_dict().items() if key != "run"},  # which has the setup again
        "reference": reference_facts(result.run),
        "recipe": plan.to_dict() if plan is not None else None,
        "code": plan.code() if plan is not None else None,
        **meter.to_dict(),
        "files": files,
    }
    return json.dumps(content, indent=1, allow_nan=False)
