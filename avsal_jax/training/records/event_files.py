"""Writes TensorBoard event files, with the record format of the package `tensorboard`.

The writers of other packages lack what a run needs. `tensorboardX.SummaryWriter` writes from a thread, which
ends on a full disk: the run then blocks without an error once its queue is full. Its `flush` does not wait
for that thread, so a killed run loses records, and a run that is resumed within a second overwrites its
first file. The writers of `tensorboard` and flax import TensorFlow.
"""

from __future__ import annotations

import contextlib
import io
import os
import pathlib
import socket
import time

import numpy as np
from PIL import Image

from avsal_jax.errors import AvsalError


class EventWriter:
    """Writes scalars and pictures to a new event file in a folder.

    Args:
      folder: of the run; its earlier event files are kept.
      restored_step: the step of the restored checkpoint; TensorBoard then ignores later steps in earlier
        files. None for a new run.

    Raises:
      AvsalError: `tensorboard` is not installed, or the folder cannot be written.
    """

    def __init__(self, folder, restored_step: int | None = None):
        try:
            from tensorboard.compat.proto import event_pb2, summary_pb2
            from tensorboard.summary.writer.record_writer import RecordWriter
        except ImportError as error:
            raise AvsalError(
                f"TensorBoard files need the package tensorboard ({error}); install avsal-jax[train]"
            ) from error
        self._event, self._summary = event_pb2, summary_pb2
        folder = pathlib.Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # TensorBoard reads files in the order of their names: by time, then by number.
            number = len(list(folder.glob("events.out.tfevents.*")))
            name = f"{int(time.time()):010d}.{number:05d}.{socket.gethostname()}.{os.getpid()}"
            self.path = folder / f"events.out.tfevents.{name}"
            self._file = self.path.open("xb")
        except OSError as error:
            raise AvsalError(f"cannot write event files to {folder}: {error.strerror}") from error
        self._records = RecordWriter(self._file)
        self._write(file_version="brain.Event:2")
        if restored_step is not None:
            start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            self._write(step=restored_step + 1, session_log=start)
        self.flush()

    def scalars(self, step: int, values: dict) -> None:
        """Writes numbers by tag."""
        value = self._summary.Summary.Value
        entries = [value(tag=tag, simple_value=float(number)) for tag, number in values.items()]
        self._write(step=int(step), summary=self._summary.Summary(value=entries))

    def image(self, step: int, tag: str, picture: np.ndarray) -> None:
        """Writes an RGB picture, uint8 [H, W, 3]."""
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "PNG")
        height, width, channels = picture.shape
        image = self._summary.Summary.Image(
            height=height, width=width, colorspace=channels, encoded_image_string=buffer.getvalue()
        )
        entry = self._summary.Summary.Value(tag=tag, image=image)
        self._write(step=int(step), summary=self._summary.Summary(value=[entry]))

    def flush(self) -> None:
        """Passes the written events to the operating system."""
        try:
            self._file.flush()
        except OSError as error:
            raise self._failed(error) from error

    def close(self) -> None:
        """Flushes and closes the file. Idempotent."""
        if not self._file.closed:
            try:
                self.flush()
            finally:
                with contextlib.suppress(OSError):  # `flush` has raised it already
                    self._file.close()

    def _write(self, **fields) -> None:
        event = self._event.Event(wall_time=time.time(), **fields)
        try:
            self._records.write(event.SerializeToString())
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> AvsalError:
        return AvsalError(f"cannot write {self.path}: {error.strerror}; make room or choose another workdir")
