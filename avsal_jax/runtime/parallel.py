"""Data parallelism over a mesh of all devices: the state is replicated, batches are split."""

from __future__ import annotations

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from avsal_jax.errors import AvsalError


class DataParallel:
    """One mesh axis over all devices of all processes; also works for one device or one process.

    Args:
      batch: clips per step over all devices.
      devices: the devices to use; None for all.

    Raises:
      AvsalError: the devices cannot share the batch.
    """

    def __init__(self, batch: int, devices=None):
        devices = list(devices if devices is not None else jax.devices())
        if batch % len(devices):
            raise AvsalError(
                f"a batch of {batch} cannot be shared by {len(devices)} devices; data.batch must be a "
                "multiple of their number"
            )
        self.mesh = jax.make_mesh((len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=devices)
        self.everywhere = NamedSharding(self.mesh, PartitionSpec())
        self.shares = NamedSharding(self.mesh, PartitionSpec("data"))
        self.process = jax.process_index(), jax.process_count()

    def replicate(self, tree):
        """Copies host values to every device."""
        return jax.tree.map(
            lambda leaf: jax.make_array_from_process_local_data(self.everywhere, np.asarray(leaf)), tree
        )

    def split(self, batch: dict) -> dict:
        """Returns the global batch [B, ...], to which this process contributes its rows [b, ...]."""
        return {
            name: jax.make_array_from_process_local_data(self.shares, np.asarray(rows))
            for name, rows in batch.items()
        }

    def jit(self, step, donate: bool = False):
        """Returns the jitted step; its results are replicated on all devices."""
        return jax.jit(step, donate_argnums=(0,) if donate else (), out_shardings=self.everywhere)
