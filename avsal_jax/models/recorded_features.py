"""Features that modules record by `sow`, by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from avsal_jax.errors import AvsalError, did_you_mean


def recorded_features(intermediates: dict, names: Sequence[str] | None) -> dict:
    """Returns features that a network recorded in its collection `intermediates`.

    Args:
      intermediates: as returned by flax.
      names: paths, such as `fusion/layer1/attention/attention`, or ends of paths, such as `fused`. If several
        paths have this end, the one with the fewest parts is meant. None for all features.

    Returns:
      The features by the given names, or by their paths for None.

    Raises:
      AvsalError: a name that is not recorded or that is ambiguous; the message lists the candidates.
    """
    by_path = dict(_recorded(intermediates, ""))
    if names is None:
        return dict(sorted(by_path.items()))
    return {name: by_path[feature_path(name, by_path)] for name in sorted(names)}


def feature_path(name: str, paths: Sequence[str]) -> str:
    """Returns the path among `paths` for a name of a feature; see `recorded_features`."""
    if name in paths:
        return name
    ends = sorted((path for path in paths if path.endswith(f"/{name}")), key=lambda path: path.count("/"))
    if not ends:
        short = sorted({path.rpartition("/")[2] for path in paths})
        hint = did_you_mean(name, [*short, *paths])
        raise AvsalError(f"unknown feature {name!r}{hint}; this network records {', '.join(sorted(paths))}")
    if len(ends) > 1 and ends[1].count("/") == ends[0].count("/"):
        raise AvsalError(f"several modules record {name!r}; use a path instead: {', '.join(ends)}")
    return ends[0]


def _recorded(intermediates: Mapping, path: str) -> Iterator[tuple[str, object]]:
    """Yields (path, value) of each feature that a module recorded by `sow`."""
    for name, value in intermediates.items():
        if isinstance(value, Mapping):
            yield from _recorded(value, f"{path}{name}/")
        else:
            yield f"{path}{name}", value[0]
