"""MATLAB's bicubic `imresize`, with which the MIT code brings a prediction to the size of the truth."""

from __future__ import annotations

import functools

import numpy as np
import scipy.sparse

from avsal_jax.errors import AvsalError
from avsal_jax.metrics.checked_arrays import as_maps

_MAX_SIDE = 16_384


def imresize(maps: np.ndarray, height: int, width: int) -> np.ndarray:
    """Returns `maps` [..., H, W] resized to float64 [..., height, width] as MATLAB's `imresize` does.

    Keys' cubic kernel with a = -0.5 (R. G. Keys, "Cubic convolution interpolation for digital image
    processing", 1981), widened where the map shrinks (antialiasing); edges are mirrored with the edge pixel
    repeated. Values may leave the input's range; nothing is rounded, as MATLAB does for integer classes.

    Raises:
      AvsalError: `maps` are no numbers [..., H, W], or a size is no whole number from 1 to 16384.
    """
    for name, size in (("height", height), ("width", width)):
        whole = isinstance(size, int | np.integer) and not isinstance(size, bool)
        if not whole or not 1 <= size <= _MAX_SIDE:
            raise AvsalError(f"{name} must be a whole number from 1 to {_MAX_SIDE}; got {size!r}")
    maps = as_maps("maps", maps).astype(np.float64)
    *lead, old_height, old_width = maps.shape
    if (old_height, old_width) == (height, width):
        return maps
    rows, columns = _weights(old_height, int(height)), _weights(old_width, int(width))
    result = np.empty((*lead, height, width))
    for index in np.ndindex(*lead):
        result[index] = (columns @ (rows @ maps[index]).T).T
    return result


@functools.lru_cache(maxsize=32)
def _weights(old: int, new: int) -> scipy.sparse.csr_array:
    """Returns what each new sample takes from each old one, [new, old]."""
    scale = new / old
    shrink = min(scale, 1.0)
    reach = 4 / shrink
    centre = (np.arange(new) + 0.5) / scale - 0.5
    taps = np.floor(centre - reach / 2)[:, None] + np.arange(int(np.ceil(reach)) + 2)
    weights = _cubic(shrink * (centre[:, None] - taps))
    weights /= weights.sum(1, keepdims=True)
    mirrored = taps.astype(np.int64) % (2 * old)
    mirrored = np.where(mirrored < old, mirrored, 2 * old - 1 - mirrored)
    rows = np.broadcast_to(np.arange(new)[:, None], taps.shape)
    kept = weights != 0
    return scipy.sparse.coo_array((weights[kept], (rows[kept], mirrored[kept])), (new, old)).tocsr()


def _cubic(x: np.ndarray) -> np.ndarray:
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x**2 + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))
