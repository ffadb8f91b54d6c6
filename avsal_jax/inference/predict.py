"""`avsal predict`: a video file -> map images, overlay, summary, all complete or none."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import pathlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator

import avsal_jax
from avsal_jax.data.video import Video, resize_frame
from avsal_jax.errors import AvsalError
from avsal_jax.inference.predictor import Model
from avsal_jax.inference.threads import Worker, prefetched
from avsal_jax.inference.writers import MapWriter, OverlayWriter
from avsal_jax.pictures import overlay, resize_map, to_grey

SAVES = ("maps", "overlay")
_QUEUE = 4
_PARTIAL = ".avsal-partial-"


def predict_file(
    model: Model,
    source,
    output,
    save: tuple[str, ...] = SAVES,
    batch: int | None = None,
    say: Callable[[str], None] = lambda line: None,
    progress: Callable = lambda frames, total: frames,
) -> dict:
    """Predicts a map for every frame of a video and writes what `save` names into `output`.

    `maps/000001.png` and on: 8-bit grey at the frame's size, stretched from minimum to maximum;
    `overlay.mp4`: heat colours over the picture, with the source's times and sound; `summary.json`,
    written last. Files appear under these names only when all of them are complete.

    Args:
      model: from `load_model`.
      source: the video file.
      output: a directory, made where missing.
      save: some of `SAVES`.
      batch: windows per call.
      say: called with a line of news.
      progress: wraps the iteration over maps, given the expected number of frames.

    Returns:
      What `summary.json` holds.

    Raises:
      AvsalError: the source cannot be read, or the output cannot be written.
    """
    video = Video(source)
    with _complete_or_nothing(pathlib.Path(output)) as folder:
        say("compiling the model (once per model and size) ...")
        compile_seconds = model.engine(batch).compile_seconds
        started = time.perf_counter()
        count, size = _write_all(model, video, folder, save, batch, progress)
        seconds = time.perf_counter() - started
        if video.damaged:
            say(f"{video.path}: {video.damaged} damaged packets were passed over")
        summary = {
            "source": video.path.name,
            "frames": count,
            "rate": float(video.info.rate),
            "height": size[0],
            "width": size[1],
            "damaged_packets": video.damaged,
            "model": {key: model.card.get(key) for key in ("system", "input", "provenance", "weights")},
            "saved": list(save),
            "compile_seconds": round(compile_seconds, 3),
            "seconds": round(seconds, 3),
            "maps_per_second": round(count / seconds, 3),
            "version": avsal_jax.__version__,
        }
        (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    return summary


def _write_all(model, video, folder, save, batch, progress):
    """Decodes, predicts and writes in overlapping threads; returns the count and size of the frames."""
    height, width = model.spec.height, model.spec.width
    waiting: collections.deque = collections.deque()  # frames whose maps are still being computed

    def decode():
        for frame in video:
            image = frame.image if "overlay" in save else None
            yield (frame.pts, image, frame.image.shape[:2]), resize_frame(frame.image, height, width)

    def feed(decoded):
        for frame, resized in decoded:
            waiting.append(frame)
            yield resized

    with contextlib.ExitStack() as stack:
        writer = stack.enter_context(_writing(folder, save, video.info))
        decoded = stack.enter_context(contextlib.closing(prefetched(decode(), _QUEUE)))
        count, size = 0, None
        for index, saliency in progress(model.engine(batch).maps(feed(decoded)), video.info.frames):
            pts, image, size = waiting.popleft()
            writer((index, pts, image, size, saliency))
            count += 1
    return count, size


@contextlib.contextmanager
def _writing(folder: pathlib.Path, save, info) -> Iterator[Callable]:
    """Yields a function that takes (index, pts, image, size, map) and writes in threads."""
    maps = MapWriter(folder / "maps") if "maps" in save else None
    encoder = None

    def encode(item):
        nonlocal encoder
        pts, image, grey = item
        if encoder is None:
            encoder = OverlayWriter(folder / "overlay.mp4", info, *image.shape[:2])
        encoder.write(pts, overlay(image, grey))

    def render(item):
        index, pts, image, size, saliency = item
        grey = to_grey(resize_map(saliency, *size))
        if image is not None:
            overlays.put((pts, image, grey))
        if maps is not None:
            maps.write(index, grey)

    overlays = Worker(encode, _QUEUE)
    rendering = Worker(render, _QUEUE)
    finished = False
    try:
        yield rendering.put
        rendering.close()
        overlays.close()
        if encoder is not None:
            encoder.close()
        finished = True
    finally:
        if not finished:
            for worker in (rendering, overlays):
                with contextlib.suppress(BaseException):
                    worker.close()
            if encoder is not None:
                with contextlib.suppress(Exception):
                    encoder.abort()


@contextlib.contextmanager
def _complete_or_nothing(output: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields a hidden folder in `output`; on success its content moves up, else nothing is left."""
    made = not output.exists()
    try:
        output.mkdir(parents=True, exist_ok=True)
        for stale in output.glob(f"{_PARTIAL}*"):  # of a run that was killed
            shutil.rmtree(stale, ignore_errors=True)
        folder = pathlib.Path(tempfile.mkdtemp(prefix=_PARTIAL, dir=output))
    except OSError as error:
        raise AvsalError(f"cannot write to {output}: {error.strerror}") from error
    try:
        yield folder
        for path in sorted(folder.iterdir(), key=lambda p: p.name == "summary.json"):
            target = output / path.name
            if target.is_dir():
                shutil.rmtree(target)
            os.replace(path, target)
        folder.rmdir()
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if made:
            with contextlib.suppress(OSError):
                output.rmdir()
        if isinstance(error, OSError):
            raise AvsalError(f"cannot write to {output}: {error.strerror}") from error
        raise
