"""Maps as densities: information gain and calibration, against plain loops and cases known in closed form."""

import math

import numpy as np
import pytest

from avsal_jax import AvsalError, metrics

TOLERANCE = 1e-12  # of float64 sums in different orders
RANDOM = np.random.default_rng(3)
MAP, PRIOR = RANDOM.random((6, 8)), RANDOM.random((6, 8))
POINTS = np.array([(0, 0), (2, 7), (2, 7), (5, 3)])


def probability(saliency, row, column):
    total = sum(max(value, 0) for line in saliency.tolist() for value in line)
    return 0.99 * max(saliency[row, column], 0) / total + 0.01 / saliency.size


def test_information_gain_is_the_mean_over_fixations():
    bits = [math.log2(probability(MAP, *point) / probability(PRIOR, *point)) for point in POINTS.tolist()]
    assert metrics.information_gain_at(MAP, POINTS, PRIOR) == pytest.approx(sum(bits) / 4, abs=TOLERANCE)


def test_information_gain_does_not_depend_on_scale_and_is_0_over_the_map_itself():
    gain = metrics.information_gain_at(MAP, POINTS, PRIOR)
    assert metrics.information_gain_at(7 * MAP, POINTS, PRIOR / 3) == pytest.approx(gain, abs=TOLERANCE)
    assert metrics.information_gain_at(MAP, POINTS, 2 * MAP) == pytest.approx(0, abs=TOLERANCE)


def test_a_map_that_names_one_of_two_halves_gains_nearly_a_bit():
    half = np.zeros((4, 4))
    half[:, :2] = 3
    gain = metrics.information_gain_at(half, np.array([(1, 1)]), np.ones((4, 4)))
    assert gain == pytest.approx(math.log2(2 * 0.99 + 0.01), abs=TOLERANCE)
    outside = metrics.information_gain_at(half, np.array([(1, 3)]), np.ones((4, 4)))
    assert outside == pytest.approx(math.log2(0.01), abs=TOLERANCE)  # finite where the map is 0


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_a_map_without_mass_is_uniform(value):
    empty = np.full((3, 5), value)
    np.testing.assert_allclose(metrics.as_density(empty), 1 / 15, atol=TOLERANCE)
    assert metrics.information_gain_at(empty, np.array([(0, 0)]), np.ones((3, 5))) == pytest.approx(
        0, abs=TOLERANCE
    )


def test_densities_sum_to_1():
    for saliency in (MAP, MAP - 0.5, np.eye(4), np.zeros((2, 2), np.uint8)):
        density = metrics.as_density(saliency)
        assert density.sum() == pytest.approx(1, abs=TOLERANCE) and density.min() > 0


def test_top_cells_are_the_largest():
    saliency = RANDOM.permutation(100).reshape(10, 10).astype(float)
    places = np.argwhere(saliency >= 90)  # ten of a hundred cells
    points = np.concatenate([places[:3], np.argwhere(saliency < 5)])
    assert metrics.top_share(saliency, points, 0.1) == pytest.approx(3 / 8, abs=TOLERANCE)
    assert metrics.top_mass(saliency, 0.1) == pytest.approx(sum(range(90, 100)) / 4950, abs=TOLERANCE)
    assert metrics.top_mass(saliency, 1) == pytest.approx(1, abs=TOLERANCE)
    # A cell and a half: the second one counts by half.
    assert metrics.top_mass(saliency, 0.015) == pytest.approx((99 + 98 / 2) / 4950, abs=TOLERANCE)


def test_ties_are_shared():
    """Of a constant map every cell is in the top fifth by a fifth."""
    assert metrics.top_share(np.ones((5, 7)), POINTS[:1], 0.2) == pytest.approx(0.2, abs=TOLERANCE)
    assert metrics.top_mass(np.ones((5, 7)), 0.2) == pytest.approx(0.2, abs=TOLERANCE)


def test_a_density_is_calibrated_for_fixations_drawn_from_it():
    density = metrics.as_density(MAP**4)
    cells = RANDOM.choice(density.size, 40_000, p=density.ravel())
    points = np.stack(np.unravel_index(cells, density.shape), 1)
    for share in (0.05, 0.2):
        # four standard errors of a share
        assert metrics.top_share(density, points, share) == pytest.approx(
            metrics.top_mass(density, share), abs=4 * 0.5 / 200
        )


def test_without_fixations_or_with_nan_there_is_no_value():
    no_points = np.zeros((0, 2), int)
    assert math.isnan(metrics.information_gain_at(MAP, no_points, PRIOR))
    assert math.isnan(metrics.top_share(MAP, no_points, 0.1))
    damaged = MAP.copy()
    damaged[1, 1] = np.nan
    assert math.isnan(metrics.information_gain_at(damaged, POINTS, PRIOR))
    assert math.isnan(metrics.top_mass(damaged, 0.1)) and math.isnan(metrics.top_share(damaged, POINTS, 0.1))


def test_errors():
    with pytest.raises(AvsalError, match=r"prediction \(6, 8\) and prior \(6, 7\) differ in size"):
        metrics.information_gain_at(MAP, POINTS, PRIOR[:, :7])
    with pytest.raises(AvsalError, match="share of cells must be above 0 and at most 1; got 0"):
        metrics.top_mass(MAP, 0)
