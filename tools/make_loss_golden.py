"""Writes tests/golden/losses.json: losses and their gradients by torch in float64, from the papers' formulas.

Run it in an environment with torch. It imports nothing of avsal_jax. The formulas are those of
samyak0210/ViNet @164beb7 loss.py (kl, cc, sim, nss), CASP-Net Eq. 8 and AVRSP Eq. 16 (kl), and
atsiami/STAViS @71fd51f models/sal_losses.py (bce). The test uses `scores` on other maps too.
"""

import json
import pathlib

import numpy as np
import torch

EPS = 2.2204e-16
AVRSP_EPS = 1e-7  # as networks are trained, in float32


def pixels(maps):
    return maps.reshape(len(maps), -1)


def kl(logits, density, fixations, form):
    p, g = pixels(torch.sigmoid(logits)), pixels(density)
    p, g = p / p.sum(1, keepdim=True), g / g.sum(1, keepdim=True)
    if form == "vinet":
        return (g * torch.log(EPS + g / (p + EPS))).sum(1)
    if form == "avrsp":
        return (g * torch.log((AVRSP_EPS + g) / (AVRSP_EPS + p))).sum(1)
    return (torch.xlogy(g, g) - g * torch.log(p)).sum(1)


def cc(logits, density, fixations, form):
    p, g = pixels(torch.sigmoid(logits)), pixels(density)
    p = (p - p.mean(1, keepdim=True)) / p.std(1, keepdim=True)
    g = (g - g.mean(1, keepdim=True)) / g.std(1, keepdim=True)
    return (p * g).sum(1) / torch.sqrt((p * p).sum(1) * (g * g).sum(1))


def sim(logits, density, fixations, form):
    ready = []
    for maps in (pixels(torch.sigmoid(logits)), pixels(density)):
        low, high = maps.min(1, keepdim=True)[0], maps.max(1, keepdim=True)[0]
        stretched = (maps - low) / (high - low)
        ready.append(stretched / stretched.sum(1, keepdim=True))
    return torch.min(*ready).sum(1)


def nss(logits, density, fixations, form):
    p, f = pixels(torch.sigmoid(logits)), pixels(fixations)
    p = (p - p.mean(1, keepdim=True)) / (p.std(1, keepdim=True) + EPS)
    return (p * f).sum(1) / f.sum(1)


def bce(logits, density, fixations, form):
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(logits, density, reduction="none")
    return pixels(entropy).sum(1) if form == "sum" else pixels(entropy).mean(1)


CASES = [
    (kl, "vinet"),
    (kl, "casp_net"),
    (kl, "avrsp"),
    (cc, ""),
    (sim, ""),
    (nss, ""),
    (bce, "sum"),
    (bce, "mean"),
]


def make_maps(seed, batch, height, width):
    """Float32 logits with saturated pixels, a density with black pixels in [0, 1], counts of fixations."""
    rng = np.random.RandomState(seed)
    logits = rng.normal(0, 3, (batch, height, width))
    logits[:, 0, : width // 2] -= 33  # sigmoids below eps, where the printed forms of KL differ
    density = np.clip(rng.normal(0, 1, (batch, height, width)), 0, None)
    density[:, 0] = rng.uniform(0.1, 0.5, (batch, width))
    density /= density.max()
    fixations = rng.binomial(2, 0.15, (batch, height, width))
    return [maps.astype(np.float32) for maps in (logits, density, fixations)]


def scores(logits, density, fixations):
    """Yields name, form, scores [B], and d (sum of scores) / d logits [B, H, W], float64."""
    for function, form in CASES:
        tensors = [torch.tensor(maps, dtype=torch.float64) for maps in (logits, density, fixations)]
        tensors[0].requires_grad_()
        values = function(*tensors, form)
        values.sum().backward()
        yield function.__name__, form, values.detach().numpy(), tensors[0].grad.numpy()


def main():
    maps = make_maps(0, 3, 7, 6)
    golden = {"torch": torch.__version__}
    golden |= dict(zip(("logits", "density", "fixations"), (m.tolist() for m in maps), strict=True))
    golden["cases"] = [
        {"name": name, "form": form, "values": values.tolist(), "gradient": gradient.tolist()}
        for name, form, values, gradient in scores(*maps)
    ]
    path = pathlib.Path(__file__).parent.parent / "tests" / "golden" / "losses.json"
    path.write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    main()
