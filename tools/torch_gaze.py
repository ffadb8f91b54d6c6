"""The network of avsal-gaze in PyTorch, written for the benchmark: encoder, readout and motion head."""

import math

import torch
from torch import nn
from torch.nn import functional
from torch_camera_motion import PictureSize, motion_channels
from torch_efficientnet import EfficientNetLite0

_CHANNELS = (40, 112, 320)  # of the levels that the readout uses
_BT601 = (0.299, 0.587, 0.114)
_BLUR_RADIUS, _PEAK = 5, 0.98


class Gaze(nn.Module):
    """Normalised clips [B, 3, T, H, W] -> logits [B, H, W] of the last frame.

    As `avsal_jax`, it encodes all frames of a clip. `encode` and `head` are for streams, which encode each
    frame once. Only the motion head is trained, as in the recipe `gaze:clips`.

    Args:
      height, width: of the frames.
    """

    def __init__(self, height, width):
        super().__init__()
        self.encoder, self.head = EfficientNetLite0(), GazeHead(height, width)
        self.encoder.requires_grad_(False)

    def forward(self, clips):
        batch, _, length = clips.shape[:3]
        levels, light = self.encode(clips.transpose(1, 2).flatten(0, 1))
        levels = [level.unflatten(0, (batch, length))[:, -1] for level in levels]
        return self.head(levels, light.unflatten(0, (batch, length)))

    def encode(self, frames):
        """Frames [N, 3, H, W] -> levels of strides 8, 16 and 32, and the luminance [N, H/4, W/4]."""
        weights = frames.new_tensor(_BT601).view(1, 3, 1, 1)
        light = functional.avg_pool2d((frames * weights).sum(1, keepdim=True), 4)[:, 0]
        return self.encoder(frames)[1:], (light * 128 + 127) / 255


class GazeHead(nn.Module):
    """Levels [B, C, h, w] of a frame, and luminance [B, T, H/4, W/4] of its clip -> logits [B, H, W]."""

    def __init__(self, height, width, lags=(1, 3)):
        super().__init__()
        self.readout, self.motion_head, self.lags = Readout(), MotionHead(2 * len(lags)), lags
        self.readout.requires_grad_(False)
        self._picture_size = PictureSize(height // 4, width // 4)

    def forward(self, levels, light):
        size = [4 * n for n in light.shape[2:]]
        with torch.no_grad():
            density = _log_density(self.readout([level.float() for level in levels]))
        light = light.float()
        earlier = torch.stack([light[:, -1 - lag] for lag in self.lags], 1)
        motion = functional.avg_pool2d(motion_channels(light[:, -1], earlier, self._picture_size), 2)
        density = self.motion_head(density, motion)
        return _peaked(functional.interpolate(density, size, mode="bilinear")[:, 0])

    def train(self, mode=True):
        """The readout is frozen: its norms use their running statistics."""
        super().train(mode)
        self.readout.eval()
        return self


class Readout(nn.Module):
    """Levels -> logits [B, 1, H/8, W/8]."""

    def __init__(self, channels=48, hidden=32):
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm2d(count) for count in _CHANNELS)
        self.levels = nn.ModuleList(nn.Conv2d(count, channels, 1, bias=False) for count in _CHANNELS)
        self.conv = nn.Conv2d(channels, hidden, 3, padding=1)
        self.logits = nn.Conv2d(hidden, 1, 1, bias=False)
        self.log_blur, self.prior = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1, 6, 8))

    def forward(self, levels):
        size, total = levels[0].shape[2:], 0.0
        for norm, conv, level in zip(self.norms, self.levels, levels, strict=True):
            x = conv(norm(level))
            if x.shape[2:] != size:
                x = functional.interpolate(x, size, mode="bilinear")
            total = total + x
        x = functional.relu(total / math.sqrt(len(levels)))
        x = _blurred(self.logits(functional.relu(self.conv(x))), self.log_blur.exp())
        return x + functional.interpolate(self.prior[None], size, mode="bilinear")


class MotionHead(nn.Module):
    """Log density [B, 1, h, w] and motion channels [B, M, h, w] -> another log density."""

    def __init__(self, motion, channels=12):
        super().__init__()
        self.conv1 = nn.Conv2d(motion, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, 4, 3, padding=1)
        self.change, self.prior = nn.Conv2d(4, 2, 1), nn.Parameter(torch.zeros(1, 6, 8))

    def forward(self, density, motion):
        x = functional.relu(self.conv2(functional.relu(self.conv1(motion))))
        scale, shift = self.change(x).split(1, 1)
        prior = functional.interpolate(self.prior[None], density.shape[2:], mode="bilinear")
        centred = density - density.mean((2, 3), keepdim=True)
        return _log_density(centred * (1 + scale) + shift + prior)


def _log_density(logits):
    return logits - logits.logsumexp((2, 3), keepdim=True)


def _blurred(x, sigma):
    offsets = torch.arange(-_BLUR_RADIUS, _BLUR_RADIUS + 1)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel, pad = kernel / kernel.sum(), _BLUR_RADIUS
    x = functional.conv2d(functional.pad(x, (0, 0, pad, pad), "replicate"), kernel.view(1, 1, -1, 1))
    return functional.conv2d(functional.pad(x, (pad, pad, 0, 0), "replicate"), kernel.view(1, 1, 1, -1))


def _peaked(density):
    scaled = density - density.detach().amax((1, 2), keepdim=True) + math.log(_PEAK)
    return scaled - torch.log1p(-torch.exp(scaled))
