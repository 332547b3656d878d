"""Convolutional networks."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def conv(
    ins: int, outs: int, size: int = 3, stride: int = 1, *, groups: int = 1, activation: type[nn.Module] = nn.ReLU
) -> list[nn.Module]:
    """Convolution, batch norm and activation."""
    layer = nn.Conv2d(ins, outs, size, stride, size // 2, groups=groups, bias=False)
    return [layer, nn.BatchNorm2d(outs), activation()]


def small_cnn(outputs: int = 10, *, norm: bool = True) -> nn.Module:
    def block(ins: int, outs: int, stride: int) -> list[nn.Module]:
        return conv(ins, outs, 3, stride) if norm else [nn.Conv2d(ins, outs, 3, stride, 1), nn.ReLU()]

    return nn.Sequential(*block(1, 16, 1), *block(16, 32, 2), nn.Flatten(), nn.Linear(512, outputs))


def photo_cnn(outputs: int) -> nn.Module:
    body = [*conv(3, 16, 3, 2), *conv(16, 32, 3, 2), *conv(32, 64, 3, 2)]
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, outputs))


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*conv(width, width), *conv(width, width)[:2])

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(x + self.body(x))


def resnet(outputs: int) -> nn.Module:
    body = [*conv(3, 16, 3, 2), Residual(16), *conv(16, 32, 3, 2), Residual(32)]
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, outputs))


def upsampler() -> nn.Module:
    def block(ins: int) -> list[nn.Module]:
        return [nn.Conv2d(ins, 16, 3, 1, 1), nn.GroupNorm(4, 16), nn.SiLU()]

    return nn.Sequential(*block(1), nn.Upsample(scale_factor=4), *block(16), nn.Conv2d(16, 1, 3, 1, 1))


def inpainter() -> nn.Module:
    first = [nn.Conv2d(1, 12, 3, 2, 1), nn.BatchNorm2d(12), nn.ELU(), nn.Flatten()]
    return nn.Sequential(*first, nn.Linear(432, 48), nn.ELU(), nn.Linear(48, 16))


def mobile_net(outputs: int) -> nn.Module:
    """Depthwise and pointwise convolutions in turn, on 16x16 pictures."""

    def block(ins: int, outs: int, stride: int) -> list[nn.Module]:
        depthwise = conv(ins, ins, 3, stride, groups=ins, activation=nn.ReLU6)
        return depthwise + conv(ins, outs, 1, activation=nn.ReLU6)

    body = [*conv(1, 12, activation=nn.ReLU6), *block(12, 24, 2), *block(24, 48, 2), *block(48, 64, 1)]
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.1), nn.Linear(64, outputs))


class UNet(nn.Module):
    """Two levels down and up again, with bridges between them."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()

        def block(ins: int, outs: int) -> nn.Module:
            return nn.Sequential(nn.Conv2d(ins, outs, 3, 1, 1), nn.InstanceNorm2d(outs, affine=True), nn.LeakyReLU(0.1))

        self.down1, self.down2, self.bottom = block(1, width), block(width, 2 * width), block(2 * width, 4 * width)
        self.rise2 = nn.ConvTranspose2d(4 * width, 2 * width, 2, 2)
        self.up2 = block(4 * width, 2 * width)
        self.rise1 = nn.ConvTranspose2d(2 * width, width, 2, 2)
        self.up1 = block(2 * width, width)
        self.head = nn.Conv2d(width, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        fine = self.down1(x)
        middle = self.down2(functional.max_pool2d(fine, 2))
        coarse = self.bottom(functional.max_pool2d(middle, 2))
        middle = self.up2(torch.cat([self.rise2(coarse), middle], 1))
        return self.head(self.up1(torch.cat([self.rise1(middle), fine], 1)))  # type: ignore[no-any-return]


def vgg(outputs: int) -> nn.Module:
    """Pairs of convolutions without norm, pooling, and two dense layers, on 16x16 pictures."""

    def pair(ins: int, outs: int) -> list[nn.Module]:
        first, second = nn.Conv2d(ins, outs, 3, 1, 1), nn.Conv2d(outs, outs, 3, 1, 1)
        return [first, nn.ReLU(), second, nn.ReLU(), nn.MaxPool2d(2)]

    body = [*pair(3, 8), *pair(8, 16), nn.Flatten(), nn.Linear(256, 64), nn.ReLU(), nn.Dropout(0.25)]
    return nn.Sequential(*body, nn.Linear(64, outputs))


def denoiser() -> nn.Module:
    body = [nn.Conv2d(1, 16, 3, 1, 1), nn.ReLU(), nn.Conv2d(16, 16, 3, 1, 1), nn.ReLU()]
    return nn.Sequential(*body, nn.Conv2d(16, 1, 3, 1, 1))


class WaveConv(nn.Module):
    """Dilated convolutions over time."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv1d(4 if i == 0 else width, width, 3, dilation=2**i) for i in range(3))
        self.head = nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        hidden = x.transpose(1, 2)
        for layer in self.layers:
            hidden = torch.tanh(layer(hidden))
        return self.head(hidden[:, :, -1])  # type: ignore[no-any-return]


class PulseResNet(nn.Module):
    """A residual net of convolutions over time."""

    def __init__(self, outputs: int = 5, width: int = 12) -> None:
        super().__init__()

        def conv(ins: int, outs: int, size: int, stride: int) -> nn.Module:
            return nn.Sequential(nn.Conv1d(ins, outs, size, stride, size // 2, bias=False), nn.BatchNorm1d(outs))

        widths = (width, 2 * width, 2 * width)
        self.first = conv(1, width, 7, 2)
        self.bodies, self.shortcuts = nn.ModuleList(), nn.ModuleList()
        for ins, outs in zip((width, *widths), widths):
            stride = 1 if ins == outs else 2
            self.bodies.append(nn.Sequential(conv(ins, outs, 5, stride), nn.ReLU(), conv(outs, outs, 5, 1)))
            self.shortcuts.append(nn.Identity() if ins == outs else conv(ins, outs, 1, stride))
        self.head = nn.Linear(widths[-1], outputs)

    def forward(self, x: Tensor) -> Tensor:
        hidden = functional.relu(self.first(x))
        for body, shortcut in zip(self.bodies, self.shortcuts):
            hidden = functional.relu(shortcut(hidden) + body(hidden))
        return self.head(hidden.mean(2))  # type: ignore[no-any-return]
