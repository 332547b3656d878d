"""Lightning under its other name: trainers and modules of ``pytorch_lightning``, as forecasting libraries use them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import lightning
import pytest
import pytorch_lightning
import torch
from pytorch_lightning.callbacks import BaseFinetuning
from pytorch_lightning.loggers import CSVLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lrfinder.errors import SetupError
from lrfinder.integrations.lightning import LRFinderCallback, range_test

pytestmark = [
    pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec.. is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:The .* does not have many workers"),
    pytest.mark.filterwarnings("ignore:The number of training batches"),
]

ROOT = Path(__file__).parent.parent
QUIET = {"accelerator": "cpu", "devices": 1, "enable_progress_bar": False, "enable_model_summary": False}
RANGE = {"num_iter": 20, "progress": False}


def module_of(package: Any, **attributes: Any) -> Any:
    class Small(package.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, 3))

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            loss = nn.functional.cross_entropy(self.net(batch[0]), batch[1])
            self.log("loss", loss)
            return loss

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.05)

    return type("Small", (Small,), attributes)()


def data() -> DataLoader:
    generator = torch.Generator().manual_seed(3)
    inputs, target = torch.randn(64, 4, generator=generator), torch.randint(3, (64,), generator=generator)
    return DataLoader(TensorDataset(inputs, target), batch_size=8, shuffle=True)


def trainer_of(package: Any, folder: Path, **options: Any) -> Any:
    logger = CSVLogger if package is pytorch_lightning else lightning.pytorch.loggers.CSVLogger
    given = {"logger": logger(folder), "log_every_n_steps": 1, "max_epochs": 2, **QUIET}
    return package.Trainer(**{**given, **options})


def test_both_names_give_one_curve_and_leave_no_trace(tmp_path: Path) -> None:
    curves, weights, files = [], [], []
    for name, package in (("new", lightning), ("old", pytorch_lightning), ("untouched", pytorch_lightning)):
        module, trainer = module_of(package), trainer_of(package, tmp_path / name)
        if name != "untouched":
            result = range_test(trainer, module, data(), **RANGE)
            curves.append(result.curve)
            assert "trainer: have it call" in result.recipe("cosine", peak_lr=0.1, total_steps=9).code()
        assert trainer.state.fn is None
        trainer.fit(module, data())
        weights.append(module.state_dict())
        folder = tmp_path / name
        files.append({str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*.csv")})
    assert curves[0].losses == curves[1].losses and curves[0].lrs == curves[1].lrs
    for key, value in weights[2].items():
        assert torch.equal(weights[1][key], value) and torch.equal(weights[0][key], value)
    assert files[1] == files[2] != {}


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_the_callback_schedules_a_fit_under_the_other_name(tmp_path: Path) -> None:
    finder = LRFinderCallback("cosine", peak_lr=0.05, sweep=RANGE)
    trainer = trainer_of(pytorch_lightning, tmp_path, callbacks=[finder])
    trainer.fit(module_of(pytorch_lightning), data())
    assert finder.recipe is not None and finder.recipe.total_steps == trainer.global_step == 16
    assert trainer.optimizers[0].param_groups[0]["lr"] == 0.0
    again = LRFinderCallback("cosine", sweep={"num_iter": -1})  # refused, if it swept
    longer = trainer_of(pytorch_lightning, tmp_path, callbacks=[again], max_epochs=3)
    longer.fit(module_of(pytorch_lightning), data(), ckpt_path=trainer.checkpoint_callback.best_model_path)
    assert again.recipe == finder.recipe


@pytest.mark.parametrize("package", [lightning, pytorch_lightning])
def test_the_callback_tells_the_number_that_it_trains_with(package: Any, tmp_path: Path, caplog: Any) -> None:
    finder = LRFinderCallback("onecycle", sweep=RANGE)
    with caplog.at_level("INFO"):
        trainer_of(package, tmp_path, callbacks=[finder], max_epochs=1).fit(module_of(package), data())
    assert finder.result is not None and finder.recipe is not None
    [told] = [each for each in caplog.messages if each.startswith("LRFinderCallback: ")]
    assert finder.result.decision.text in told and told.endswith(f"Peak of 'onecycle': {finder.recipe.peak_lr:.2g}.")


def test_what_is_refused_is_refused_under_the_other_name(tmp_path: Path) -> None:
    class Frozen(BaseFinetuning):
        pass

    several = module_of(
        pytorch_lightning,
        configure_optimizers=lambda self: [torch.optim.SGD(self.net[place].parameters(), lr=0.1) for place in (0, 3)],
    )
    trainer = trainer_of(pytorch_lightning, tmp_path)
    with pytest.raises(SetupError, match="has several optimizers"):
        range_test(trainer, several, data(), **RANGE)
    none = module_of(pytorch_lightning, configure_optimizers=lambda self: None)
    with pytest.raises(SetupError, match="returned no optimizer"):
        range_test(trainer, none, data(), **RANGE)
    with pytest.raises(SetupError, match=r"module must be a pytorch_lightning.LightningModule; got .*one package"):
        range_test(trainer, module_of(lightning), data(), **RANGE)
    with pytest.raises(SetupError, match="Frozen freezes layers"):
        range_test(trainer_of(pytorch_lightning, tmp_path, callbacks=[Frozen()]), several, data(), **RANGE)


def test_a_step_finds_the_folder_of_a_logger_of_the_other_name(tmp_path: Path) -> None:
    folders = []

    def on_train_start(self: Any) -> None:
        folders.append(self.trainer.log_dir)

    trainer = trainer_of(pytorch_lightning, tmp_path)
    module = module_of(pytorch_lightning, on_train_start=on_train_start)
    range_test(trainer, module, data(), **RANGE)
    trainer.fit(module, data())
    assert isinstance(trainer.logger, CSVLogger)
    assert folders[0] == folders[1]


def test_the_integration_runs_where_only_the_other_name_is_installed() -> None:
    code = """
import sys, warnings
sys.modules["lightning"] = None
warnings.filterwarnings("ignore")
import pytorch_lightning
from pytorch_lightning.demos.boring_classes import BoringModel
from lrfinder.integrations.lightning import LRFinderCallback
finder = LRFinderCallback("constant", peak_lr=0.1, sweep={"num_iter": 12})
pytorch_lightning.Trainer(max_epochs=1, accelerator="cpu", barebones=True, callbacks=[finder]).fit(BoringModel())
"""
    module = "configure_optimizers = lambda self: torch.optim.SGD(self.parameters(), lr=0.1)"
    code = code.replace("finder =", f"import torch\nBoringModel.{module}\nfinder =", 1)
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
