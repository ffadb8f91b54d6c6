"""Stages that overlap: a producer and consumers in threads with bounded queues."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator

_END = object()


def prefetched(items: Iterable, depth: int) -> Iterator:
    """Yields `items`, which a thread produces up to `depth` ahead; its exceptions are raised here.

    Closing or deleting the generator stops the thread, and closes `items` if it has a method `close`.
    """
    ready: queue.Queue = queue.Queue(depth)
    stopped = threading.Event()

    def put(item) -> bool:
        while not stopped.is_set():
            try:
                ready.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def produce():
        try:
            for item in items:
                if not put((item, None)):
                    return
            put((_END, None))
        except BaseException as error:  # every exception is passed to the consumer
            put((_END, error))
        finally:
            if hasattr(items, "close"):
                items.close()

    thread = threading.Thread(target=produce, daemon=True)
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if error is not None:
                raise error
            if item is _END:
                return
            yield item
    finally:
        stopped.set()
        thread.join()


class Worker:
    """Calls `consume` in a thread for every item, in order.

    An exception of `consume` is raised by the next call of `put` or `close`; later items are dropped.
    """

    def __init__(self, consume: Callable, depth: int):
        self._queue: queue.Queue = queue.Queue(depth)
        self._consume, self._error, self._drop = consume, None, False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def put(self, item) -> None:
        """Adds an item to the queue; waits while the queue is full."""
        if self._error is not None:
            raise self._error
        self._queue.put(item)

    def close(self, drop: bool = False) -> None:
        """Waits until all items are consumed; with `drop`, discards the items in the queue."""
        self._drop = self._drop or drop
        self._queue.put(_END)
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self):
        while (item := self._queue.get()) is not _END:
            if self._error is None and not self._drop:
                try:
                    self._consume(item)
                except BaseException as error:
                    self._error = error
