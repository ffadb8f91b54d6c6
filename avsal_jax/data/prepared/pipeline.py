"""The tf.data stream of clip-audio pairs: rows -> records -> frames, sound and targets, in batches.

TensorFlow never uses an accelerator; frames remain uint8 until they are on the device.
"""

from __future__ import annotations

import collections
import functools
import re
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf

from avsal_jax.data.prepared.feature_cache import NO_FLIP, SHARED, FeatureCache
from avsal_jax.data.prepared.sampling import ClipChoice, Sampler, Sampling
from avsal_jax.data.prepared.videos import PreparedVideo
from avsal_jax.errors import AvsalError
from avsal_jax.media.clip_sound import ClipSound
from avsal_jax.spec.input import InputSpec

TARGETS = ("model", "native")
# How `prepare_video` fits pictures. With the fit `aspect`, a prepared set has one of the sizes.
PREPARED = {"resize": ("pil_bilinear",), "fit": ("stretch", "aspect")}
_NODE = re.compile(r"\{\{.*?\}\} ?")  # a node of TensorFlow's graph
# Errors of readers, newest last. Readers run in TensorFlow's threads; of their errors it passes on the text.
_reader_errors: collections.deque[AvsalError] = collections.deque(maxlen=1_000)
for _kind in ("GPU", "TPU"):
    tf.config.set_visible_devices([], _kind)


def clip_batches(
    videos: Sequence[PreparedVideo],
    spec: InputSpec,
    batch: int,
    sampling: Sampling | None = None,
    seed: int = 0,
    first_step: int = 0,
    steps: int | None = None,
    one_pass: bool = False,
    shard: tuple[int, int] = (0, 1),
    targets: str = "model",
    workers: int | None = None,
    features: FeatureCache | None = None,
) -> tf.data.Dataset:
    """Returns batches of clips; row i of step s is a pure function of (seed, s * batch + i).

    Each element is a dict:
      frames uint8 [b, T, H, W, 3]; audio float32 [b, L] or [b, P, 96, 64], where `spec` has sound;
      density float32 [b, H, W] in [0, 1], by cv2's bilinear rule; fixations uint8 [b, H, W], 1 at fixated
      pixels; mask bool [b], False for padding rows of the last batch and for black targets;
      video, label int32 [b]: index into `videos`, and index of the target's frame; row int64 [b].
    With `targets="native"` density is [b, h, w] at the size of the truth, zero outside `size` int32 [b, 2],
    and fixations int32 [b, N, 2] are (row, column), padded with -1.

    Args:
      videos: from `selection.PreparedSources`.
      spec: clip length, size, labelled frame and sound.
      batch: rows per step over all processes.
      sampling: how clips are drawn; None for one random clip per video and epoch.
      seed: of all draws.
      first_step: the step to resume at; earlier rows are not read.
      steps: number of steps; None for an endless stream.
      one_pass: whether the stream has a single epoch; padding rows of the last step are masked.
      shard: (index, number) of this process, which gets its `batch / number` rows of each step.
      targets: `model` or `native`.
      workers: threads; None for one per processor.
      features: of all frames. If given, each element has `shared/0`, ... float16 [b, T, h, w, c], and
        `frames` has only the labelled frame, [b, 1, H, W, 3].

    Raises:
      AvsalError: videos of a different size, a batch that the processes cannot share, or no videos.
    """
    sampling = sampling or Sampling()
    _check(videos, spec=spec, batch=batch, shard=shard, targets=targets, sampling=sampling)
    if features is not None and sampling.flip:
        raise AvsalError(NO_FLIP)
    sampler = Sampler(videos, spec=spec, sampling=sampling, seed=seed)
    if one_pass:
        steps = -(-sampler.clips_per_epoch // batch) - first_step
    share = batch // shard[1]
    last = np.iinfo(np.int64).max if steps is None else (first_step + steps) * share
    loader = _Loader(
        videos,
        spec=spec,
        sampler=sampler,
        valid_rows=sampler.clips_per_epoch if one_pass else None,
        features=features,
    )
    decode = functools.partial(_decode, spec=spec, targets=targets, loader=loader)

    @tf.autograph.experimental.do_not_convert  # it has no control flow to convert, which takes .2 s
    def clip_of(local):
        return decode((local // share) * batch + shard[0] * share + local % share)

    rows = tf.data.Dataset.range(first_step * share, last)
    clips = rows.map(clip_of, num_parallel_calls=workers or tf.data.AUTOTUNE, deterministic=True)
    if targets == "native":
        empty = {"density": 0.0, "fixations": -1}
        values = {k: empty.get(k, tf.zeros((), s.dtype)) for k, s in clips.element_spec.items()}
        batches = clips.padded_batch(share, padding_values=values)
    else:
        batches = clips.batch(share, drop_remainder=True)
    options = tf.data.Options()
    options.threading.private_threadpool_size = workers or 0
    return batches.prefetch(2).with_options(options)


def picture_batches(videos: Sequence[PreparedVideo], batch: int) -> Iterator[np.ndarray]:
    """Yields the pictures of prepared videos of one size, uint8 [up to `batch`, H, W, 3], as in clips.

    A batch may span several videos.
    """
    (height, width), ends = videos[0].shards.size, np.cumsum([video.frames for video in videos])

    def read(number):
        place = int(np.searchsorted(ends, number, side="right"))
        video = videos[place]
        frame = int(number) - (int(ends[place]) - video.frames)
        return video.shards.read_raw("pictures", video.index, [frame])[0]

    @tf.autograph.experimental.do_not_convert
    def picture(number):
        record = tf.ensure_shape(tf.numpy_function(_remember_errors(read), [number], tf.string), [])
        encoded = tf.io.parse_single_example(record, {"image": tf.io.FixedLenFeature([], tf.string)})
        return tf.ensure_shape(_image(encoded["image"], 3), (height, width, 3))

    frames = tf.data.Dataset.range(int(ends[-1])).map(picture, num_parallel_calls=tf.data.AUTOTUNE)
    for frames_of_batch in numpy_batches(frames.batch(batch).map(lambda images: {"images": images})):
        yield frames_of_batch["images"]


def numpy_batches(batches: tf.data.Dataset) -> Iterator[dict[str, np.ndarray]]:
    """Yields the batches as NumPy arrays; re-raises errors of readers in TensorFlow's threads.

    Raises:
      AvsalError: a record is missing or damaged.
    """
    try:
        yield from batches.as_numpy_iterator()
    except tf.errors.OpError as error:
        text = str(error.message)
        for raised in reversed(tuple(_reader_errors)):  # a copy, since other readers may still fail
            if str(raised) in text:  # of several threads, that of the row that TensorFlow reports
                raise raised from error
        raise AvsalError(_NODE.sub("", text.splitlines()[0])) from error


def _remember_errors(read: Callable) -> Callable:
    """Returns a reader for `tf.numpy_function` whose errors `numpy_batches` re-raises."""

    @functools.wraps(read)
    def reader(*args):
        try:
            return read(*args)
        except AvsalError as error:
            _reader_errors.append(error)
            raise

    return reader


def _check(videos, spec, batch, shard, targets, sampling) -> None:
    index, count = shard
    if batch < 1 or count < 1 or batch % count or not 0 <= index < count:
        raise AvsalError(f"a batch of {batch} cannot be shared by {count} processes (this one is {index})")
    if targets not in TARGETS:
        raise AvsalError(f"targets {targets!r} is not one of {', '.join(TARGETS)}")
    if targets == "native" and sampling.flip:
        raise AvsalError("targets at native size are for evaluation, where clips are not mirrored")
    for field, values in PREPARED.items():
        if getattr(spec, field) not in values:
            raise AvsalError(
                f"prepared pictures have {field} {values[0]!r}, but this network needs "
                f"{getattr(spec, field)!r}: train with {field}={values[0]}"
            )
    for video in videos:
        if video.shards.size != (spec.height, spec.width):
            raise AvsalError(
                f"{video.shards.folder} was prepared at {video.shards.size[0]}x{video.shards.size[1]}, the "
                f"model takes {spec.height}x{spec.width}: avsal prepare --size {spec.height}x{spec.width}"
                + _other_size(spec, video.shards.size)
            )


def _other_size(spec: InputSpec, size: tuple[int, int]) -> str:
    """Returns a second remedy for the error if the model supports the prepared size."""
    if size not in spec.sizes:
        return ""
    return f", or set model.height={size[0]} and model.width={size[1]} for this run"


class _Loader:
    """Reads the data of a row; TensorFlow's threads call it."""

    def __init__(
        self,
        videos,
        spec: InputSpec,
        sampler: Sampler,
        valid_rows: int | None,
        features: FeatureCache | None,
    ):
        self._videos, self._spec, self._sampler, self._valid = videos, spec, sampler, valid_rows
        self._features = features
        self.shapes = () if features is None else tuple((spec.frames, *shape) for shape in features.shapes)
        self.pictures = spec.frames if features is None else 1
        self._silence = None if spec.audio is None else np.asarray(spec.audio.silence)

    def load(self, row: np.int64) -> tuple:
        """Returns (pictures [T] bytes, target bytes, sound, [video, label, flip, mask], features ...)."""
        choice = self._sampler.clip(int(row))
        video = self._videos[choice.video]
        frames = choice.frames if self._features is None else (choice.label,)
        pictures = video.shards.read_raw("pictures", video.index, frames)
        shared = () if self._features is None else self._features.read(video, choice.frames)
        target = video.shards.read_raw("targets", video.index, [choice.label])[0]
        has_target = (self._valid is None or row < self._valid) and not video.black[choice.label]
        meta = np.array([choice.video, choice.label, choice.flip, has_target], np.int32)
        return np.array(pictures, object), target, self._sound(video, choice), meta, *shared

    def _sound(self, video: PreparedVideo, choice: ClipChoice) -> np.ndarray:
        spec = self._spec
        if spec.audio is None:
            return np.zeros(0, np.float32)
        if video.sound is None:
            return self._silence
        clips = ClipSound.of(video.sound, spec, video.fps)
        return np.ascontiguousarray(clips.clip(list(choice.frames), video.frames), np.float32)


def _decode(row: tf.Tensor, spec: InputSpec, targets: str, loader: _Loader) -> dict[str, tf.Tensor]:
    kinds = (tf.string, tf.string, tf.float32, tf.int32, *[tf.float16] * len(loader.shapes))
    pictures, target, sound, meta, *shared = tf.numpy_function(_remember_errors(loader.load), [row], kinds)
    pictures.set_shape([loader.pictures])
    video, label, flip, mask = tf.unstack(tf.ensure_shape(meta, [4]))
    clip = {
        "frames": _mirrored(_frames(pictures, spec), flip, axis=2),
        "mask": mask > 0,
        "video": video,
        "label": label,
        "row": row,
    }
    for number, (feature, shape) in enumerate(zip(shared, loader.shapes, strict=True)):
        clip[f"{SHARED}{number}"] = tf.ensure_shape(feature, shape)
    if spec.audio is not None:
        clip["audio"] = tf.ensure_shape(sound, spec.audio.shape)
    density, fixations, size = _target(target)
    if targets == "native":
        return {**clip, "density": density, "fixations": fixations, "size": size}
    clip["density"] = _mirrored(_resized(density, spec), flip, axis=1)
    clip["fixations"] = _mirrored(_fixation_map(fixations, size, spec), flip, axis=1)
    return clip


def _frames(records: tf.Tensor, spec: InputSpec) -> tf.Tensor:
    """Returns uint8 [T, H, W, 3]. JPEG by the accurate transform, as Pillow decodes."""
    encoded = tf.io.parse_example(records, {"image": tf.io.FixedLenFeature([], tf.string)})["image"]
    count = records.shape[0]
    frames = tf.stack([_image(encoded[t], 3) for t in range(count)])
    return tf.ensure_shape(frames, (count, spec.height, spec.width, 3))


def _image(encoded: tf.Tensor, channels: int) -> tf.Tensor:
    return tf.cond(
        tf.io.is_jpeg(encoded),
        lambda: tf.io.decode_jpeg(encoded, channels, dct_method="INTEGER_ACCURATE"),
        lambda: tf.io.decode_png(encoded, channels),
    )


def _target(record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns (density float32 [h, w] in [0, 1], fixations int32 [N, 2], size int32 [2])."""
    names = ("density", "fixations", "size")
    values = tf.io.parse_single_example(record, {n: tf.io.FixedLenFeature([], tf.string) for n in names})
    density = tf.cast(_image(values["density"], 1)[..., 0], tf.float32) / 255
    fixations = tf.reshape(tf.io.decode_raw(values["fixations"], tf.int32), [-1, 2])
    return density, fixations, tf.ensure_shape(tf.io.decode_raw(values["size"], tf.int32), [2])


def _resized(density: tf.Tensor, spec: InputSpec) -> tf.Tensor:
    """Bilinear between pixel centres without antialiasing: cv2.resize's rule (ViNet @2a52666, dataloader)."""
    resized = tf.image.resize(density[..., None], (spec.height, spec.width), antialias=False)
    return tf.ensure_shape(resized[..., 0], (spec.height, spec.width))


def _fixation_map(points: tf.Tensor, size: tf.Tensor, spec: InputSpec) -> tf.Tensor:
    """Returns uint8 [H, W]: 1 at the pixels that contain the centres of (row, column) of a map of `size`."""
    new = tf.constant([spec.height, spec.width], tf.float64)
    scaled = tf.floor((tf.cast(points, tf.float64) + 0.5) * (new / tf.cast(size, tf.float64)))
    places = tf.cast(tf.clip_by_value(scaled, 0, new - 1), tf.int32)
    counts = tf.scatter_nd(places, tf.ones(tf.shape(places)[:1], tf.int32), (spec.height, spec.width))
    return tf.cast(counts > 0, tf.uint8)


def _mirrored(images: tf.Tensor, flip: tf.Tensor, axis: int) -> tf.Tensor:
    return tf.cond(flip > 0, lambda: tf.reverse(images, [axis]), lambda: images)
