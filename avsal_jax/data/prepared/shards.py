"""Shards of a prepared data set: array_record files of TFDS examples, one per video and kind."""

from __future__ import annotations

import collections
import contextlib
import pathlib
import threading
from collections.abc import Iterator, Sequence

import numpy as np

from avsal_jax.errors import AvsalError
from avsal_jax.files import complete_file

KINDS = ("pictures", "targets", "sound", "videos")
VERSION = "1.0.0"  # of the records' features; TFDS names folders by it
SPLIT = "data"  # the only TFDS split of each kind; train and test are lists of videos
_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
_WRITER = "group_size:1,uncompressed"  # pictures are compressed already; records are read one by one
_OPEN_READERS = 256
_MISSING_PACKAGES = (
    "prepared data needs tensorflow-datasets, array-record and tensorflow: pip install 'avsal-jax[train]'"
)


def features(kind: str, height: int, width: int, encoding: str):
    """Returns the TFDS features of the records of a kind.

    pictures: one record per frame: `image` [height, width, 3], at model size.
    targets: one per frame: `density` as it was encoded, `fixations` int32 [N, 2] (row, column) in a map of
      `size` int32 [2] (height, width).
    sound: pieces of `wave` float32 [samples] in [-1, 1], of equal length except for the last.
    videos: one per video; see `videos.PreparedVideo`.
    """
    tfds = _tfds().features

    def array(shape, dtype):
        return tfds.Tensor(shape=shape, dtype=dtype, encoding="bytes")

    fields = {
        "pictures": {"image": tfds.Image(shape=(height, width, 3), encoding_format=encoding)},
        "targets": {
            "density": tfds.Image(shape=(None, None, 1)),
            "fixations": array((None, 2), np.int32),
            "size": array((2,), np.int32),
        },
        "sound": {"wave": array((None,), np.float32)},
        "videos": {
            "dataset": tfds.Text(),
            "name": tfds.Text(),
            "fps": array((), np.float64),
            "frames": np.int64,
            "rate": np.int64,
            "samples": np.int64,
            "piece": np.int64,
            "published": np.int64,
            "fixated": np.int64,
            "black": array((None,), np.bool_),
            "size": array((2,), np.int32),
            "category": tfds.Text(),
            "found": tfds.Text(),
            "identity": tfds.Text(),
        },
    }
    return tfds.FeaturesDict(fields[kind])


class WriteError(AvsalError):
    """A shard could not be written; writing others would fail too."""


class ShardFolder:
    """The shards of one prepared data set: <folder>/<kind>/1.0.0/<kind>-data.array_record-00003-of-00010.

    Args:
      folder: of the set.
      count: number of videos, so of shards of each kind.
      size: (height, width) of the pictures.
      encoding: `jpeg` or `png`, of the pictures.

    Raises:
      AvsalError: TFDS or array_record is not installed.
    """

    def __init__(self, folder: pathlib.Path, count: int, size: tuple[int, int], encoding: str):
        self.folder, self.count, self.size, self.encoding = folder, count, size, encoding
        self._features = {kind: features(kind, *size, encoding) for kind in KINDS}
        self._readers: collections.OrderedDict = collections.OrderedDict()
        self._lock = threading.Lock()

    def path(self, kind: str, index: int) -> pathlib.Path:
        """Returns the path of the shard of a kind of the video `index`; it need not exist."""
        name = f"{kind}-{SPLIT}.array_record-{index:05d}-of-{self.count:05d}"
        return self.folder / kind / VERSION / name

    @contextlib.contextmanager
    def writer(self, kind: str, index: int) -> Iterator:
        """Yields a function that adds a record. The shard is renamed into place when all are on disk.

        Raises:
          AvsalError: the records cannot be written, for example if the disk is full; no shard is left.
        """
        path, count = self.path(kind, index), 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with complete_file(path, shared=False) as partial:
                file = _array_record().ArrayRecordWriter(str(partial), _WRITER)

                def add(record: dict) -> None:
                    nonlocal count
                    file.write(self._features[kind].serialize_example(record))
                    count += 1

                try:
                    yield add
                    file.close()
                finally:
                    if file.is_open():
                        with contextlib.suppress(RuntimeError):  # another error has been raised already
                            file.close()
                if _reader(partial).num_records() != count:
                    raise OSError("not all records are on the disk")
            with self._lock:
                self._readers.pop((kind, index), None)  # which has the previous file open
        except (OSError, RuntimeError) as error:
            raise WriteError(f"cannot write {path}: {_reason(error)}") from error

    def count_records(self, kind: str, index: int) -> int:
        """Returns the number of records of a shard."""
        return self._open(kind, index).num_records()

    def read_raw(self, kind: str, index: int, records: Sequence[int]) -> list[bytes]:
        """Returns the encoded records of a shard, in the order of `records`.

        Raises:
          AvsalError: the shard is missing or damaged.
        """
        unique = sorted(set(records))
        try:
            by_number = dict(zip(unique, self._open(kind, index).read(unique), strict=True))
        except (OSError, RuntimeError, IndexError, ValueError) as error:
            path = self.path(kind, index)
            raise AvsalError(
                f"cannot read {path}: {_reason(error)}; delete it and prepare the set again"
            ) from error
        return [by_number[record] for record in records]

    def read(self, kind: str, index: int, records: Sequence[int]) -> list[dict]:
        """Returns records of a shard with their values as NumPy arrays; errors as in `read_raw`."""
        parse = self._features[kind].deserialize_example_np
        raw = self.read_raw(kind, index, records)
        try:
            return [parse(record) for record in raw]
        except Exception as error:  # TFDS documents no exceptions; its decoders raise various types
            path = self.path(kind, index)
            raise AvsalError(
                f"{path} holds no {kind}: {type(error).__name__}; delete it and prepare the set again"
            ) from error

    def write_metadata(self, kind: str, description: str) -> None:
        """Writes TFDS metadata for the shards of a kind, for `tfds.builder_from_directory`."""
        tfds = _tfds()
        paths = [self.path(kind, index) for index in range(self.count)]
        split = tfds.core.SplitInfo(
            name=SPLIT,
            shard_lengths=[self.count_records(kind, index) for index in range(self.count)],
            num_bytes=sum(path.stat().st_size for path in paths),
            filename_template=tfds.core.ShardedFileTemplate(
                data_dir=paths[0].parent, template=_TEMPLATE, dataset_name=kind, split=SPLIT
            ),
        )
        tfds.folder_dataset.write_metadata(
            data_dir=paths[0].parent,
            features=self._features[kind],
            split_infos=[split],
            filename_template=_TEMPLATE,
            description=description,
            check_data=False,
        )

    def _open(self, kind: str, index: int):
        """Returns the shard's reader; the most recently used readers remain open."""
        key = kind, index
        with self._lock:
            reader = self._readers.pop(key, None) or _reader(self.path(kind, index))
            self._readers[key] = reader
            while len(self._readers) > _OPEN_READERS:
                self._readers.popitem(last=False)
        return reader


def _reader(path: pathlib.Path):
    if not path.is_file():  # which array_record would take for an empty file
        raise AvsalError(f"there is no file {path}; prepare the set again")
    return _array_record().ArrayRecordReader(str(path), "readahead_buffer_size:0,max_parallelism:0")


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return text.split("; ")[0] if "failed: " in text else text


def _tfds():
    try:
        import tensorflow_datasets
    except ImportError as error:
        raise AvsalError(_MISSING_PACKAGES) from error
    return tensorflow_datasets


def _array_record():
    try:
        from array_record.python import array_record_module
    except ImportError as error:
        raise AvsalError(_MISSING_PACKAGES) from error
    return array_record_module
