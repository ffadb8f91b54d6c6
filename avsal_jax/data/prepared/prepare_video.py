"""Prepares one video: writes shards of pictures at model size, truth, pieces of sound, and its record."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

from avsal_jax.data.prepared.shards import ShardFolder, WriteError
from avsal_jax.data.prepared.videos import FORMAT
from avsal_jax.data.sets.entries import VideoEntry
from avsal_jax.data.truth.fixation_maps import NO_FIXATIONS, Fixations, fixation_findings
from avsal_jax.errors import AvsalError
from avsal_jax.identity import digest
from avsal_jax.media.fitting import resize_frame
from avsal_jax.media.sound_stream import SoundStream

_PIECE = 0.5  # seconds of a piece of sound; a clip reads at most this much extra at each end


@dataclasses.dataclass(frozen=True)
class VideoResult:
    """The result of preparing a video.

    Attributes:
      findings: kind of finding -> description.
      failed: the reason of a failure, or None.
    """

    findings: dict[str, str]
    failed: str | None = None


def video_identity(entry: VideoEntry) -> str:
    """Returns a digest of what the shards of a video depend on: the record format and the files."""
    return digest([FORMAT, *entry.identity()])


def prepare_video(shards: ShardFolder, index: int, entry: VideoEntry, tick: Callable) -> VideoResult:
    """Writes the shards of one video. The record is written last, so an incomplete video has no record.

    Args:
      shards, index: where to write.
      entry: the video.
      tick: called after every step with the number of completed frames; may raise to stop.

    Raises:
      WriteError: writing to the disk fails.
      AvsalError: the files of the video are damaged; shards of some kinds may have been written.
    """
    findings = {"counts and files": "; ".join(entry.notes)} if entry.notes else {}
    shards.path("videos", index).unlink(missing_ok=True)  # the mark of a complete video
    with shards.writer("pictures", index) as add:
        for i in range(entry.frames):
            add({"image": _encoded(resize_frame(entry.frame(i), shards.size[0], shards.size[1]), shards)})
            tick(1)
    truth = []
    with shards.writer("targets", index) as add:
        for i in range(entry.frames):
            truth.append(_target(entry, i, add))
            tick(0)
    labelled = [target for target in truth if target.fixations is not None]
    if entry.published:
        _check_truth(entry, labelled, findings)
    with shards.writer("sound", index) as add:
        sound = _sound(entry, add, findings)
    with shards.writer("videos", index) as add:
        add(
            {
                "dataset": entry.dataset,
                "name": entry.name,
                "fps": entry.fps,
                "frames": entry.frames,
                "published": int(entry.published),
                "fixated": int(entry.published and entry.has_fixations),
                "black": np.array([target.black for target in truth]),
                "size": np.array((labelled or truth)[0].size, np.int32),
                "category": entry.category or "",
                "found": json.dumps(findings),
                "identity": video_identity(entry),
                **sound,
            }
        )
    return VideoResult(findings)


def _encoded(image: np.ndarray, shards: ShardFolder) -> bytes:
    buffer = io.BytesIO()
    options = {"quality": 95, "subsampling": 0} if shards.encoding == "jpeg" else {"compress_level": 1}
    Image.fromarray(image).save(buffer, shards.encoding, **options)
    return buffer.getvalue()


@dataclasses.dataclass(frozen=True)
class _Target:
    """The stored truth of a frame.

    Attributes:
      black: whether the density is black; also True without truth, so that such a frame is never a target.
      size: (height, width) of the truth.
      fixations: None if the frame has no truth.
      other_size: whether density and fixation map differ in size.
    """

    black: bool
    size: tuple[int, int]
    fixations: Fixations | None = None
    other_size: bool = False


def _target(entry: VideoEntry, i: int, add: Callable) -> _Target:
    """Adds the target of a frame."""
    if not entry.has_truth(i):
        target, encoded, points = _Target(True, (1, 1)), _encoded_black(), NO_FIXATIONS.points
    else:
        truth = entry.truth(i)
        encoded, fixations = truth.encoded, truth.fixations
        points = fixations.points
        target = _Target(
            truth.is_black,
            size=truth.size,
            fixations=fixations,
            other_size=truth.density_size != tuple(truth.size),
        )
    add({"density": encoded, "fixations": points, "size": np.array(target.size, np.int32)})
    return target


def _check_truth(entry: VideoEntry, labelled: list[_Target], findings: dict[str, str]) -> None:
    """Adds what is unusual about the truth of a video to `findings`."""
    if missing := entry.frames - len(labelled):
        findings["truth"] = (
            f"{missing} of {entry.frames} frames have none; no clip is trained on such a frame"
        )
    if black := sum(target.black for target in labelled):
        findings["black truth"] = f"{black} of {entry.frames} frames"
    if differing := sum(target.other_size for target in labelled):
        findings["sizes"] = f"density and fixation maps of {differing} frames differ in size"
    findings.update(fixation_findings(target.fixations for target in labelled))


def _encoded_black() -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (1, 1)).save(buffer, "png")
    return buffer.getvalue()


def _sound(entry: VideoEntry, add: Callable, findings: dict[str, str]) -> dict[str, int]:
    """Adds the pieces of a video's sound; returns rate, samples and the length of a piece."""
    no_sound = {"rate": 0, "samples": 0, "piece": 0}
    if entry.sound is None:
        return no_sound
    samples, audible, piece, stream = 0, False, 0, SoundStream(entry.sound)
    try:
        for wave in _in_pieces(stream):
            piece = piece or len(wave)
            audible = audible or bool(wave.any())
            samples += len(wave)
            add({"wave": wave})
    except WriteError:
        raise
    except AvsalError as error:
        findings["sound"] = str(error)
    if stream.notes:
        findings["changed sound"] = "; ".join(stream.notes)
    if not samples:
        findings.setdefault("sound", f"{entry.sound.name} holds no sample")
        return no_sound
    if not audible:
        findings["silent"] = f"every sample of {entry.sound.name} is zero"
    rate = stream.rate
    missing = entry.frames / entry.fps - samples / rate
    if missing > 1 / entry.fps:
        findings["short sound"] = f"it ends {missing:.2f} s before the picture"
    return {"rate": rate, "samples": samples, "piece": piece}


def _in_pieces(stream: SoundStream) -> Iterator[np.ndarray]:
    """Yields the samples in pieces of equal length; the last may be shorter."""
    rest = np.zeros(0, np.float32)
    for wave in stream:
        rest = np.concatenate([rest, wave])
        length = max(1, round(_PIECE * stream.rate))
        while len(rest) >= length:
            yield rest[:length]
            rest = rest[length:]
    if len(rest):
        yield rest
