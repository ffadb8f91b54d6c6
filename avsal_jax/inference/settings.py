"""The settings of `avsal predict`."""

from __future__ import annotations

import dataclasses

from avsal_jax import registry
from avsal_jax.errors import AvsalError
from avsal_jax.inference.features import FeatureSettings
from avsal_jax.inference.output import FEATURES, default_outputs, feature_outputs


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of a prediction.

    Attributes:
      save: names of outputs (`avsal list output`). If all of them need features, only the frames of these
        are predicted.
      postprocess: of 8-bit maps, also in the overlay, see `pictures.to_grey`; `npz` has maps without it.
      audio: `auto` (the video's own sound), `off` (silence), or a file.
      fps: rate of a folder of images, frames per second.
      frame_step: every K-th frame is used; in between, the overlay shows the last map.
      batch: windows per call; None for a default that depends on the device.
      features: which features of which frames, and a second sound to compare.
      video_stream: index of the video stream of each file; None for the stream that a player would choose.

    Raises:
      AvsalError: an unknown output, or no output; a choice of features if no output needs them.
    """

    save: tuple[str, ...] = dataclasses.field(default_factory=default_outputs)
    postprocess: str = "none"
    audio: str = "auto"
    fps: float | None = None
    frame_step: int = 1
    batch: int | None = None
    features: FeatureSettings = dataclasses.field(default_factory=FeatureSettings)
    video_stream: int | None = None

    def __post_init__(self):
        if not self.save:
            raise AvsalError(f"there is no output to save; choose from {', '.join(registry.table('output'))}")
        registry.choose("output", self.save)
        if self.features != FeatureSettings() and not feature_outputs(self.save):
            classes = registry.table("output").items()
            names = " or ".join(name for name, cls in classes if FEATURES in cls.needs)
            raise AvsalError(
                "--features, --feature-frames, --compare-audio and --iterations are about features: add "
                f"{names} to --save"
            )

    def to_dict(self) -> dict:
        """Returns the settings as in `summary.json`, which has `video_stream` as `stream`."""
        values = dataclasses.asdict(self)
        values["stream"] = values.pop("video_stream")  # the name in the files of earlier versions
        return values
