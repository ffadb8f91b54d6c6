"""The undamaged files: small, of every kind that the program reads, made once in a folder."""

from __future__ import annotations

import json
import pathlib

import numpy as np
import safetensors.numpy
import scipy.io.wavfile
from PIL import Image

from avsal_jax.testing import fake_data, fake_gaze
from avsal_jax.testing.videos import moving_spot, write_video

SIZE = (32, 64)  # of prepared pictures, (height, width)
TINY = {
    "frames": 8,
    "height": 32,
    "width": 32,
    "visual_encoder": "s3d",
    "visual_encoder.width": 1 / 16,
    "heads.saliency.width": 1 / 16,
    "heads.saliency.hierarchy": 0,
}
# What `avsal convert` recognises in a checkpoint of it.
CONVERTED = {"frames": 8, "heads.saliency.hierarchy": 0, "heads.saliency.upsample": "trilinear"}
RATE = 22_050
NAMES = ("first", "second")
GAZE = "gaze"  # folder of recorded gaze; its files are not mixed into others, so that older seeds do the same
_CODECS = {
    "mp4": ("libx264", "aac"),
    "mkv": ("libx264", "pcm_s16le"),
    "avi": ("mpeg4", "mp3"),
    "webm": ("libvpx", "libopus"),
}


def build(folder: pathlib.Path) -> None:
    """Writes all files; `folder` must not exist."""
    folder.mkdir(parents=True)
    _films(folder / "films")
    _pictures(folder)
    scipy.io.wavfile.write(folder / "tone.wav", RATE, np.round(9_000 * _tone(0.5)).astype(np.int16))
    _models(folder)
    _predicted(folder)
    _sets(folder)
    _results(folder)
    _prepared(folder)
    _workdir(folder / "workdir")
    _gaze(folder / GAZE)


def _tone(seconds: float) -> np.ndarray:
    return np.sin(np.arange(int(seconds * RATE)) * 0.1)


def _films(folder: pathlib.Path) -> None:
    folder.mkdir()
    for suffix, (codec, sound_codec) in _CODECS.items():
        rate = 48_000 if sound_codec == "libopus" else RATE
        wave = (0.5 * np.sin(np.arange(int(0.4 * rate)) * 0.05)).astype(np.float32)
        write_video(
            folder / f"clip.{suffix}", moving_spot(10, 32, 32), codec=codec, sound=wave, sample_rate=rate,
            sound_codec=sound_codec,
        )  # fmt: skip

    for suffix in ("gif", "webp"):
        first, *frames = map(Image.fromarray, moving_spot(6, 32, 32))
        first.save(folder / f"clip.{suffix}", save_all=True, append_images=frames, duration=40, loop=0)


def _predicted(folder: pathlib.Path) -> None:
    """A result of `avsal predict`."""
    from avsal_jax.inference.predict import Settings, predict_file
    from avsal_jax.testing.models import probe_model

    model, film = probe_model(8, 32, 32), folder / "films" / "clip.mp4"
    predict_file(model, film, folder / "predicted", Settings(save=("maps", "npz")))


def _pictures(folder: pathlib.Path) -> None:
    for suffix in ("png", "jpg"):
        frames = folder / f"frames_{suffix}"
        frames.mkdir()
        for number, image in enumerate(moving_spot(6, 32, 40), 1):
            Image.fromarray(image).save(frames / f"{number:04d}.{suffix}")


def _models(folder: pathlib.Path) -> None:
    """A model directory, and checkpoints of a ViNet of a sixteenth of the width."""
    import torch

    from avsal_jax.convert.tables.vinet import ViNetConversion
    from avsal_jax.storage import flatten, write_model
    from avsal_jax.testing.models import tiny_stored

    stored = tiny_stored(**TINY)
    write_model(folder / "model", stored.preset, stored.variables)
    flat = flatten(stored.variables)
    rows = ViNetConversion().table(CONVERTED, {})
    tensors = {row.source: np.ascontiguousarray(row.undo(np.asarray(flat[row.target]))) for row in rows}
    safetensors.numpy.save_file(tensors, folder / "vinet.safetensors")
    state = {f"module.{name}": torch.from_numpy(value) for name, value in tensors.items()}
    torch.save({"state_dict": state, "epoch": 3}, folder / "zip.pt")
    torch.save(state, folder / "legacy.pt", _use_new_zipfile_serialization=False)


def _sets(folder: pathlib.Path) -> None:
    """Two data sets, saved maps for them, and what raw fixations there are of their videos."""
    first = fake_data.fake_video(NAMES[0], 4, (36, 52), seed=1)
    second = fake_data.fake_video(NAMES[1], 3, (40, 48), seed=2)
    lists = {"test": NAMES, "train": NAMES[:1]}
    fake_data.write_stavis(folder / "stavis", "DIEM", (first, second), lists)
    clips = fake_data.fake_video("clip1", 4, (36, 52), seed=3)
    fake_data.write_stavis(folder / "coutrot", "Coutrot_db1", (clips,), {"test_1": ("clip1",)})
    for split in ("train", "test"):
        fake_data.write_rearranged(folder / "shots", split, (first, second))
    (folder / "user.list").write_text("".join(f"diem {name}\n" for name in NAMES))
    for suffix in ("png", "jpg"):
        for video in (first, second):
            maps = folder / f"maps_{suffix}" / video.name
            maps.mkdir(parents=True)
            for number, density in enumerate(video.densities, 1):
                Image.fromarray(density // 2 + 20).save(maps / f"{number:06d}.{suffix}")
    for video in (first, second):
        (folder / "maps_npz" / video.name).mkdir(parents=True)
        maps = video.densities.astype(np.float16) / 255
        np.savez_compressed(folder / "maps_npz" / video.name / "maps.npz", maps=maps)
        _events(folder / "events" / video.name, video)
    data = np.random.RandomState(0).uniform(2, 30, (2, 4, 5))
    fake_data.write_coutrot(folder / "coutrot.mat", {"clip_1": (25, 52, 36, data)})


def _events(folder: pathlib.Path, video: fake_data.FakeVideo) -> None:
    height, width = video.frames.shape[1:3]
    random = np.random.RandomState(0)
    observers = []
    for _ in range(3):
        places = random.uniform((3, 3), (width - 3, height - 3), (len(video.frames), 2))
        observers.append([(n, (x, y, 1), (x + 1, y, 1)) for n, (x, y) in enumerate(places, 1)])
    fake_data.write_diem_events(folder, observers, width, height)


def _results(folder: pathlib.Path) -> None:
    """Two results of `avsal evaluate`."""
    from avsal_jax.evaluation.evaluate import Request, evaluate

    for label, suffix in (("ours", "png"), ("theirs", "jpg")):
        request = Request(
            "diem", folder / "stavis", predictions=folder / f"maps_{suffix}", protocol="vinet", label=label
        )
        evaluate(request, folder / "results" / label)


def _prepared(folder: pathlib.Path) -> None:
    from avsal_jax.data.prepared.prepare import prepare

    prepare("diem", folder / "stavis", folder / "prepared", SIZE, workers=1)


def _gaze(folder: pathlib.Path) -> None:
    """Sets of recorded gaze: a table of fixations, one of samples, OSIE, HEVC clips; and a prior."""
    from avsal_jax.data.sets.datasets import open_dataset
    from avsal_jax.evaluation.priors import fit_prior

    pictures = [
        fake_gaze.fake_stimulus(name, (24, 32), observers=3, seconds=1.0) for name in ("1004", "1008", "1010")
    ]
    clips = [
        fake_gaze.fake_stimulus(name, (32, 48), observers=8, seconds=1.0, frames=20)
        for name in ("Traffic", "Tennis")
    ]
    fake_gaze.write_recordings(folder / "fixations", pictures)
    fake_gaze.write_recordings(folder / "samples", pictures)
    (folder / "samples" / "fixations.csv").unlink()
    (folder / "samples" / "gaze.csv").write_text(_samples(pictures))
    fake_gaze.write_eye_mat(folder / "osie", pictures)
    fake_gaze.write_hevc_gaze(folder / "hevc", clips)
    fit_prior(open_dataset("osie", folder / "osie", "all"), folder / "prior.npz", lambda entries: entries)


def _samples(pictures) -> str:
    """Returns a table of 60 samples per second: observers rest at each fixation."""
    lines = ["stimulus,observer,time_ms,x,y,validity"]
    for picture in pictures:
        for observer, x, y, start, duration in picture.rows:
            times = np.arange(np.ceil(60 * start), np.ceil(60 * (start + duration))) * 1000 / 60
            lines += [f"{picture.name}.png,{int(observer)},{time:.1f},{x},{y},1" for time in times]
    return "\n".join(lines) + "\n"


def _workdir(folder: pathlib.Path) -> None:
    """What a run leaves: its config, records, pictures and a checkpoint."""
    from avsal_jax.training.checkpointing import Checkpoints
    from avsal_jax.training.records.metrics_log import MetricsLog
    from avsal_jax.training.records.reporting import write_picture

    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG, indent=1))
    log = MetricsLog(folder / "metrics.jsonl")
    for step in range(1, 5):
        log.write(step, {"loss": 1 / step, "lr": 1e-4, **({"val/cc": 0.1 * step} if step % 2 == 0 else {})})
    log.close()
    write_picture(folder / "pictures" / "00000004.png", np.zeros((6, 9, 3), np.uint8))
    checkpoints = Checkpoints(folder / "checkpoints", metric="cc")
    checkpoints.save(4, STATE, {"progress": {"step": 4}}, {"cc": 0.4})
    checkpoints.close()


_MODEL = {"system": "vinet", "frames": 8, "interval": 0.0, "smoothing": 0.0}
CONFIG = {"model": _MODEL, "steps": 4, "optimizer": {"rate": 1e-4}, "seed": 0}
STATE = {"params": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3)}, "step": np.int32(4)}
