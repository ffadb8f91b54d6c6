"""A model for users: loaded from a directory, applied to clips, frames and videos."""

from __future__ import annotations

import dataclasses
import math
import os
import warnings
from collections.abc import Collection, Iterable, Iterator, Sequence

import jax
import numpy as np

from avsal_jax.bundled import DEFAULT
from avsal_jax.errors import AvsalError
from avsal_jax.identity import model_identity
from avsal_jax.inference.feature_engine import FeatureEngine, with_iterations
from avsal_jax.inference.inputs import HEARS_SILENCE, SoundChoice, Source, damage_notes, open_source
from avsal_jax.inference.stream import FrameStream, Images
from avsal_jax.inference.stream import stream as frame_stream
from avsal_jax.inference.streaming import SoundOfClip, WindowEngine, check_finite
from avsal_jax.media.audio import clean_sound
from avsal_jax.media.clip_sound import ClipSound
from avsal_jax.media.fitting import fitted_frame, fitted_map
from avsal_jax.media.photographs import read_photograph
from avsal_jax.models.layers import Runtime
from avsal_jax.models.network import SALIENCY, Network
from avsal_jax.plugins import load_plugins
from avsal_jax.spec.input import InputSpec
from avsal_jax.storage import StoredModel, read_model
from avsal_jax.types import Clip, Prediction


class Model:
    """A network with its weights; made by `load_model`.

    Attributes:
      network: the Flax module.
      system: its name.
      variables: `params` and `batch_stats`.
      spec: the `InputSpec`.
      card: `model.json` as a dict.
      runtime: how the network is run.
    """

    def __init__(
        self,
        stored: StoredModel,
        runtime: Runtime | None = None,
        smoothing: float | None = None,
        coding_iterations: int | None = None,
    ):
        self.runtime = runtime or Runtime()
        self.network, self.spec, self.card = stored.network, stored.preset.input, stored.card
        self._smoothing = smoothing
        if smoothing is not None:
            self.spec = dataclasses.replace(self.spec, smoothing=smoothing)
            self.network = self.network.clone(input=self.spec)
        self._coding_iterations = coding_iterations
        if coding_iterations is not None:
            self.network = with_iterations(self.network, coding_iterations)
        self.system = stored.preset.system
        self.variables = jax.device_put(stored.variables)
        self._engines: dict[tuple[int, int, int], WindowEngine] = {}
        self._feature_engines: dict[tuple, FeatureEngine] = {}
        self._run = jax.jit(self.network.run, static_argnames="features")

    @property
    def identity(self) -> str:
        """A short text of what maps depend on: the model directory and the overrides of its settings."""
        changes = "" if self._smoothing is None else f", smoothing {self._smoothing:g}"
        if self._coding_iterations is not None:
            changes += f", {self._coding_iterations} iterations of predictive coding"
        return model_identity(self.card) + changes

    def __call__(self, clip: Clip, features: Sequence[str] = ()) -> Prediction:
        """Evaluates the network on preprocessed clips.

        Args:
          clip: frames uint8 RGB [B, T, H, W, 3] at T of `spec`; any H and W divisible by `spec.divisor`.
          features: names of recorded features to return.

        Returns:
          Prediction with saliency and logits [B, H, W] (None for a part without the head `saliency`).

        Raises:
          AvsalError: the clip does not fit, or a feature is unknown (the message lists the available ones).
        """
        if not self.network.sees_medium:  # videos and stills then share a compiled program
            clip = clip.replace(medium="video")
        outputs = self._run(self.variables, clip, features=tuple(sorted(features)))
        logits = outputs.logits.get(SALIENCY)
        saliency = None if logits is None else jax.nn.sigmoid(logits)
        return Prediction(saliency, logits=logits, features=outputs.features, heads=outputs.logits)

    def predict_video(
        self, path, audio: str = "auto", batch: int | None = None, stream: int | None = None
    ) -> np.ndarray:
        """Returns float32 [N, H, W] in [0, 1]: a map at model size for each of the N frames of a video.

        Arguments and errors are those of `iter_video`.
        """
        return np.stack(
            [saliency for _, saliency in self.iter_video(path, audio=audio, batch=batch, stream=stream)]
        )

    def iter_video(
        self, path, audio: str = "auto", batch: int | None = None, stream: int | None = None
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Yields (index, map float32 [H, W] in [0, 1]) for every frame; memory is O(T), not O(N).

        Args:
          path: a video file, a picture (all frames of an animated one), or a folder of images.
          audio: the input of an audio-visual network: `auto` (the video's own sound), `off` (silence), or a
            file with sound.
          batch: windows per call; by default 1 on CPU, 8 elsewhere.
          stream: index of the video stream in the file; None for the stream that a player would choose.

        Warns about what is unusual in the video (`VideoInfo.notes`) and, at its end, about damage.

        Raises:
          AvsalError: the video or the sound cannot be read, or the network's output is not finite.
        """
        source, choice = open_source(path, stream=stream), SoundChoice(audio)
        choice.check()
        for line in source.info.notes:
            warnings.warn(line, stacklevel=2)
        lines: list[str] = []
        sound = choice.clips(source, self.spec, step=1, say=lines.append)
        if self.spec.audio is not None:
            if lines == [HEARS_SILENCE] and audio == "auto":
                lines = [f"{path} has no sound: {HEARS_SILENCE}"]
            for line in lines if audio != "off" else ():
                warnings.warn(line, stacklevel=2)
        elif audio not in ("auto", "off"):
            warnings.warn(lines[0], stacklevel=2)  # the model does not use the file

        frames = frame_stream(
            self, source, sound=sound and sound.clip, times=sound and sound.times, batch=batch
        )
        return _then_warned(frames, source, sound)

    def predict_frames(
        self, frames: np.ndarray, fps: float, audio: np.ndarray | None = None, rate: int | None = None
    ) -> np.ndarray:
        """Returns float32 [N, H, W] for frames in memory.

        Args:
          frames: RGB uint8 [N, height, width, 3] of any size.
          fps: frames per second. Models with sound, an interval or smoothing use it; other models do not.
          audio: mono waveform in [-1, 1] that begins with the first frame, or None for silence; uint8, int16
            and int32 are scaled by their full range, and NaN is set to zero, with a warning.
          rate: its sample rate in Hz.

        Raises:
          AvsalError: frames or sound of an unsupported type or shape, or the network's output is not finite.
        """
        if getattr(frames, "dtype", None) != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
            raise AvsalError("frames are RGB uint8 [N, height, width, 3]")
        if len(frames) == 0 or not 0 < fps < math.inf:
            raise AvsalError(f"there must be a frame and a finite, positive fps; got {len(frames)} and {fps}")
        sound = None
        if audio is not None and self.spec.audio is not None:
            wave = clean_sound(audio, rate)
            for line in wave.notes:
                warnings.warn(line, stacklevel=2)
            sound = ClipSound.of(wave, self.spec, fps).clip
        return np.stack([saliency for _, saliency in self.iter_frames(frames, sound=sound, fps=fps)])

    def predict_image(self, image: np.ndarray | str | os.PathLike) -> np.ndarray:
        """Returns float32 [H, W] in [0, 1]: the map of a photograph at model size.

        The input of a network of clips is the picture repeated T times, with silence if it takes audio.
        Pictures of all sizes share one compiled program; with the fit `aspect`, there is one program for each
        of its sizes. If the network pads pictures (`InputSpec.fit`), the padding is cropped, so the map is
        smaller.

        Args:
          image: RGB uint8 [height, width, 3] of any size; or a picture file, which is rotated upright and
            converted to sRGB (see `media.photographs.read_photograph`), with a warning if it is unusual.

        Raises:
          AvsalError: an array of an unsupported type or shape, a file that cannot be read, or the network's
            output is not finite.
        """
        name = "the picture"
        if isinstance(image, str | os.PathLike):
            photograph = read_photograph(image)
            for line in photograph.notes:
                warnings.warn(f"{photograph.path}: {line}", stacklevel=2)
            image, name = photograph.image, str(photograph.path)
        array = np.asarray(image)
        if array.dtype != np.uint8 or array.ndim != 3 or array.shape[-1] != 3 or not array.size:
            raise AvsalError(
                f"a picture is RGB uint8 [height, width, 3] or the path of a file; got {array.dtype} "
                f"{list(array.shape)}"
            )
        spec = self.spec.for_picture(*array.shape[:2])
        ((_, saliency),) = self.engine(spec=spec, medium="still").stills([fitted_frame(array, spec)])
        check_finite(saliency, name)
        return fitted_map(saliency, array.shape[:2], spec)

    def iter_frames(
        self,
        images: Iterable[np.ndarray],
        batch: int | None = None,
        sound: SoundOfClip | None = None,
        medium: str = "video",
        fps: float | None = None,
        selection: Collection[int] | None = None,
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Yields (index, map float32 [H, W]) for every RGB uint8 image of a stream.

        If the network pads pictures (`InputSpec.fit`), the padding is cropped, so maps are smaller. With the
        fit `aspect` the first image determines the size of all.

        Args:
          images: of any size.
          batch: windows per call; by default 1 on CPU, 8 elsewhere.
          sound: returns the sound of a clip (`media.clip_sound.ClipSound.clip`); None for silence.
          medium: `video`, or `still` for a photograph.
          fps: frames per second, for a model with an interval or smoothing.
          selection: indices of the frames whose maps are yielded; None for all. The maps do not change.
            Frames on which they do not depend are neither resized nor encoded.

        Raises:
          AvsalError: the model has an interval or smoothing, and fps is None.
        """
        frames = frame_stream(
            self, Images(images, fps), sound=sound, batch=batch, selection=selection, medium=medium
        )
        return ((frame.index, frame.saliency) for frame in frames)

    def engine(
        self, batch: int | None = None, spec: InputSpec | None = None, medium: str = "video"
    ) -> WindowEngine:
        """Returns the compiled sliding-window functions.

        Args:
          batch: windows per call; by default 1 on CPU, 8 elsewhere.
          spec: `InputSpec.for_picture` of the model's spec, for the size of the frames; None for the model's
            own height and width.
          medium: of the clips for which it is compiled first; see `WindowEngine`.
        """
        if SALIENCY not in self.network.heads:
            raise AvsalError(f"{self.system} is a part without the head {SALIENCY!r}: it predicts no maps")
        key, network = self._engine_key(batch, spec), self._network_of_size(spec)
        if key not in self._engines:
            self._engines[key] = WindowEngine(network, self.variables, batch=key[0], medium=medium)
        return self._engines[key]

    def earlier_compile_seconds(
        self, batch: int | None = None, spec: InputSpec | None = None
    ) -> float | None:
        """Returns the seconds of compiling so far for a batch and size; None before the first `engine`."""
        engine = self._engines.get(self._engine_key(batch, spec))
        return None if engine is None else engine.compile_seconds

    def _engine_key(self, batch: int | None, spec: InputSpec | None) -> tuple[int, int, int]:
        spec = spec or self.spec
        return batch or (1 if jax.default_backend() == "cpu" else 8), spec.height, spec.width

    def _network_of_size(self, spec: InputSpec | None) -> Network:
        """Returns the network with the height and width of a spec as its input."""
        if spec is None or (spec.height, spec.width) == (self.spec.height, self.spec.width):
            return self.network
        return self.network.clone(input=spec)

    def feature_engine(
        self, names: Sequence[str] = (), iterations: int | None = None, spec: InputSpec | None = None
    ) -> FeatureEngine:
        """Returns the engine that evaluates single clips with features for pictures; see `FeatureEngine`.

        Args:
          names, iterations: as in `FeatureEngine`.
          spec: as in `engine`.
        """
        network = self._network_of_size(spec)
        key = tuple(names), iterations, network.input.height, network.input.width
        if key not in self._feature_engines:
            engine = FeatureEngine(network, self.variables, run=self, names=names, iterations=iterations)
            self._feature_engines[key] = engine
        return self._feature_engines[key]


def _then_warned(frames: FrameStream, source: Source, sound: ClipSound | None) -> Iterator:
    """Yields the maps, then warns about damage to the video and changes to the sound of its clips."""
    count = 0
    for count, frame in enumerate(frames, 1):  # noqa: B007  (the number of frames)
        yield frame.index, frame.saliency
    for line in (*damage_notes(source, count), *(sound.notes if sound else ())):
        warnings.warn(line, stacklevel=2)


def load_model(
    path=DEFAULT,
    runtime: Runtime | None = None,
    smoothing: float | None = None,
    coding_iterations: int | None = None,
    plugins: Sequence[str] = (),
) -> Model:
    """Loads a model directory: bundled, converted, or trained.

    Args:
      path: the directory, or the name of a bundled model (`avsal-gaze`).
      runtime: how to run it, such as `Runtime(dtype=jnp.bfloat16)`.
      smoothing: seconds; overrides the model's value (`InputSpec.smoothing`); 0 for maps that do not depend
        on later maps.
      coding_iterations: iterations of predictive coding, from 0 to 100; overrides the model's number.
      plugins: files and modules that register parts of the model; their code is executed.

    Raises:
      AvsalError: the directory is missing or damaged, weights and network do not fit, a plugin is missing, or
        a number of iterations is given for a network without predictive coding.
    """
    load_plugins(plugins)
    return Model(read_model(path, runtime), runtime, smoothing, coding_iterations=coding_iterations)
