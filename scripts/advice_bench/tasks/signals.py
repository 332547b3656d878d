"""Data sets of signals over time, recorded and simulated."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from advice_bench.tasks.data import Data, sample_folder, scaled, split


def eeg() -> Data:
    """The next sample of four EEG channels from the last 24."""
    waves = np.fromfile(sample_folder() / "eeg.dat", dtype=float).reshape(-1, 4).astype(np.float32)
    windows = scaled(torch.tensor(waves), 0).unfold(0, 25, 1).transpose(1, 2)
    return split(windows[:, :-1].contiguous(), windows[:, -1].contiguous())


def membrane() -> Data:
    """The next eight samples of the potential of a nerve cell from the last 32."""
    voltage = torch.tensor(np.fromfile(sample_folder() / "membrane.dat", dtype=np.float32))
    windows = scaled(voltage).unfold(0, 40, 2)
    return split(windows[:, :32, None].contiguous(), windows[:, 32:].contiguous())


def charges() -> Data:
    """Five charged bodies with drag in a plane: how their velocities have changed a while later."""
    generator = torch.Generator().manual_seed(8)
    place, speed = torch.randn(3000, 5, 2, generator=generator), 0.5 * torch.randn(3000, 5, 2, generator=generator)
    charge = torch.randn(3000, 5, 1, generator=generator)
    inputs, before = torch.cat([place, speed, charge], 2), speed
    for _ in range(40):
        place = place + 0.0125 * speed
        apart = place[:, :, None] - place[:, None]
        force = charge[:, :, None] * charge[:, None] * apart / (apart.square().sum(3, keepdim=True) + 0.4) ** 1.5
        speed = speed + 0.025 * (force.sum(2) - 0.3 * speed)
        place = place + 0.0125 * speed
    change = speed - before
    return split(inputs, change / change.std())


def heartbeats() -> Data:
    """Simulated ECGs of five kinds: regular, irregular, with an early beat, with broad peaks, without a P wave."""
    random = np.random.default_rng(12)
    signals = np.stack([_heartbeats(kind, random) for kind in range(5) for _ in range(600)]).astype(np.float32)
    return split(scaled(signals[:, None]), np.arange(5).repeat(600))


def _heartbeats(kind: int, random: np.random.Generator) -> Any:
    time = np.arange(160) / 50
    period = random.uniform(0.6, 1.0)
    gaps = period * (1 + random.normal(0, 0.2 if kind == 1 else 0.03, 9))
    beats = gaps.cumsum() - random.uniform(1, 2)
    if kind == 2:
        early = np.flatnonzero((beats > 0.6) & (beats < 2.8))
        beats[random.choice(early)] -= 0.3 * period
    signal = 0.2 * random.normal() + 0.15 * np.sin(2 * time + random.uniform(0, 6)) + random.normal(0, 0.08, 160)
    broad = random.uniform(1.4, 2.2) if kind == 3 else random.uniform(0.9, 1.2)
    p_wave = 0.0 if kind == 4 else 0.2
    for beat in beats:
        for height, place, width in ((p_wave, -0.18, 0.03), (1.0, 0.0, 0.02 * broad), (0.35, 0.24, 0.05)):
            signal += height * np.exp(-(((time - beat - place) / width) ** 2) / 2)
    return random.uniform(0.7, 1.3) * signal


def lorenz() -> Data:
    """The state of a Lorenz system a fifth of a second later, from a state on its attractor."""
    from scipy.integrate import solve_ivp

    def slope(_: float, state: Any) -> list[float]:
        x, y, z = state
        return [10 * (y - x), x * (28 - z) - y, x * y - 8 / 3 * z]

    times = np.arange(10, 260, 0.05)
    states = solve_ivp(slope, (0, 260), [1.0, 1.0, 20.0], t_eval=times, rtol=1e-6).y.T.astype(np.float32)
    states = scaled(states, 0)
    return split(states[:-4], states[4:])


def chirps() -> Data:
    """First and last frequency of noisy tones that rise or fall."""
    random = np.random.default_rng(13)
    ends = random.uniform(2, 14, (4000, 2))
    time = np.linspace(0, 1, 64)
    phases = ends[:, :1] * time + (ends[:, 1:] - ends[:, :1]) * time**2 / 2 + random.uniform(0, 1, (4000, 1))
    waves = np.sin(2 * np.pi * phases) + random.normal(0, 0.3, phases.shape)
    return split(waves.astype(np.float32), ((ends - 8) / 3.5).astype(np.float32))
