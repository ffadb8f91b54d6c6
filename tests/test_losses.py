"""Losses agree with torch in values and gradients, and are finite where torch's are not."""

import functools
import json
import runpy

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from avsal_jax import losses
from avsal_jax.errors import AvsalError
from avsal_jax.losses import LossConfig, Term, weighted
from tests import needs

TERMS = [
    Term("kl", 1.0, "vinet"),
    Term("kl", 1.0, "casp_net"),
    Term("kl", 1.0, "avrsp"),
    Term("cc"),
    Term("sim"),
    Term("nss"),
    Term("bce", 1.0, "sum"),
    Term("bce", 1.0, "mean"),
]
pytestmark = pytest.mark.usefixtures("optimised")
IDS = {"ids": lambda term: f"{term.name}-{term.form}".strip("-")}
golden_term = pytest.mark.parametrize("term", TERMS, **IDS)
each_term = pytest.mark.parametrize("term", [*TERMS, Term("sim", 1.0, "sums")], **IDS)


@functools.partial(jax.jit, static_argnames="term")
def compiled(term, logits, density, fixations):
    def total(logits):
        values, _ = weighted(logits, density, fixations, (term,))
        return values.sum(), values

    return jax.grad(total, has_aux=True)(logits)


def values_and_gradient(term, *maps):
    gradient, values = compiled(term, *(np.asarray(m, np.float32) for m in maps))
    return np.asarray(values), np.asarray(gradient)


def check_against_torch(term, maps, values, gradient):
    jax_values, jax_gradient = values_and_gradient(term, *maps)
    # Sums of thousands of float32 numbers of order 1; a correlation near 0 is what is left of them.
    np.testing.assert_allclose(jax_values, values, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(jax_gradient, gradient, rtol=1e-5, atol=1e-5 * np.abs(gradient).max())


@pytest.fixture(scope="module")
def golden(tests_dir):
    return json.loads((tests_dir / "golden" / "losses.json").read_text())


@pytest.fixture(scope="module")
def maps(golden):
    return [np.asarray(golden[name], np.float32) for name in ("logits", "density", "fixations")]


@golden_term
def test_stored_values_of_torch(term, golden, maps):
    (case,) = (c for c in golden["cases"] if (c["name"], c["form"]) == (term.name, term.form))
    check_against_torch(term, maps, np.asarray(case["values"]), np.asarray(case["gradient"]))


def test_torch_itself_on_larger_maps(tests_dir):
    needs.torch()
    tool = runpy.run_path(str(tests_dir.parent / "tools" / "make_loss_golden.py"))
    for seed, size in ((1, (2, 56, 96)), (3, (2, 1, 40))):
        maps = tool["make_maps"](seed, *size)
        for name, form, values, gradient in tool["scores"](*maps):
            check_against_torch(Term(name, 1.0, form), maps, values, gradient)


def test_the_three_printed_forms_of_kl_differ_below_eps(maps):
    values = [values_and_gradient(term, *maps)[0] for term in TERMS[:3]]
    assert np.all(values[1] > values[0] + 1e-3)  # without eps, a miss costs more
    assert np.all(values[2] < values[0] - 1e-3)  # with a larger one, less


def test_equations_16_to_19_of_avrsp_in_loops():
    rng = np.random.default_rng(0)
    p, g = rng.random((5, 6)), rng.random((5, 6))
    places = list(np.ndindex(p.shape))

    def distribution(m):
        total = sum(m[i] for i in places)
        return {i: m[i] / total for i in places}

    def stretched(m):
        low, high = min(m[i] for i in places), max(m[i] for i in places)
        return {i: (m[i] - low) / (high - low) for i in places}

    def covariance(a, b):
        mean_a, mean_b = (sum(m[i] for i in places) / len(places) for m in (a, b))
        return sum((a[i] - mean_a) * (b[i] - mean_b) for i in places) / len(places)

    def kl(eps):
        prediction, truth = distribution(p), distribution(g)
        return sum(truth[i] * np.log((eps + truth[i]) / (eps + prediction[i])) for i in places)  # Eq. 16

    cc = covariance(p, g) / (covariance(p, p) * covariance(g, g)) ** 0.5  # Eq. 17
    prediction, truth = distribution(stretched(p)), distribution(stretched(g))
    sim = sum(min(prediction[i], truth[i]) for i in places)
    prediction, truth = distribution(p), distribution(g)
    sums = sum(min(prediction[i], truth[i]) for i in places)  # Eq. 18
    assert abs(sums - sim) > 1e-3
    with jax.enable_x64(True):
        scores = (
            losses.kl(p, g, form="avrsp"),
            losses.cc(p, g),
            losses.sim(p, g),
            losses.sim(p, g, form="sums"),
        )
        np.testing.assert_allclose(scores, (kl(2.2204e-16), cc, sim, sums), rtol=0, atol=1e-10)
        assert {value.dtype for value in scores} == {np.dtype(np.float64)}
    logits = np.log(p / (1 - p)).astype(np.float32)[None]
    for form, score in (("stretched", sim), ("sums", sums)):
        values = {"cc": -0.1, "sim": -0.1, "kl_form": "avrsp", "sim_form": form}
        terms = LossConfig.from_values(values, "loss").terms()
        total, _ = weighted(logits, g[None].astype(np.float32), None, terms)
        np.testing.assert_allclose(
            total, [kl(1e-7) - 0.1 * cc - 0.1 * score], atol=1e-5
        )  # Eq. 19, in float32


def test_similarity_with_and_without_the_stretch_by_hand():
    """Sums: .3 .3 .4 and .1 .2 .7 share .1 + .2 + .4. Stretched: 0 0 1 and 0 1/7 6/7 share 6/7."""
    p, g = jnp.array([[3.0, 3.0, 4.0]]), jnp.array([[10.0, 20.0, 70.0]])
    np.testing.assert_allclose(losses.sim(p, g, form="sums"), 0.7, rtol=1e-6)
    np.testing.assert_allclose(losses.sim(p, g), 6 / 7, rtol=1e-6)
    # By the quotient rule: the sum of the minima is (.1 + .2) + p_2 / sum p, so 6/100 and -4/100 per unit.
    gradient = jax.grad(lambda p: losses.sim(p, g, form="sums"))(p)
    np.testing.assert_allclose(gradient, [[-0.04, -0.04, 0.06]], rtol=1e-5)
    uniform = losses.sim(jnp.ones((1, 3)), g, form="sums")  # a constant map has a similarity here
    np.testing.assert_allclose(uniform, 0.1 + 0.2 + 1 / 3, rtol=1e-6)


def test_a_perfect_map_and_the_opposite_one():
    density = jnp.arange(35.0).reshape(1, 5, 7) / 35
    for form in losses.KL_FORMS:
        assert abs(losses.kl(density, density, form=form)[0]) < 1e-6
    np.testing.assert_allclose(losses.cc(density, density), [1.0], rtol=1e-6)
    np.testing.assert_allclose(losses.cc(1 - density, density), [-1.0], rtol=1e-6)
    np.testing.assert_allclose(losses.sim(density, density), [1.0], rtol=1e-6)


def degenerate_maps():
    rng = np.random.RandomState(3)
    logits, density = rng.normal(0, 1, (1, 5, 6)), rng.uniform(0, 1, (1, 5, 6))
    fixations = density > 0.7
    black, dead = np.zeros_like(density), np.where(logits > 0, -200.0, -85.0)
    yield "constant prediction", np.full_like(logits, 0.3), density, fixations
    yield "constant up to rounding", 0.3 + 1e-7 * logits, density, fixations
    yield "constant truth", logits, np.full_like(density, 0.2), fixations
    yield "black density", logits, black, fixations
    yield "nowhere looked", logits, density, black
    yield "filler clip", np.zeros_like(logits), black, black
    yield "prediction of zeros", np.full_like(logits, -200.0), density, fixations
    yield "prediction of ones", np.full_like(logits, 200.0), density, fixations
    yield "prediction near float32's smallest", dead, density, fixations
    yield "single pixel on", np.where(logits == logits.max(), 90.0, -90.0), density, fixations


@each_term
@pytest.mark.parametrize("case", list(degenerate_maps()), ids=lambda case: case[0])
def test_degenerate_maps_have_finite_values_and_gradients(term, case):
    _, *maps = case
    values, gradient = values_and_gradient(term, *maps)
    assert np.isfinite(values).all() and np.isfinite(gradient).all()
    if "constant" in case[0] and term.name in ("cc", "sim") and term.form != "sums":
        assert values == 0 and not gradient.any()
    if case[0] == "black density" and term.name in ("kl", "cc", "sim"):
        assert values == 0 and not gradient.any()
    if case[0] == "nowhere looked" and term.name == "nss":
        assert values == 0 and not gradient.any()


@pytest.mark.parametrize("function", [losses.kl, losses.cc, losses.sim, losses.nss])
def test_exact_zeros_beside_values_have_finite_gradients(function):
    saliency = jnp.zeros((1, 4, 5)).at[0, 1, 2].set(0.4)
    truth = jnp.zeros((1, 4, 5)).at[0, 3, 3].set(1.0)
    forms = [{"form": form} for form in losses.KL_FORMS] if function is losses.kl else [{}]
    if function is losses.sim:
        forms = [{"form": form} for form in losses.SIM_FORMS]
    for form in forms:
        value, gradient = jax.value_and_grad(lambda p: function(p, truth, **form)[0])(saliency)  # noqa: B023
        assert np.isfinite(value) and np.isfinite(gradient).all()


@each_term
def test_a_nan_is_not_hidden(term, maps):
    logits = maps[0].copy()
    logits[1, 2, 3] = np.nan
    values, _ = values_and_gradient(term, logits, *maps[1:])
    assert np.isnan(values[1]) and np.isfinite(values[[0, 2]]).all()


@each_term
def test_clips_do_not_see_each_other(term, maps):
    """So a mask over clips is all that a batch with filler clips needs."""
    values, gradient = values_and_gradient(term, *maps)
    padded = [np.concatenate([m, np.zeros_like(m[:2])]) for m in maps]
    mask = jnp.array([1.0, 1.0, 1.0, 0.0, 0.0])

    def masked_mean(logits):
        per_clip, _ = weighted(logits, *padded[1:], (term,))
        return (per_clip * mask).sum() / mask.sum()

    mean, padded_gradient = jax.value_and_grad(masked_mean)(padded[0])
    np.testing.assert_allclose(mean, values.mean(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(padded_gradient[:3], gradient / 3, rtol=1e-4, atol=1e-5 * abs(gradient).max())
    assert not np.any(padded_gradient[3:])


@each_term
def test_vmap_gives_the_same(term, maps):
    values, _ = values_and_gradient(term, *maps)
    mapped = jax.vmap(lambda *m: weighted(*m, (term,))[0])(*(jnp.asarray(m) for m in maps))
    np.testing.assert_allclose(mapped, values, rtol=1e-5, atol=1e-6)  # as in check_against_torch


@each_term
def test_bfloat16_logits_are_computed_in_float32(term, maps):
    logits = jnp.asarray(maps[0], jnp.bfloat16)
    total, scores = weighted(logits, *maps[1:], (term,))
    assert total.dtype == scores[term.name].dtype == jnp.float32
    np.testing.assert_array_equal(total, weighted(logits.astype(jnp.float32), *maps[1:], (term,))[0])


def test_weights_are_signed_and_scores_unweighted(maps):
    terms = (Term("kl"), Term("cc", -0.1), Term("sim", -0.1))
    total, scores = weighted(*maps[:2], None, terms)
    assert list(scores) == ["kl", "cc", "sim"]
    expected = scores["kl"] - 0.1 * scores["cc"] - 0.1 * scores["sim"]
    np.testing.assert_allclose(total, expected, rtol=1e-6)
    better = np.log(maps[1] + 1e-3)
    assert np.all(weighted(better, maps[1], None, terms)[0] < total)


def test_default_forms(maps):
    logits, density, _ = maps
    _, scores = weighted(logits, density, None, (Term("kl"), Term("bce")))
    np.testing.assert_array_equal(scores["kl"], losses.kl(jax.nn.sigmoid(logits), density, form="vinet"))
    np.testing.assert_array_equal(scores["bce"], losses.bce(logits, density, form="sum"))


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (lambda: Term("kll"), "unknown loss 'kll' (did you mean 'kl'?); there are kl, cc, sim, nss, bce"),
        (lambda: Term("kl", 0), "the weight of loss 'kl' must be a finite number other than 0"),
        (lambda: Term("kl", True), "number other than 0 (leave the loss out for none); got True"),
        (lambda: Term("cc", float("nan")), "got nan"),
        (
            lambda: Term("kl", 1.0, "casp"),
            "loss 'kl' has no form 'casp' (did you mean 'casp_net'?); its forms are vinet, casp_net, avrsp",
        ),
        (
            lambda: Term("sim", -0.1, "sum"),
            "loss 'sim' has no form 'sum' (did you mean 'sums'?); its forms are stre",
        ),
        (lambda: Term("cc", -0.1, "vinet"), "loss 'cc' has no form 'vinet'; it has no forms"),
        (lambda: losses.bce(jnp.zeros((1, 2, 2)), jnp.zeros((1, 2, 2)), form="max"), "has no form 'max'"),
        (lambda: losses.cc(jnp.zeros((1, 2, 2)), jnp.zeros((1, 2, 3))), "(1, 2, 2) and (1, 2, 3): resize"),
        (lambda: weighted(jnp.zeros((1, 2, 2)), jnp.zeros((1, 2, 2)), None, ()), "each name once; got []"),
        (
            lambda: weighted(jnp.zeros((1, 2, 2)), jnp.zeros((1, 2, 2)), None, (Term("kl"), Term("kl", 2.0))),
            "each name once; got ['kl', 'kl']",
        ),
        (
            lambda: weighted(jnp.zeros((1, 2, 2)), jnp.zeros((1, 2, 2)), None, (Term("nss", -0.1),)),
            "the loss 'nss' needs fixation maps and the data has none; leave the term out",
        ),
    ],
)
def test_mistakes_are_named(mistake, message):
    with pytest.raises(AvsalError) as error:
        mistake()
    assert message in str(error.value)
