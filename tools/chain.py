"""Measures `predict` without the network, from decoding to writing; recorded maps replace its output."""

import itertools
import pathlib
import statistics
import tempfile
import time

import numpy as np
import scipy.ndimage

from avsal_jax.inference.output import Context, Item
from avsal_jax.inference.predict import Settings, predict_file
from avsal_jax.inference.writers.maps import MapImages
from avsal_jax.inference.writers.overlay import OverlayWriter
from avsal_jax.media.fitting import resize_frame
from avsal_jax.media.video import Video
from avsal_jax.models.layers import Runtime
from avsal_jax.pictures import overlay, resize_map, to_grey
from avsal_jax.spec.input import InputSpec


class RecordedModel:
    """Replaces a model: returns a recorded map per frame after `seconds`, and measures its idle time."""

    def __init__(self, maps, seconds=0.0):
        self.spec, self.runtime, self.card = InputSpec(), Runtime(), {"model": {"system": "recorded"}}
        self.identity, self.compile_seconds, self.idle, self.steady = "recorded", 0.0, 0.0, 0.0
        self._recorded, self._seconds = maps, seconds

    def earlier_compile_seconds(self, batch, spec):
        return 0.0

    def engine(self, batch, spec, medium):
        return self

    def encoded(self, selection, fps, medium):
        return selection

    def maps(self, frames, sound, fps, selection, medium):
        frames, started, warm_up = iter(frames), None, 8
        for index in itertools.count():
            waited = time.perf_counter()
            if next(frames, None) is None:
                break
            if index == warm_up:  # queues are filled
                started, self.idle = time.perf_counter(), 0.0
            self.idle += time.perf_counter() - waited if started else 0.0
            time.sleep(self._seconds)
            yield index, self._recorded[index % len(self._recorded)]
        self.steady = time.perf_counter() - started


def record_maps(video, count=40):
    """Smooth maps that change from frame to frame: blurred luminance at model size."""
    frames = itertools.islice(Video(video), count)
    grey = [resize_frame(f.image, 224, 384).mean(-1).astype(np.float32) / 255 for f in frames]
    return [scipy.ndimage.gaussian_filter(g, 9) for g in grey]


def measure_chain(video, repeats):
    """Returns frames per second of each stage and of all stages, and the idle share of a 10 ms model."""
    maps = record_maps(video)
    stages = {name: _median(run, repeats) for name, run in _stages(video, maps).items()}
    for name, save in (("whole: maps and overlay", ("maps", "overlay")), ("whole: maps", ("maps",))):
        stages[name] = _median(lambda save=save: _all_stages(RecordedModel(maps), video, save), repeats)
    idle = []
    for _ in range(repeats):
        model = RecordedModel(maps, 0.010)
        _all_stages(model, video, ("npz",))
        idle.append(model.idle / model.steady)
    return {"stages": stages, "idle_share": statistics.median(idle), "idle_shares": idle}


def _all_stages(model, video, save):
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        summary = predict_file(model, video, pathlib.Path(folder) / "out", Settings(save))
        return summary["frames"], time.perf_counter() - started


def _stages(video, maps):
    images = [frame.image for frame in itertools.islice(Video(video), 40)]
    size = images[0].shape[:2]
    greys = [to_grey(resize_map(m, *size)) for m in maps]
    info = Video(video).info

    def timed(function, items):
        def run():
            started = time.perf_counter()
            for index, item in enumerate(items):
                function(index, item)
            return len(items), time.perf_counter() - started

        return run

    def decode():
        started = time.perf_counter()
        return sum(1 for _ in Video(video)), time.perf_counter() - started

    def write():
        with tempfile.TemporaryDirectory() as folder:
            maps = MapImages(Context(pathlib.Path(folder), settings=Settings()))
            return timed(lambda i, grey: maps.add(Item(i, f"{i:06d}", size, grey=grey)), greys)()

    def encode():
        with tempfile.TemporaryDirectory() as folder:
            writer = OverlayWriter(pathlib.Path(folder) / "o.mp4", info, None, *size)
            count, seconds = timed(lambda i, image: writer.write(i * 512, image), images)()
            started = time.perf_counter()
            writer.close()
            return count, seconds + time.perf_counter() - started

    return {
        "decode to RGB": decode,
        "resize to 384x224 (Pillow)": timed(lambda _, image: resize_frame(image, 224, 384), images),
        "map to frame size and grey": timed(lambda _, m: to_grey(resize_map(m, *size)), maps),
        "map PNG": write,
        "heat colours over the frame": timed(lambda i, image: overlay(image, greys[i]), images),
        "encode H.264": encode,
    }


def _median(run, repeats):
    rates = []
    for _ in range(repeats):
        count, seconds = run()
        rates.append(count / seconds)
    return statistics.median(rates)
