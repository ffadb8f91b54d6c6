"""ViNet in PyTorch, written for the benchmark from the published layer table, with its state-dict names."""

import torch
from torch import nn
from torch.nn import functional


class Basic(nn.Module):
    def __init__(self, cin, cout, kernel, stride=1, padding=0):
        super().__init__()
        self.conv = nn.Conv3d(cin, cout, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm3d(cout, eps=1e-3, momentum=0.001)

    def forward(self, x):
        return functional.relu(self.bn(self.conv(x)), inplace=True)


class Sep(nn.Module):
    def __init__(self, cin, cout, k, s, p):
        super().__init__()
        self.conv_s = nn.Conv3d(cin, cout, (1, k, k), (1, s, s), (0, p, p), bias=False)
        self.bn_s = nn.BatchNorm3d(cout, eps=1e-3, momentum=0.001)
        self.conv_t = nn.Conv3d(cout, cout, (k, 1, 1), (s, 1, 1), (p, 0, 0), bias=False)
        self.bn_t = nn.BatchNorm3d(cout, eps=1e-3, momentum=0.001)

    def forward(self, x):
        x = functional.relu(self.bn_s(self.conv_s(x)), inplace=True)
        return functional.relu(self.bn_t(self.conv_t(x)), inplace=True)


class Mixed(nn.Module):
    def __init__(self, cin, b0, r1, b1, r2, b2, b3):
        super().__init__()
        self.channels = b0 + b1 + b2 + b3
        self.branch0 = nn.Sequential(Basic(cin, b0, 1))
        self.branch1 = nn.Sequential(Basic(cin, r1, 1), Sep(r1, b1, 3, 1, 1))
        self.branch2 = nn.Sequential(Basic(cin, r2, 1), Sep(r2, b2, 3, 1, 1))
        self.branch3 = nn.Sequential(nn.MaxPool3d(3, 1, 1), Basic(cin, b3, 1))

    def forward(self, x):
        return torch.cat([self.branch0(x), self.branch1(x), self.branch2(x), self.branch3(x)], 1)


# Channels of each block: of its four branches, with those of the two reductions before a 3x3x3 convolution.
_BLOCKS = (
    ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)),
    (
        (192, 96, 208, 16, 48, 64),
        (160, 112, 224, 24, 64, 64),
        (128, 128, 256, 24, 64, 64),
        (112, 144, 288, 32, 64, 64),
        (256, 160, 320, 32, 128, 128),
    ),
    ((256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)),
)


def scaled(width):
    """Channel counts times `width`, at least 1, as `avsal_jax.models.layers.scaled`."""
    return lambda channels: max(1, round(channels * width))


class Backbone(nn.Module):
    def __init__(self, width):
        super().__init__()
        pool, of = nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)), scaled(width)
        first = (Sep(3, of(64), 7, 2, 3), pool, Basic(of(64), of(64), 1), Sep(of(64), of(192), 3, 1, 1))
        self.base1 = nn.Sequential(*first)
        self.channels = [of(192)]
        for name, blocks in zip(("base2", "base3", "base4"), _BLOCKS, strict=True):
            mixed, cin = [], self.channels[-1]
            for block in blocks:
                mixed.append(Mixed(cin, *map(of, block)))
                cin = mixed[-1].channels
            setattr(self, name, nn.Sequential(*mixed))
            self.channels.append(cin)

    def forward(self, x):
        y3 = self.base1(x)
        y2 = self.base2(functional.max_pool3d(y3, (1, 3, 3), (1, 2, 2), (0, 1, 1)))
        y1 = self.base3(functional.max_pool3d(y2, (3, 3, 3), (2, 2, 2), (1, 1, 1)))
        y0 = self.base4(functional.max_pool3d(y1, 2, 2))
        return y0, y1, y2, y3


class Decoder(nn.Module):
    """For clips of 32 frames.

    Args:
      channels: of the pyramid, finest level first.
      width: multiplier of its own last layers.
    """

    def __init__(self, channels, width):
        super().__init__()
        up, relu = nn.Upsample(scale_factor=(1, 2, 2), mode="trilinear"), nn.ReLU(inplace=True)
        c3, c2, c1, c0 = channels
        wide, narrow = map(scaled(width), (64, 32))

        def conv(cin, cout, time, space=3):
            pad = (0, space // 2, space // 2)
            return nn.Conv3d(cin, cout, (time, space, space), (time, 1, 1), pad, bias=False)

        self.convtsp1 = nn.Sequential(conv(c0, c1, 1), relu, up)
        self.convtsp2 = nn.Sequential(conv(c1, c2, 3), relu, up)
        self.convtsp3 = nn.Sequential(conv(c2, c3, 5), relu, up)
        self.convtsp4 = nn.Sequential(
            *(conv(c3, wide, 5), relu, up),
            *(conv(wide, narrow, 2), relu, up),
            *(conv(narrow, narrow, 2, 1), relu, nn.Conv3d(narrow, 1, 1)),
        )

    def forward(self, y0, y1, y2, y3):
        z = self.convtsp1(y0)
        z = self.convtsp2(torch.cat([z, y1], 2))
        z = self.convtsp3(torch.cat([z, y2], 2))
        return self.convtsp4(torch.cat([z, y3], 2))[:, 0, 0]


class ViNet(nn.Module):
    """Normalised clips [B, 3, 32, H, W] -> logits [B, H, W].

    Args:
      width: multiplier of the channel counts.
    """

    def __init__(self, width=1.0):
        super().__init__()
        self.backbone = Backbone(width)
        self.decoder = Decoder(self.backbone.channels, width)

    def forward(self, x):
        return self.decoder(*self.backbone(x))
