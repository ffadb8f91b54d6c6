"""The set of outputs of a prediction; outputs of a video run in threads with bounded queues."""

from __future__ import annotations

import contextlib
import shutil
import typing
from collections.abc import Iterator, Mapping

from avsal_jax.inference.output import GREY, IMAGE, Context, Item, Output
from avsal_jax.pictures import resize_map, to_grey
from avsal_jax.runtime.threads import Worker

_QUEUE = 4


class OutputSet:
    """Outputs that are completed together, or released after an error; a context manager.

    Args:
      context: the arguments of the outputs.
      classes: by name.
    """

    def __init__(self, context: Context, classes: Mapping[str, type[Output]]):
        self._context, self._classes = context, classes
        self._outputs: list[Output] = []
        self._closed = 0  # number of outputs that are completed or released

    def __enter__(self) -> typing.Self:
        self._create()
        return self

    def __exit__(self, kind, error, trace) -> None:
        if kind is None:
            self.close()
        else:
            self._release()

    def __iter__(self) -> Iterator[Output]:
        return iter(self._outputs)

    def close(self) -> None:
        """Completes all files; if an output fails, releases the others. Idempotent."""
        try:
            for output in self._outputs[self._closed :]:
                self._closed += 1
                output.close(ok=True)
        except BaseException:
            self._release()
            raise

    def discard(self) -> None:
        """Starts from scratch: releases the outputs, removes their files, and creates new outputs."""
        self._release()
        for file in (file for cls in self._classes.values() for file in cls.files):
            path = self._context.folder / file
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        self._create()

    def _create(self) -> None:
        """Creates the outputs; if one fails, releases the others."""
        self._outputs, self._closed = [], 0
        try:
            for cls in self._classes.values():
                self._outputs.append(cls(self._context))
        except BaseException:
            self._release()
            raise

    def _release(self) -> None:
        """Releases the outputs that are not completed; their errors are ignored."""
        for output in self._outputs[self._closed :]:
            with contextlib.suppress(Exception):
                output.close(ok=False)
        self._closed = len(self._outputs)

    def finish(self, summary: dict, card: dict) -> None:
        """Writes pages about the run."""
        for output in self._outputs:
            output.finish(summary, card)

    @property
    def notes(self) -> tuple[str, ...]:
        """Lines on what is unusual about the written files."""
        return tuple(line for output in self._outputs for line in output.notes)

    @property
    def figures(self) -> dict:
        """Entries of the outputs for the summary."""
        return {name: value for output in self._outputs for name, value in output.figures.items()}


class FrameOutputs(OutputSet):
    """The outputs of a video. They take frames in order; each output runs in its own thread.

    After the last frame, `count` is the number of frames and `size` their height and width.
    """

    def __init__(self, context: Context, classes: Mapping[str, type[Output]]):
        super().__init__(context, classes)
        needs = {need for cls in classes.values() for need in cls.needs}
        self.shows_frames, self._shows_grey = IMAGE in needs, GREY in needs
        self._grey = None
        self._stages: list[Worker] = []  # in the order of the work: rendering, then one for each output
        self.count, self.size = 0, (0, 0)

    def close(self) -> None:
        """Writes the frames that wait, then completes all files; after an error, releases all outputs."""
        try:
            for stage in self._stages:
                stage.close()
        except BaseException:
            self._release()
            raise
        super().close()

    def _create(self) -> None:
        super()._create()
        works = (self._render, *(output.add for output in self))
        self._stages = [Worker(work, _QUEUE) for work in works]

    def _release(self) -> None:
        """Drops the frames that wait, then releases the outputs."""
        for stage in self._stages:
            with contextlib.suppress(BaseException):
                stage.close(drop=True)
        super()._release()

    def put(self, frame: Item) -> None:
        """Queues the next frame, without `grey`; blocks while the queue is full."""
        self._stages[0].put(frame)

    def _render(self, frame: Item) -> None:
        self.count, self.size = self.count + 1, frame.size
        has_map = frame.saliency is not None
        if has_map and self._shows_grey:
            self._grey = to_grey(resize_map(frame.saliency, *frame.size), self._context.settings.postprocess)
        frame.grey = self._grey
        for output, stage in zip(self, self._stages[1:], strict=True):
            if has_map or output.every_frame:
                stage.put(frame)
