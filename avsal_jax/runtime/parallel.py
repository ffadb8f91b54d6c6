"""The mesh of all devices, and what lies where on it: state everywhere, batches in shares."""

from __future__ import annotations

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from avsal_jax.errors import AvsalError


class DataParallel:
    """One axis over all devices of all processes; the same code for 1..N devices and 1..M processes.

    Args:
      batch: clips of a step over all devices.
      devices: None for all.

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
        """Returns host values as arrays that every device holds."""
        return jax.tree.map(
            lambda leaf: jax.make_array_from_process_local_data(self.everywhere, np.asarray(leaf)), tree
        )

    def split(self, batch: dict) -> dict:
        """Returns this process's rows [b, ...] as their share of the global batch [B, ...]."""
        return {
            name: jax.make_array_from_process_local_data(self.shares, np.asarray(rows))
            for name, rows in batch.items()
        }

    def jit(self, step, donate: bool = False):
        """Compiles a step whose results lie everywhere."""
        return jax.jit(step, donate_argnums=(0,) if donate else (), out_shardings=self.everywhere)
