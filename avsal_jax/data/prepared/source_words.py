"""Sources of videos as in configs, and descriptions of videos; does not import the readers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from avsal_jax.errors import AvsalError

if TYPE_CHECKING:
    from avsal_jax.data.prepared.videos import PreparedVideo


def check_sources(sources: tuple) -> None:
    """Raises AvsalError if an element is not a source, see `selection.PreparedSources`."""
    for source in sources:
        if not isinstance(source, str) and not (
            isinstance(source, tuple) and len(source) == 2 and isinstance(source[0], str)
        ):
            raise AvsalError(
                f"a data source is (set, fold), as ('coutrot1', 1), or a list file; got {source!r}"
            )


def videos_in_words(videos: Sequence[PreparedVideo]) -> str:
    """Returns `7 videos of avad, diem`."""
    return f"{len(videos)} videos of {', '.join(sorted({video.dataset for video in videos}))}"
