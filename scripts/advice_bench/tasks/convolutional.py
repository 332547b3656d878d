"""Convolutional networks; :class:`Conv` has batch norm and ReLU behind the convolution if not told otherwise."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import MLP, Permute
from torchvision.ops import Conv2dNormActivation as Conv

from advice_bench.tasks.layers import Apply, Residual


def mean_head(width: int, outputs: int, dropout: float = 0.0) -> list[nn.Module]:
    """The mean over a picture, and a linear layer."""
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(width, outputs)]


def small_cnn(outputs: int = 10, *, norm: type[nn.Module] | None = nn.BatchNorm2d) -> nn.Module:
    body = [Conv(1, 16, norm_layer=norm), Conv(16, 32, stride=2, norm_layer=norm)]
    return nn.Sequential(*body, nn.Flatten(), nn.Linear(512, outputs))


def photo_cnn(outputs: int) -> nn.Module:
    return nn.Sequential(Conv(3, 16, stride=2), Conv(16, 32, stride=2), Conv(32, 64, stride=2), *mean_head(64, outputs))


def resnet(outputs: int) -> nn.Module:
    def block(width: int) -> list[nn.Module]:
        return [Residual(Conv(width, width), Conv(width, width, activation_layer=None)), nn.ReLU()]

    body = [Conv(3, 16, stride=2), *block(16), Conv(16, 32, stride=2), *block(32)]
    return nn.Sequential(*body, *mean_head(32, outputs))


def upsampler() -> nn.Module:
    block = partial(Conv, out_channels=16, norm_layer=partial(nn.GroupNorm, 4), activation_layer=nn.SiLU, bias=True)
    return nn.Sequential(block(1), nn.Upsample(scale_factor=4), block(16), nn.Conv2d(16, 1, 3, 1, 1))


def inpainter() -> nn.Module:
    first = Conv(1, 12, stride=2, activation_layer=nn.ELU, inplace=False, bias=True)
    return nn.Sequential(first, nn.Flatten(), MLP(432, [48, 16], activation_layer=nn.ELU))


def mobile_net(outputs: int) -> nn.Module:
    """Depthwise and pointwise convolutions in turn, on 16x16 pictures."""
    conv = partial(Conv, activation_layer=nn.ReLU6)

    def block(ins: int, outs: int, stride: int) -> list[nn.Module]:
        return [conv(ins, ins, stride=stride, groups=ins), conv(ins, outs, 1)]

    body = [conv(1, 12), *block(12, 24, 2), *block(24, 48, 2), *block(48, 64, 1)]
    return nn.Sequential(*body, *mean_head(64, outputs, dropout=0.1))


def vgg(outputs: int) -> nn.Module:
    """Pairs of convolutions without norm, pooling, and two dense layers, on 16x16 pictures."""

    def pair(ins: int, outs: int) -> list[nn.Module]:
        return [Conv(ins, outs, norm_layer=None), Conv(outs, outs, norm_layer=None), nn.MaxPool2d(2)]

    body = [*pair(3, 8), *pair(8, 16), nn.Flatten(), nn.Linear(256, 64), nn.ReLU(), nn.Dropout(0.25)]
    return nn.Sequential(*body, nn.Linear(64, outputs))


def denoiser() -> nn.Module:
    return nn.Sequential(Conv(1, 16, norm_layer=None), Conv(16, 16, norm_layer=None), nn.Conv2d(16, 1, 3, 1, 1))


def wave_conv() -> nn.Module:
    """Dilated convolutions over time."""
    layers = [nn.Conv1d(4, 24, 3), nn.Tanh(), nn.Conv1d(24, 24, 3, dilation=2), nn.Tanh()]
    layers += [nn.Conv1d(24, 24, 3, dilation=4), nn.Tanh()]
    return nn.Sequential(Permute([0, 2, 1]), *layers, Apply(lambda x: x[:, :, -1]), nn.Linear(24, 4))


class UNet(nn.Module):
    """Two levels down and up again, with bridges between them."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        norm, activation = partial(nn.InstanceNorm2d, affine=True), partial(nn.LeakyReLU, 0.1)
        block = partial(Conv, norm_layer=norm, activation_layer=activation, bias=True)
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


class PulseResNet(nn.Module):
    """A residual net of convolutions over time."""

    def __init__(self) -> None:
        super().__init__()

        def conv(ins: int, outs: int, size: int, stride: int) -> nn.Module:
            return nn.Sequential(nn.Conv1d(ins, outs, size, stride, size // 2, bias=False), nn.BatchNorm1d(outs))

        self.first = conv(1, 12, 7, 2)
        self.bodies, self.shortcuts = nn.ModuleList(), nn.ModuleList()
        for ins, outs, stride in ((12, 12, 1), (12, 24, 2), (24, 24, 1)):
            self.bodies.append(nn.Sequential(conv(ins, outs, 5, stride), nn.ReLU(), conv(outs, outs, 5, 1)))
            self.shortcuts.append(nn.Identity() if ins == outs else conv(ins, outs, 1, stride))
        self.head = nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        hidden = functional.relu(self.first(x))
        for body, shortcut in zip(self.bodies, self.shortcuts):
            hidden = functional.relu(shortcut(hidden) + body(hidden))
        return self.head(hidden.mean(2))  # type: ignore[no-any-return]
