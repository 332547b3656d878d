"""CHGNet, trained on the energies of crystals, tuned to those of metals by another method: a loss of energy and forces.

The other method is the effective-medium theory of ASE, so labels are computed in a second. As is usual before such a
tuning, energies are shifted by a linear function of the composition to where those of the network are.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from situations.cell import Training, shuffled
from situations.heads import OPTIMIZERS
from torch import nn
from torch.nn import functional as F

__all__ = ["chgnet"]

METALS = ("Al", "Cu", "Ag", "Au", "Ni", "Pd", "Pt")
TRAIN, VALID = 480, 128
FROZEN = [f"{part}_embedding" for part in ("atom", "bond", "angle")] + ["bond_basis_expansion", "angle_basis_expansion"]
FROZEN += ["bond_conv_layers", "angle_layers", *(f"atom_conv_layers.{layer}" for layer in range(3))]  # in its example


class Potential(nn.Module):
    """Energies per atom (n,) of crystals and forces on all of their atoms (atoms, 3)."""

    def __init__(self) -> None:
        super().__init__()
        from chgnet.model import CHGNet

        self.net: Any = CHGNet.load(use_device="cpu", verbose=False)

    def forward(self, graphs: list[Any]) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.enable_grad():  # also to validate: forces are a derivative
            found = self.net(graphs, task="ef")
        return found["e"], torch.cat(found["f"])


def energy_and_forces(model: nn.Module, batch: Any) -> torch.Tensor:
    """The loss of CHGNet's trainer for energies and forces."""
    graphs, energies, forces = batch
    energy, force = model(graphs)
    return F.mse_loss(energy, energies) + F.mse_loss(force, forces)


def collate(samples: list[Any]) -> tuple[list[Any], torch.Tensor, torch.Tensor]:
    graphs, energies, forces = zip(*samples, strict=True)
    return list(graphs), torch.stack(energies), torch.cat(forces)


def chgnet(data: Path, seed: int, *, kind: str, optimizer: str, batch: int) -> Training:
    """CHGNet, all of it ("whole") or without the layers that its example freezes ("part")."""
    torch.manual_seed(seed)
    model = Potential()
    samples = alloys(model, np.random.default_rng(7))
    if kind == "part":
        for name in FROZEN:
            model.net.get_submodule(name).requires_grad_(False)
    return Training(
        model=model,
        optimizer=OPTIMIZERS[optimizer]([each for each in model.parameters() if each.requires_grad]),
        loader=shuffled(samples[:TRAIN], batch, seed, collate),
        validation=shuffled(samples[TRAIN:], 32, 0, collate),
        loss=energy_and_forces,
    )


def alloys(model: Potential, rng: np.random.Generator) -> list[Any]:
    """Graphs of four atoms each, with their energies per atom and forces."""
    from ase.build import bulk
    from ase.calculators.emt import EMT
    from pymatgen.io.ase import AseAtomsAdaptor

    graphs, energies, forces, parts = [], [], [], []
    for _ in range(TRAIN + VALID):
        atoms = bulk("Cu", "fcc", a=rng.uniform(3.7, 4.2), cubic=True)
        atoms.set_chemical_symbols(list(rng.choice(METALS, 4)))
        atoms.positions += rng.normal(0, 0.1, atoms.positions.shape)
        atoms.calc = EMT()
        graphs.append(model.net.graph_converter(AseAtomsAdaptor.get_structure(atoms)))
        energies.append(atoms.get_potential_energy() / len(atoms))
        forces.append(torch.tensor(atoms.get_forces(), dtype=torch.float32))
        parts.append([atoms.get_chemical_symbols().count(metal) / len(atoms) for metal in METALS])
    with torch.no_grad():
        own = model.net(graphs, task="e")["e"].numpy()
    shift = np.array(parts) @ np.linalg.lstsq(np.array(parts), own - energies, rcond=None)[0]
    return list(zip(graphs, torch.tensor(energies + shift, dtype=torch.float32), forces, strict=True))
