"""Real video files made on the spot: encoded frames, with or without sound."""

from __future__ import annotations

import fractions
import pathlib

import av
import numpy as np


def write_video(
    path,
    frames: np.ndarray,
    rate: int = 25,
    codec: str = "libx264",
    sound: np.ndarray | None = None,
    sample_rate: int = 22_050,
    layout: str = "mono",
    sound_codec: str = "aac",
    options: dict | None = None,
    pixel_aspect: fractions.Fraction | None = None,
) -> pathlib.Path:
    """Encodes RGB uint8 `frames` [N, H, W, 3], and `sound` in [-1, 1]: [samples], or [channels, samples].

    The suffix of `path` says which container; `pcm_f32le` in `.mkv` keeps every sample as it is.
    """
    path = pathlib.Path(path)
    with av.open(str(path), "w") as out:
        video = out.add_stream(codec, rate=rate)
        video.height, video.width = frames.shape[1:3]
        video.pix_fmt = "yuv420p"
        if pixel_aspect is not None:
            video.codec_context.sample_aspect_ratio = pixel_aspect
        video.options = options or ({"crf": "12", "preset": "ultrafast"} if codec == "libx264" else {})
        audio = out.add_stream(sound_codec, rate=sample_rate, layout=layout) if sound is not None else None
        for image in frames:
            out.mux(video.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")))
        out.mux(video.encode(None))
        if audio is not None:
            packed = np.atleast_2d(sound).T.astype(np.float32).reshape(1, -1)  # PyAV fills up to seven planes
            frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=layout)
            frame.sample_rate, frame.pts, frame.time_base = sample_rate, 0, fractions.Fraction(1, sample_rate)
            if packed.size:  # else the track has no sample
                out.mux(audio.encode(frame))
            out.mux(audio.encode(None))
    return path


def write_audio_only(path, seconds: float = 1.0) -> pathlib.Path:
    """Writes an AAC file without any picture."""
    path = pathlib.Path(path)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("aac", rate=22_050, layout="mono")
        wave = np.sin(np.arange(int(22_050 * seconds)) * 0.1).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 22_050, 0, fractions.Fraction(1, 22_050)
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def moving_spot(count: int, height: int = 72, width: int = 128, radius: float = 9.0) -> np.ndarray:
    """Returns uint8 [count, height, width, 3]: a bright spot on grey that moves along a known path."""
    rows, columns = np.mgrid[0:height, 0:width]
    frames = np.empty((count, height, width, 3), np.uint8)
    for index in range(count):
        y, x = spot_centre(index, count=count, height=height, width=width)
        spot = np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * radius**2))
        frames[index] = (40 + 200 * spot)[..., None].astype(np.uint8)
    return frames


def spot_centre(index: int, count: int, height: int, width: int) -> tuple[float, float]:
    """Returns the (row, column) of the spot of `moving_spot` in frame `index`."""
    phase = index / max(1, count - 1)
    return height * (0.3 + 0.4 * np.sin(3 * phase) ** 2), width * (0.2 + 0.6 * phase)


def transcode(
    source, path, codec: str, audio_codec: str | None, size: tuple[int, int], pixel_format: str = "yuv420p"
) -> pathlib.Path:
    """Re-encodes the best picture and sound of `source` at `size` (height, width); times are kept."""
    path = pathlib.Path(path)
    fast = {
        "libx264": {"preset": "veryfast"},
        "libx265": {"preset": "ultrafast", "x265-params": "log-level=none"},
    }
    fast["libvpx-vp9"] = fast["libvpx"] = {"deadline": "realtime", "cpu-used": "8"}
    with av.open(str(source)) as inside, av.open(str(path), "w") as out:
        picture, sound = inside.streams.best("video"), inside.streams.best("audio")
        video = out.add_stream(codec, rate=picture.average_rate)
        video.height, video.width = size
        video.pix_fmt, video.bit_rate = pixel_format, 1_500_000
        video.options = fast.get(codec, {})
        if codec != "mpeg4":  # which takes few time bases
            video.codec_context.time_base = picture.time_base
        audio = out.add_stream(audio_codec, rate=48_000, layout="stereo") if audio_codec else None
        resampler = av.AudioResampler(
            format=audio.codec_context.format, layout="stereo", rate=48_000,
            frame_size=audio.codec_context.frame_size or None,
        ) if audio else None  # fmt: skip
        count = 0
        for packet in inside.demux(*([picture, sound] if audio else [picture])):
            for frame in packet.decode():
                if isinstance(frame, av.VideoFrame):
                    small = frame.reformat(width=size[1], height=size[0], format=pixel_format)
                    if codec == "mpeg4":
                        small.pts, small.time_base = count, 1 / picture.average_rate
                        count += 1
                    out.mux(video.encode(small))
                else:
                    for piece in resampler.resample(frame):
                        out.mux(audio.encode(piece))
        out.mux(video.encode(None))
        if audio:
            for piece in resampler.resample(None):
                out.mux(audio.encode(piece))
            out.mux(audio.encode(None))
    return path
