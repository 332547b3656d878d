"""New weights beside the layers of a frozen network."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

__all__ = ["ADAPTERS", "LoRA"]


class LoRA(nn.Module):
    """A frozen linear layer with a product of rank 8 added, scaled by 2."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base
        self.a = nn.Linear(base.in_features, 8, bias=False)
        self.b = nn.Linear(8, base.out_features, bias=False)
        nn.init.zeros_(self.b.weight)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.base(inputs) + 2.0 * self.b(self.a(inputs))  # type: ignore[no-any-return]


class Bottleneck(nn.Module):
    """A frozen linear layer, to whose outputs 16 features of them are added (Houlsby et al., arXiv:1902.00751)."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base
        self.down, self.up = nn.Linear(base.out_features, 16), nn.Linear(16, base.out_features)
        for each in (self.up.weight, self.up.bias):
            nn.init.zeros_(each)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        outputs = self.base(inputs)
        return outputs + self.up(F.gelu(self.down(outputs)))  # type: ignore[no-any-return]


class Scaled(nn.Module):
    """A frozen linear layer with a factor for each of its outputs, 1 at first (IA3: Liu et al., arXiv:2205.05638)."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base
        self.factor = nn.Parameter(torch.ones(base.out_features))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.base(inputs) * self.factor  # type: ignore[no-any-return]


ADAPTERS = {"lora": LoRA, "bottleneck": Bottleneck, "ia3": Scaled}
