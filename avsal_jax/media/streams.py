"""Which video stream of a file is read, and its frame rate."""

from __future__ import annotations

import fractions
import heapq
import itertools
import pathlib
from collections.abc import Iterable, Iterator, Sequence

import av

from avsal_jax.errors import AvsalError

_USUAL_RATE = fractions.Fraction(25)  # frames per second, if neither the header nor the times give a rate
_FEWEST, _SAMPLED = 8, 100  # packets whose times check the stated rate
_ALIKE = fractions.Fraction(3, 2)  # rates within this factor agree
_REORDERED = 32  # packets, twice what codecs allow
SLOWEST_RATE, FASTEST_RATE = 0.01, 1000  # frames per second; the range for headers and users
_LARGEST_OF_SLICES = 1920 * 1088  # pixels
CLOCK_LEAP_SECONDS = 600  # a step of the times of at least this length means a new clock
_MAY_LEAP = 0x0200  # AVFMT_TS_DISCONT: timestamps may restart anywhere, as in transport streams


def may_leap(container) -> bool:
    """Whether timestamps of a container may restart anywhere, so that a long step does not mean a pause."""
    return bool(container.format.flags & _MAY_LEAP)


def exact(rational) -> fractions.Fraction | None:
    """Returns a rational of PyAV, whose type rounds products, as a fraction; None if it is unset."""
    return fractions.Fraction(rational) if rational else None


def choose_stream(container, path: pathlib.Path, number: int | None) -> tuple[av.VideoStream, list[str]]:
    """Returns the video stream that a player would choose, or the one of a number, and notes on the choice.

    A cover (an attached picture) is not a video.

    Args:
      number: the stream's index in the file, as ffprobe counts; None to choose.

    Raises:
      AvsalError: there is no video, no such stream, or no decoder for it.
    """
    streams = list(container.streams.video)
    if not streams:
        raise AvsalError(f"{path} has no video stream")
    moving = [s for s in streams if not _is(s, "attached_pic")]
    if not moving:
        raise AvsalError(f"{path} has no video: its picture is a cover (an attached picture)")
    descriptions = ", ".join(f"{s.index} ({_described(s)})" for s in moving)
    if number is not None:
        selected = next((s for s in moving if s.index == number), None)
        if selected is None:
            raise AvsalError(f"{path} has no video stream {number}; --stream takes one of {descriptions}")
        return _with_decoder(selected, path), []
    best = container.streams.best("video")
    selected = next((s for s in moving if best is not None and s.index == best.index), None)
    if selected is None:  # the best by FFmpeg's rule is a cover
        selected = max(moving, key=lambda s: (_is(s, "default"), _area(s), -s.index))
    if len(moving) == 1:
        return _with_decoder(selected, path), []
    line = (
        f"it has {len(moving)} video streams, {descriptions}: {selected.index} is used; use --stream to "
        "select another"
    )
    return _with_decoder(selected, path), [line]


def _is(stream, disposition: str) -> bool:
    return bool(stream.disposition.value & av.stream.Disposition[disposition].value)


def _with_decoder(stream, path):
    if stream.codec_context is None:
        raise AvsalError(f"{path}: there is no decoder for its video; convert it to H.264 first")
    return stream


def set_threads(stream: av.VideoStream) -> None:
    """Sets how the frames of a stream are decoded in parallel: by slices, or above 1080p by frames.

    With a thread for each frame, FFmpeg may return a frame before another thread finds that it is damaged,
    so the count of damaged frames differs from run to run. For small frames, slices are as fast.
    """
    stream.thread_type = "SLICE" if _area(stream) <= _LARGEST_OF_SLICES else "AUTO"


def _area(stream) -> int:
    context = stream.codec_context
    return 0 if context is None else context.width * context.height


def _described(stream) -> str:
    context = stream.codec_context
    return "unknown codec" if context is None else f"{context.name} {context.width}x{context.height}"


def frame_rate(
    packets: Iterator[av.Packet], stream, times: Sequence[tuple[int | None, int | None]], interlaced: bool
) -> tuple[fractions.Fraction, str | None]:
    """Returns (frames per second, note): the header's rate, or the measured rate if the two differ widely.

    The note is None unless they disagree. The times of some packets are read first; if these do not fit the
    stated rate, those of all packets.

    Args:
      packets: the next packets of the stream.
      times: of the packets that have been read, as from `time_of`.
      interlaced: packets may be fields, two per frame, so the header's rate is used.
    """
    header_rate = exact(stream.average_rate or stream.guessed_rate or stream.base_rate)
    believed = bool(header_rate) and SLOWEST_RATE <= header_rate <= FASTEST_RATE
    if interlaced and believed:
        return header_rate, None
    times = list(times)
    while len(times) < _SAMPLED and (next_times := _next_time(packets)) is not None:
        times += next_times
    measured = _rate_of(times, exact(stream.time_base))
    if measured is not None and not (header_rate and _agree(header_rate, measured)):
        while (next_times := _next_time(packets)) is not None:
            times += next_times
        measured = _rate_of(times, exact(stream.time_base))
    if believed and (measured is None or len(times) < _FEWEST or _agree(header_rate, measured)):
        return header_rate, None
    measured = measured or _USUAL_RATE
    if not header_rate:
        return measured, None
    return measured, (
        f"its header states {float(header_rate):.6g} frames per second; {float(measured):.6g} is used, from "
        "the times of its frames"
    )


def _next_time(packets) -> list[tuple[int | None, int | None]] | None:
    """Returns the time of the next packet, in a list that is empty if it has no time; None at the end."""
    try:
        return time_of(next(packets))
    except (StopIteration, av.error.FFmpegError):
        return None


def time_of(packet) -> list[tuple[int | None, int | None]]:
    """Returns [(decoding, presentation)] time of a packet whose frame is shown; else an empty list."""
    return [(packet.dts, packet.pts)] if packet.size and not packet.is_discard else []


def _rate_of(times: list[tuple[int | None, int | None]], time_base) -> fractions.Fraction | None:
    """Returns the average rate of packets; steps back and jumps between clocks are excluded."""
    if not time_base:
        return None
    ordered = [dts for dts, _ in times]  # rising but where files are joined
    if None in ordered:
        ordered = list(_reordered(pts for _, pts in times if pts is not None))
    steps = [b - a for a, b in itertools.pairwise(ordered)]
    steps = [step for step in steps if 0 < step * time_base < CLOCK_LEAP_SECONDS]
    return (len(steps) / (sum(steps) * time_base)).limit_denominator(1001) if steps else None


def _reordered(times: Iterable[int]) -> Iterator[int]:
    """Yields the times of packets in presentation order, from which codecs deviate locally."""
    window: list[int] = []
    for time in times:
        heapq.heappush(window, time)
        if len(window) > _REORDERED:
            yield heapq.heappop(window)
    while window:
        yield heapq.heappop(window)


def _agree(first: fractions.Fraction, second: fractions.Fraction) -> bool:
    return first < second * _ALIKE and second < first * _ALIKE
