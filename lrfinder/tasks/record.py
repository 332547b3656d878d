"""What is kept beside the result of an experiment: its settings, the versions of the packages, and the schedule."""

from __future__ import annotations

import platform

import torch
import torchvision

from lrfinder import __version__
from lrfinder.record.run import RunRecord
from lrfinder.tasks.experiment import Experiment

__all__ = ["run_record"]


def run_record(experiment: Experiment, schedule: str, epochs: int) -> RunRecord:
    """The settings in force, and the training that the schedule is for.

    Args:
        experiment: that was prepared.
        schedule: kind of schedule of the training.
        epochs: length of the training; >= 1.
    """
    versions = {"lrfinder": __version__, "torch": torch.__version__, "torchvision": torchvision.__version__}
    setup = {**experiment.facts, "versions": {name: str(each) for name, each in versions.items()}}
    setup["versions"]["python"] = platform.python_version()
    row = experiment.reference
    return RunRecord(setup=setup, schedule=schedule, epochs=epochs, entry=None if row is None else row.weights)
