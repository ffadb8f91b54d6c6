"""The base class of conversions, which map the tensors of a checkpoint to the parameters of a network.

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
    """Maps the tensors of a checkpoint to the parameters of a registered system.

    Register it under the name of the system, which may be a single encoder (`System.kind` is `part`). To
    convert a network with a custom part, also register a system with that part.

    Attributes:
      marks: names of tensors; each checkpoint has one of them. They locate the network in a file with more
        entries (`candidates.choose`).
      ignored: patterns of names of tensors that are not used, such as `*.num_batches_tracked`.
    """

    marks: ClassVar[tuple[str, ...]] = ()
    ignored: ClassVar[tuple[str, ...]] = ()

    def recognise(self, tensors: Mapping[str, StoredTensor]) -> dict:
        """Returns the settings implied by names and shapes: {"frames": 16, "fusion": "my_fusion"}.

        Args:
          tensors: by name; each has a `shape`, and `np.asarray` reads its values.

        Raises:
          AvsalError: a checkpoint of another network.
        """
        return {}

    def table(self, settings: Mapping, tensors: Mapping[str, StoredTensor]) -> Iterator[Entry]:
        """Yields the row of each parameter and each running statistic of the network.

        Args:
          settings: from `recognise` and the user, with dotted names.
          tensors: as in `recognise`.
        """
        raise NotImplementedError(f"{type(self).__name__} has no table")
