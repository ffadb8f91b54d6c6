"""Areas under ROC curves: Judd's, Borji's and the shuffled one, and the negatives of the last two."""

from __future__ import annotations

import numpy as np

from avsal_jax.errors import AvsalError
from avsal_jax.metrics.checked_arrays import as_fixations, as_maps, same_batch
from avsal_jax.metrics.maps import Maps, is_constant, one_frame, stretch

RULES = ("mit", "distinct", "rank")


def auc_judd(
    prediction: np.ndarray,
    fixations: np.ndarray,
    *,
    rule: str = "mit",
    jitter: np.random.Generator | int | None = None,
) -> np.ndarray:
    """Returns Judd's area under the ROC curve, float64 [..., H, W] -> [...].

    MIT `AUC_Judd.m`: thresholds are the values at the N fixated pixels, descending; at the i-th, the true
    positives are i/N and the false ones (pixels at or above it - i) / (pixels - N). NaN without fixations.

    Args:
      prediction: [..., H, W]; another size than the truth's is resized by `imresize`.
      fixations: [..., H', W'], above 0 where somebody looked; a pixel counts once.
      rule: what happens to equal values (`smooth` and `sparse`, which is 90 % zeros):
        `mit` as above, wrong with ties (.969404, .156712), NaN for a constant map;
        `distinct` takes each threshold once, with all its fixations (.969404, .529205): pysaliency with
        nonfixations='unfixated' and thresholds='fixations', and up to their rounding UNISAL and
        tarunsharma1; .5 for a constant map;
        `rank` sets fixations against all pixels at every threshold (.959129, .511502): pysaliency's
        default; .5 for a constant map.
      jitter: a generator, or a seed for one, that adds MATLAB's default noise, uniform up to 1e-7, which
        breaks ties at random (`sparse`: .547 +- .082). None adds none. Frames take noise in order.

    Raises:
      AvsalError: shapes, types, `rule` or `jitter` do not fit; fixations with fractions.
    """
    if rule not in RULES:
        raise AvsalError(f"rule {rule!r} of auc_judd is not one of {', '.join(RULES)}")
    noise = None if jitter is None else _generator(jitter)
    maps, fixated = _prepare(prediction, fixations)
    result = np.empty(fixated.shape[:-2])
    for index in np.ndindex(result.shape):
        frame = one_frame(maps, index, fixated.shape[-2:])
        result[index] = _judd(frame, fixated=fixated[index], rule=rule, noise=noise)
    return result[()]


def _judd(p: Maps, fixated: np.ndarray, rule: str, noise: np.random.Generator | None) -> float:
    values = p.values
    if noise is not None:
        values += noise.random(values.shape) / 1e7
    low, high = values.min(), values.max()
    if not fixated.any() or not np.isfinite(high - low):
        return np.nan
    if is_constant(np, maps=p if noise is None else Maps(values), low=low, high=high):
        return np.nan if rule == "mit" else 0.5
    ordered = np.sort(values, axis=None)  # stretching from 0 to 1 would change no order
    at_fixations = np.sort(values[fixated])[::-1]
    if rule == "rank":
        below, upto = (np.searchsorted(ordered, at_fixations, side) for side in ("left", "right"))
        return float((below + upto).mean() / (2 * ordered.size))
    hits = np.arange(1, at_fixations.size + 1)
    if rule == "distinct":
        last = np.append(at_fixations[1:] != at_fixations[:-1], True)
        at_fixations, hits = at_fixations[last], hits[last]
    above = ordered.size - np.searchsorted(ordered, at_fixations, "left")
    others = ordered.size - np.count_nonzero(fixated)
    if others == 0:
        return np.nan
    return _area((above - hits) / others, hits / hits[-1])


def auc_borji(
    prediction: np.ndarray, fixations: np.ndarray, negatives: np.ndarray, *, step: float = 0.1
) -> np.ndarray:
    """Returns Borji's area under the ROC curve, float64 [..., H, W] -> [...].

    MIT `AUC_Borji.m`: the map is stretched from 0 to 1; for each split, thresholds go from 0 in steps to the
    largest value at fixations and negatives; mean over the splits. NaN with at most one fixation and for a
    constant map.

    Args:
      prediction, fixations: as in `auc_judd`.
      negatives: integers [..., splits, N, 2], (row, column) at the size of `fixations`, from
        `sample_uniform_negatives`. Rows of (-1, -1) are no points: they fill up frames with fewer.
      step: of the thresholds. `smooth`: .966667 with .1 (MATLAB's default), .967901 with .001.

    Raises:
      AvsalError: shapes or types do not fit, a negative outside the map, `step` not from 0.0001 to 1.
    """
    return _sampled(prediction, fixations=fixations, negatives=negatives, step=step, at_least=2)


def auc_shuffled(
    prediction: np.ndarray, fixations: np.ndarray, negatives: np.ndarray, *, step: float = 0.1
) -> np.ndarray:
    """Returns the shuffled area under the ROC curve, float64 [..., H, W] -> [...].

    MIT `AUC_shuffled.m`: as `auc_borji`, with negatives where people looked in other images. NaN without
    fixations, without negatives and for a constant map. `smooth`: .925926 with step .1, .940741 with .001.

    Args:
      prediction, fixations, step: as in `auc_borji`.
      negatives: as in `auc_borji`, from `sample_shuffled_negatives`.

    Raises:
      AvsalError: as `auc_borji`.
    """
    return _sampled(prediction, fixations=fixations, negatives=negatives, step=step, at_least=1)


def _sampled(prediction, fixations, negatives, step, at_least):
    if not 1e-4 <= step <= 1:
        raise AvsalError(f"step of the thresholds must be from 0.0001 to 1; got {step!r}")
    maps, fixated = _prepare(prediction, fixations)
    negatives = _check_negatives(negatives, fixated)
    result = np.empty(fixated.shape[:-2])
    for index in np.ndindex(result.shape):
        with np.errstate(invalid="ignore"):  # infinities in the map
            values, constant = stretch(np, one_frame(maps, index, fixated.shape[-2:]))
        hits = np.sort(values[fixated[index]])
        undefined = constant.item() or np.isnan(values).any() or hits.size < at_least
        splits = (
            []
            if undefined
            else [_split(values, hits=hits, points=points, step=step) for points in negatives[index]]
        )
        result[index] = np.mean(splits) if splits else np.nan
    return result[()]


def _split(values: np.ndarray, hits: np.ndarray, points: np.ndarray, step: float) -> float:
    rows, columns = points[points[:, 0] >= 0].T
    if rows.size == 0:
        return np.nan
    misses = np.sort(values[rows, columns])
    thresholds = _colon(step, max(hits[-1], misses[-1]))[::-1]
    true, false = (1 - np.searchsorted(v, thresholds, "left") / v.size for v in (hits, misses))
    return _area(false, true)


def _colon(step: float, stop: float) -> np.ndarray:
    """Returns MATLAB's 0:step:stop to the last bit: its upper half is counted down from the end.

    8-bit maps hold .2, .4, .6 and .8 exactly, so one bit decides whether all pixels of a level count
    ("How does the colon operator work", MathWorks support answer 1-4FLI96).
    """
    margin = 2 * np.finfo(np.float64).eps * stop
    n = int(np.floor(stop / step + 0.5))
    if n * step - stop > margin:
        n -= 1
    end = n * step
    if end - stop > -margin:
        end = stop
    up = np.arange(n + 1) * step
    down = end - np.arange(n, -1, -1) * step
    result = np.where(np.arange(n + 1) <= n // 2, up, down)
    if n % 2 == 0:
        result[n // 2] = end / 2
    return result


def _area(false: np.ndarray, true: np.ndarray) -> float:
    """The trapezoids from (0, 0) through the points to (1, 1)."""
    x, y = np.concatenate(([0], false, [1])), np.concatenate(([0], true, [1]))
    return float((np.diff(x) * (y[1:] + y[:-1])).sum() / 2)


def sample_uniform_negatives(
    fixations: np.ndarray, generator: np.random.Generator | int, *, splits: int = 100
) -> np.ndarray:
    """Returns the negatives of `auc_borji`, int64 [splits, N, 2]: pixels of the whole map, with replacement.

    Args:
      fixations: [H, W]; N is how many pixels are above 0.
      generator: what draws, or a seed for it.
      splits: how many draws; MATLAB's default is 100.

    Raises:
      AvsalError: `fixations` are no single map or have fractions; `generator` or `splits` do not fit.
    """
    fixated, generator = _one_map(fixations), _generator(generator)
    flat = generator.integers(fixated.size, size=(_check_splits(splits), np.count_nonzero(fixated)))
    return np.stack(np.unravel_index(flat, fixated.shape), -1)


def sample_shuffled_negatives(
    fixations: np.ndarray, other: np.ndarray, generator: np.random.Generator | int, *, splits: int = 100
) -> np.ndarray:
    """Returns the negatives of `auc_shuffled`, int64 [splits, min(N, M), 2], without replacement in a split.

    Args:
      fixations: [H, W]; N is how many pixels are above 0.
      other: [H, W], the fixations of other images; M pixels are above 0. Which images these are, and whether
        the frame's own fixations are taken out, is the protocol's choice.
      generator, splits: as in `sample_uniform_negatives`.

    Raises:
      AvsalError: as `sample_uniform_negatives`; the maps differ in size.
    """
    fixated, others = _one_map(fixations), _one_map(other)
    same_batch("fixations", maps=fixated, other_name="other", other=others, sizes=True)
    generator = _generator(generator)
    points = np.argwhere(others)
    count = min(np.count_nonzero(fixated), len(points))
    draws = [generator.choice(len(points), count, replace=False) for _ in range(_check_splits(splits))]
    return points[np.array(draws, np.int64)]


def _prepare(prediction, fixations) -> tuple[np.ndarray, np.ndarray]:
    maps, fixated = as_maps("prediction", prediction), as_fixations(fixations)
    same_batch("prediction", maps=maps, other_name="fixations", other=fixated)
    return maps, fixated


def _check_negatives(negatives, fixated: np.ndarray) -> np.ndarray:
    negatives, lead = np.asarray(negatives), fixated.shape[:-2]
    shaped = negatives.ndim == len(lead) + 3 and negatives.shape[:-3] == lead and negatives.shape[-1] == 2
    if negatives.dtype.kind not in "ui" or not shaped or negatives.shape[-3] == 0:
        axes = "".join(f"{n}, " for n in lead)
        raise AvsalError(
            f"negatives must be integers [{axes}splits, N, 2]; got {negatives.dtype} {negatives.shape}"
        )
    negatives = negatives.astype(np.int64)
    outside = ((negatives < 0) | (negatives >= fixated.shape[-2:])).any(-1) & (negatives != -1).any(-1)
    if outside.any():
        raise AvsalError(
            f"negatives must be (row, column) inside the map of {fixated.shape[-2]}x{fixated.shape[-1]}; "
            f"got {tuple(negatives[outside][0].tolist())}"
        )
    return negatives


def _one_map(fixations) -> np.ndarray:
    fixated = as_fixations(fixations)
    if fixated.ndim != 2:
        raise AvsalError(f"negatives are drawn for one map [H, W] at a time; got shape {fixated.shape}")
    return fixated


def _check_splits(splits) -> int:
    if not isinstance(splits, int) or isinstance(splits, bool) or not 1 <= splits <= 100_000:
        raise AvsalError(f"splits must be a whole number from 1 to 100000; got {splits!r}")
    return splits


def _generator(source) -> np.random.Generator:
    whole = isinstance(source, int | np.integer) and not isinstance(source, bool) and source >= 0
    if not whole and not isinstance(source, np.random.Generator):
        raise AvsalError(f"noise and negatives need a numpy Generator or a seed from 0 on; got {source!r}")
    return np.random.default_rng(source)
