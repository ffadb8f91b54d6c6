"""The PyTorch peer of `Model.iter_video`: a loop over a video that makes the first maps."""

import itertools
import pathlib
from collections.abc import Iterator

import numpy as np
import torch
from speed_systems import System
from torch import nn
from torch_side import autocast, compiled_if, normalised, placed

from avsal_jax.inference.inputs import SoundChoice, open_source
from avsal_jax.inference.smoothing import smoothed
from avsal_jax.inference.windows import window
from avsal_jax.media.fitting import fitted_frame


class VideoLoop:
    """A loop over a video, called without arguments: returns the first maps, [N, H, W].

    A frame is decoded, resized and normalised once. A network of clips evaluates every window whole; the
    encoder of avsal-gaze evaluates every frame once.
    """

    def __init__(
        self,
        system: System,
        net: nn.Module,
        layout: str,
        *,
        video: pathlib.Path,
        compiled: bool,
        dtype: str,
    ):
        self._system, self._layout, self._video, self._dtype = system, layout, video, dtype
        if system.network == "gaze":
            self._encode, self._head = compiled_if(net.encode, compiled), compiled_if(net.head, compiled)
        else:
            self._encode, self._head = None, compiled_if(net, compiled)
        self._device = next(net.parameters()).device

    def __call__(self) -> np.ndarray:
        with torch.inference_mode(), autocast(self._device, self._dtype):
            return self._maps()

    def _maps(self):
        system, spec = self._system, self._system.spec
        source = open_source(self._video)
        rate = float(source.info.rate)
        spacing, radius = spec.spacing(rate), spec.smoothing_frames(rate)
        windows = [
            window(i, None, spec.frames, label_frame=spec.label_frame, spacing=spacing)
            for i in range(system.maps + radius)
        ]
        sound = SoundChoice().clips(source, spec, step=1) if spec.audio is not None else None
        frames = self._frames(source, 1 + max(map(max, windows)), sound)
        maps = itertools.chain.from_iterable(
            self._maps_of(windows[first : first + system.batch], frames, sound)
            for first in range(0, len(windows), system.batch)
        )
        if radius:
            maps = (saliency for _, saliency in smoothed(enumerate(maps), radius))
        return np.stack(list(itertools.islice(maps, system.maps)))

    def _frames(self, source, count: int, sound) -> list:
        """Returns the first frames, normalised: tensors [3, H, W], or (levels, luminance) of each."""
        spec, frames = self._system.spec, []
        for frame in itertools.islice(source, count):
            if sound is not None:
                sound.times.add(float(frame.pts * source.info.time_base))
            image = fitted_frame(frame.image, spec)
            if image.shape[:2] != (spec.height, spec.width):
                raise ValueError(f"{self._video} needs frames of {image.shape[:2]}, not of the system's size")
            pixels = normalised(image, spec.pixels, self._device).movedim(-1, 0)
            if self._encode is not None:
                pixels = self._encode(placed(pixels[None], self._layout))
            frames.append(pixels)
        return frames

    def _maps_of(self, windows: list, frames: list, sound) -> Iterator[np.ndarray]:
        if self._encode is not None:
            levels = zip(*(frames[clip[-1]][0] for clip in windows), strict=True)
            light = torch.stack([torch.cat([frames[i][1] for i in clip]) for clip in windows])
            logits = self._head([torch.cat(level) for level in levels], light)
        else:
            clips = torch.stack([torch.stack([frames[i] for i in clip], 1) for clip in windows])
            inputs = [placed(clips, self._layout)]
            if self._system.spec.audio is not None:
                silence = np.asarray(self._system.spec.audio.silence)
                waves = [silence if sound is None else sound.clip(clip, None) for clip in windows]
                inputs.append(torch.from_numpy(np.stack(waves)).to(self._device))
            logits = self._head(*inputs)
        return iter(torch.sigmoid(logits.float()).cpu().numpy())
