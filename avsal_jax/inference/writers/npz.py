"""`--save npz`: the maps as numbers."""

from __future__ import annotations

import pathlib
import shutil
import zipfile
import zlib
from typing import TYPE_CHECKING

from avsal_jax.inference.output import MAP, Item, Output
from avsal_jax.registry import register

if TYPE_CHECKING:
    import numpy as np

_FILE = "maps.npz"


@register("output", "npz")
class MapArchive(Output):
    """maps.npz: maps at the size of the model, as float16: `maps` [N, H, W], or an array per photograph."""

    files = (_FILE,)
    needs = frozenset({MAP})
    stores = frozenset({MAP})

    def __init__(self, context):
        super().__init__(context)
        is_one_array = context.info is not None or context.is_single
        self._writer = (_OneArray if is_one_array else _Arrays)(self.path(_FILE))
        self._earlier: zipfile.ZipFile | None = None

    def add(self, item: Item) -> None:
        """Adds the map of a frame or photograph."""
        self._writer.write(item.name, item.saliency)

    def close(self, ok: bool) -> None:
        """Completes the archive, or releases its files."""
        if self._earlier is not None:
            self._earlier.close()
        self._writer.close(ok)

    def stored(self, folder: pathlib.Path, name: str) -> np.ndarray | None:
        """Returns the map of a photograph: float16 [H, W]; None if the archive does not have it."""
        import numpy as np

        try:
            self._earlier = self._earlier or zipfile.ZipFile(folder / _FILE)
            with self._earlier.open(f"{name}.npy") as file:
                return np.lib.format.read_array(file, allow_pickle=False)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
            return None


class _OneArray:
    """Writes one array `maps`, float16 [N, H, W], a map at a time; memory does not grow with N."""

    def __init__(self, path: pathlib.Path):
        self._path, self._raw = path, path.with_suffix(".raw")
        self._file = self._raw.open("wb")
        self._shape: tuple[int, ...] = ()
        self._count = 0

    def write(self, name: str, saliency: np.ndarray) -> None:
        import numpy as np

        self._shape = saliency.shape
        self._file.write(np.ascontiguousarray(saliency, np.float16).tobytes())
        self._count += 1

    def close(self, ok: bool) -> None:
        """Writes the archive: a header with the number of maps, then the maps."""
        import numpy as np

        self._file.close()
        if not ok:
            return
        header = {"descr": "<f2", "fortran_order": False, "shape": (self._count, *self._shape)}
        with (
            zipfile.ZipFile(self._path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
            archive.open("maps.npy", "w", force_zip64=True) as out,
            self._raw.open("rb") as raw,
        ):
            np.lib.format.write_array_header_1_0(out, header)
            shutil.copyfileobj(raw, out, 1 << 20)
        self._raw.unlink()


class _Arrays:
    """Writes an array for each photograph by its name, float16 [H, W]; their sizes may differ."""

    def __init__(self, path: pathlib.Path):
        self._archive = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1)

    def write(self, name: str, saliency: np.ndarray) -> None:
        import numpy as np

        with self._archive.open(f"{name}.npy", "w") as file:
            np.lib.format.write_array(file, saliency.astype(np.float16), allow_pickle=False)

    def close(self, ok: bool) -> None:
        self._archive.close()
