"""Networks as a user writes them, for the tests of import paths; none knows voxelry."""

import torch
from torch import nn

RAN = []


class Plain(nn.Module):
    def __init__(self, in_channels, out_channels, spatial_dims, width=4):
        super().__init__()
        RAN.append(width)
        kind = nn.Conv2d if spatial_dims == 2 else nn.Conv3d
        self.first, self.last = kind(in_channels, width, 3, padding=1), kind(width, out_channels, 1)

    def forward(self, x):
        return self.last(torch.relu(self.first(x)))


class Dictionary(Plain):
    def forward(self, x):
        return {"out": super().forward(x), "aux": None}


class Stacked(Plain):
    def forward(self, x):
        out = super().forward(x)
        return torch.stack([out, out / 2], 1) if self.training else out


class Listed(Plain):
    def forward(self, x):
        out = super().forward(x)
        return (out, out[..., ::2, ::2, ::2], out[..., ::4, ::4, ::4])


class Coarse(Plain):
    def forward(self, x):
        return super().forward(x)[..., ::2]


class CoarseFirst(Listed):
    def forward(self, x):
        return super().forward(x)[::-1]


class Wide(Plain):
    def __init__(self, in_channels, out_channels, spatial_dims):
        super().__init__(in_channels, out_channels + 1, spatial_dims)


class Words(Plain):
    def forward(self, x):
        return "logits"


class Failing(Plain):
    def forward(self, x):
        raise KeyError("the user's own mistake")


class Deciding(Plain):
    """A network whose control flow depends on values, so that shape inference without values fails."""

    def forward(self, x):
        return super().forward(x) * (2 if x.sum().item() > 1e9 else 1)


class Demanding(nn.Module):
    def __init__(self, num_classes, features, strides, kernels, secret):
        super().__init__()
        self.seen = (features, strides, kernels, secret)
        self.last = nn.Conv3d(1, num_classes, 1)

    def forward(self, x):
        return self.last(x)


def factory(**given):
    return Plain(**given)


def nothing(in_channels, out_channels):
    return None


NUMBER = 3
