"""Layers in plain NumPy, element by element in float64: what the modules' equations are tested against."""

import itertools

import jax
import numpy as np


def random_variables(module, *inputs, seed=0):
    """Returns params and batch_stats of `module` in float64, no leaf neutral."""
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), *inputs))
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        if path[-1].key in ("var", "scale"):  # negative scales could leave every ReLU silent
            return rng.uniform(0.5, 2, leaf.shape)
        return rng.standard_normal(leaf.shape) * (1 if leaf.ndim == 1 else np.prod(leaf.shape[:-1]) ** -0.5)

    variables = jax.tree_util.tree_map_with_path(draw, shapes)
    return {name: variables[name] for name in ("params", "batch_stats") if name in variables}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    total = sum(np.exp(value) for value in x)
    return np.array([np.exp(value) / total for value in x])


def affine(p, x):
    """x [..., I] -> [..., O] with the weights and the bias of a `Linear`."""
    weights = p["kernel"] if "kernel" in p else p["projection"]
    y = np.zeros((*x.shape[:-1], weights.shape[1]))
    for place in np.ndindex(y.shape):
        y[place] = p["bias"][place[-1]] if "bias" in p else 0
        for i in range(weights.shape[0]):
            y[place] += x[(*place[:-1], i)] * weights[i, place[-1]]
    return y


def layer_norm(p, x, epsilon):
    y = np.zeros_like(x)
    for place in np.ndindex(x.shape[:-1]):
        mean = sum(x[place]) / x.shape[-1]
        variance = sum((value - mean) ** 2 for value in x[place]) / x.shape[-1]
        for c in range(x.shape[-1]):
            y[(*place, c)] = (x[(*place, c)] - mean) / np.sqrt(variance + epsilon) * p["scale"][c] + p[
                "bias"
            ][c]
    return y


def conv3d(p, x):
    """x [B, T, H, W, I] with an odd kernel, padded so that the size is kept."""
    kernel = p.get("kernel", p.get("zero_kernel"))
    y = np.zeros((*x.shape[:-1], kernel.shape[-1]))
    taps = [(i, j, k) for i, j, k in np.ndindex(kernel.shape[:3])]
    for b, t, h, w in np.ndindex(y.shape[:-1]):
        for i, j, k in taps:
            at = [p + d - n // 2 for p, d, n in zip((t, h, w), (i, j, k), kernel.shape[:3], strict=True)]
            if all(0 <= a < n for a, n in zip(at, x.shape[1:4], strict=True)):
                y[b, t, h, w] += x[(b, *at)] @ kernel[i, j, k]
        y[b, t, h, w] += p.get("bias", 0)
    return y


def conv_norm(p, stats, x):
    """Convolution, batch norm by running statistics with S3D's epsilon, ReLU."""
    y, p, stats = conv3d(p["conv"], x), p["norm"]["batch"], stats["norm"]["batch"]
    for place in np.ndindex(y.shape):
        c = place[-1]
        normal = (y[place] - stats["mean"][c]) / np.sqrt(stats["var"][c] + 1e-3)
        y[place] = max(0, normal * p["scale"][c] + p["bias"][c])
    return y


def trilinear(x, size):
    """x [B, T, H, W, C] resized over T, H, W: half-pixel centres, borders repeated."""
    y = np.zeros((x.shape[0], *size, x.shape[-1]))
    for b, *place in np.ndindex(y.shape[:-1]):
        corners = []
        for at, old, new in zip(place, x.shape[1:4], size, strict=True):
            centre = min(max((at + 0.5) * old / new - 0.5, 0), old - 1)
            low = int(np.floor(centre))
            share = centre - low
            corners.append([(low, 1 - share), (min(low + 1, old - 1), share)])
        for (i, wi), (j, wj), (k, wk) in itertools.product(*corners):
            y[(b, *place)] += wi * wj * wk * x[b, i, j, k]
    return y
