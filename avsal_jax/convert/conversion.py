"""The base of conversions: how the tensors of a checkpoint become the parameters of a network.

@register("conversion", "my_net")
class MyNet(Conversion):
    marks = ("encoder.0.weight",)

    def table(self, settings, tensors):
        yield Entry("encoder.0.weight", "params/visual_encoder/first/kernel", "conv3d")
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from avsal_jax.convert.candidates import StoredTensor
    from avsal_jax.convert.rules import Entry


class Conversion:
    """Which tensor of a checkpoint becomes which parameter of a registered system.

    It is registered by the name of the system, which may be an encoder alone (`System.kind` is `part`).
    For checkpoints of a network with a part of yours, register a system with that part too.

    Attributes:
      marks: names of tensors, of which each checkpoint has one; they find the network in a file that holds
        more (`candidates.choose`).
      ignored: patterns of names of tensors that are known, and not used: `*.num_batches_tracked`.
    """

    marks: ClassVar[tuple[str, ...]] = ()
    ignored: ClassVar[tuple[str, ...]] = ()

    def recognise(self, tensors: Mapping[str, StoredTensor]) -> dict:
        """Returns the settings that names and shapes show: {"frames": 16, "fusion": "my_fusion"}.

        Args:
          tensors: of the checkpoint, by name; they have a `shape`, and `np.asarray` reads their values.

        Raises:
          AvsalError: a checkpoint of another network.
        """
        return {}

    def table(self, settings: Mapping, tensors: Mapping[str, StoredTensor]) -> Iterator[Entry]:
        """Yields the row of each parameter and each running statistic of the network.

        Args:
          settings: those of `recognise` and of the user, with dotted names.
          tensors: as `recognise` takes them.
        """
        raise NotImplementedError(f"{type(self).__name__} has no table")
