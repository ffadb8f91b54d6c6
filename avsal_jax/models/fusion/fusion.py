"""The base of fusions: what others ask of one."""

from __future__ import annotations

from typing import TypeVar

from avsal_jax.models.part import Part

F = TypeVar("F", bound="Fusion")


class Fusion(Part):
    """A part that joins picture and sound: (pyramid, audio tokens, train) -> pyramid.

    It keeps B, T, H, W of every level; channels may change. `tokens` are [B, S, C] as the audio encoder made
    them, or None where that slot is empty: the audio-visual step is then the identity.

    Attributes:
      joins_tokens: whether `fused` and `attention` are about the picture's tokens and then the sound's, in
        one sequence.
    """

    joins_tokens = False

    @property
    def iterations(self) -> int | None:
        """The number of iterations that lead to the result, or None where there is no such number."""
        return None

    def with_iterations(self: F, count: int) -> F:
        """Returns the same fusion, with the same parameters, of another number of iterations."""
        raise NotImplementedError(f"{type(self).__name__} has no iterations")
