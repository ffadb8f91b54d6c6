"""How `avsal predict` predicts."""

from __future__ import annotations

import dataclasses

from avsal_jax.errors import AvsalError
from avsal_jax.inference.features import FeatureSettings


@dataclasses.dataclass(frozen=True)
class Settings:
    """How videos are predicted.

    Attributes:
      save: some of `maps` (maps/%06d.png: 8-bit grey at the frame's size, numbered from 1, stretched from
        minimum to maximum), `overlay` (overlay.mp4: heat colours over the picture, the source's times
        and sound), `npz` (maps.npz: float16 at model size), `report` (report.html), `features` (features.html
        and the folder features: what the network recorded for a few frames). With `features` alone, no other
        frame is predicted.
      postprocess: of map images, see `pictures.to_grey`.
      audio: `auto` (the video's own sound), `off` (silence), or a file.
      fps: rate of a folder of images, frames a second.
      frame_step: every K-th frame is the video; the overlay holds the last map in between.
      batch: windows per call; None chooses by the device.
      features: which ones of which frames, and another sound beside the first.
      stream: index of the video stream of each file; None for the one that a player chooses.

    Raises:
      AvsalError: a choice of features, where `save` lacks them.
    """

    save: tuple[str, ...] = ("maps", "overlay")
    postprocess: str = "none"
    audio: str = "auto"
    fps: float | None = None
    frame_step: int = 1
    batch: int | None = None
    features: FeatureSettings = dataclasses.field(default_factory=FeatureSettings)
    stream: int | None = None

    def __post_init__(self):
        if "features" not in self.save and self.features != FeatureSettings():
            raise AvsalError(
                "--features, --feature-frames, --compare-audio and --iterations are about features: add "
                "features to --save"
            )
