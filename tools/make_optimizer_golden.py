"""Writes tests/golden/optimizer.json: what torch's optimizers and schedulers do on a recorded sequence.

Run it in an environment with torch. It imports nothing of avsal_jax; `config` holds the fields that mean the
same there. The test uses `record` with another seed too.
"""

import json
import math
import pathlib

import numpy as np
import torch

SHAPES = {"visual_encoder/stem/kernel": (2, 3), "decoder/kernel": (3, 2), "decoder/bias": (4,)}
STEPS, RATE = 12, 0.01
GROUPS = [
    {"pattern": "visual_encoder/.*", "scale": 0.0},
    {"pattern": ".*/bias", "scale": 0.1, "weight_decay": 0.0},
    {"pattern": "decoder/.*", "scale": 0.5, "weight_decay": 0.2},
]
STEP = {"name": "step", "milestones": [1 / 2, 5 / 6], "gamma": 0.1}
COSINE = {"name": "cosine", "final_fraction": 0.05}
CASES = {
    "adam": {"name": "adam"},
    "adam, L2": {"name": "adam", "weight_decay": 0.1, "b1": 0.8, "b2": 0.95, "eps": 1e-3},
    "adam, groups": {"name": "adam", "weight_decay": 0.1, "groups": GROUPS},
    "adamw, groups": {"name": "adamw", "weight_decay": 0.1, "groups": GROUPS},
    "adamw, first group alone": {"name": "adamw", "weight_decay": 0.1, "groups": GROUPS[:1]},
    "sgd": {"name": "sgd"},
    "sgd, nesterov, L2, groups": {
        "name": "sgd",
        "momentum": 0.9,
        "nesterov": True,
        "weight_decay": 0.1,
        "groups": GROUPS,
    },
    "sgd, dampening": {"name": "sgd", "momentum": 0.9, "dampening": 0.9, "weight_decay": 0.01},
    "adam, clipped, frozen": {"name": "adam", "clip_norm": 1.5, "groups": GROUPS[:1], "weight_decay": 0.1},
    "sgd, clipped, accumulated": {
        "name": "sgd",
        "momentum": 0.9,
        "clip_norm": 1.0,
        "accumulate": 3,
        "groups": GROUPS[:1],
    },
    "sgd, step, accumulated": {"name": "sgd", "accumulate": 2, "schedule": STEP},
    "adamw, cosine": {"name": "adamw", "weight_decay": 0.1, "schedule": COSINE},
    "adam, step": {"name": "adam", "schedule": STEP},
}
PLATEAUS = [
    {},
    {"mode": "min", "factor": 0.5, "patience": 2, "threshold": 0.01},
    {"mode": "min", "factor": 0.5, "patience": 0, "threshold": 0.0, "cooldown": 3},
    {"mode": "max", "factor": 0.7, "patience": 2, "threshold": 0.1, "cooldown": 1, "min_scale": 0.05},
]


def torch_optimizer(config, params):
    config = dict(config)
    decay = config.get("weight_decay", 0.0)
    groups, grouped = [], set()
    for group in [*config.get("groups", []), {"pattern": ".*"}]:
        # The patterns here are plain enough to be matched without a regular expression.
        head, tail = group["pattern"].split(".*")
        names = [n for n in params if n.startswith(head) and n.endswith(tail) and n not in grouped]
        grouped.update(names)
        if group.get("scale", 1.0) and names:
            groups.append(
                {
                    "params": [params[name] for name in names],
                    "lr": RATE * group.get("scale", 1.0),
                    "weight_decay": group.get("weight_decay", decay),
                }
            )
    if config["name"] == "sgd":
        options = {key: config[key] for key in ("momentum", "dampening", "nesterov") if key in config}
        return torch.optim.SGD(groups, **options)
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config["name"]]
    betas = config.get("b1", 0.9), config.get("b2", 0.999)
    return kind(groups, betas=betas, eps=config.get("eps", 1e-8))


def torch_scheduler(optimizer, schedule, updates):
    if schedule["name"] == "step":
        milestones = [round(part * updates) for part in schedule["milestones"]]
        return torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, schedule["gamma"])
    smallest = schedule["final_fraction"] * RATE
    return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates, smallest)


def run(config, start, gradients):
    """Returns the parameters after each update."""
    params = {name: torch.nn.Parameter(torch.tensor(value).double()) for name, value in start.items()}
    optimizer = torch_optimizer(config, params)
    trained = [p for group in optimizer.param_groups for p in group["params"]]
    every = config.get("accumulate", 1)
    schedule = config.get("schedule")
    scheduler = schedule and torch_scheduler(optimizer, schedule, STEPS // every)
    after = []
    for first in range(0, STEPS, every):
        for name, param in params.items():
            total = sum(torch.tensor(step[name]).double() for step in gradients[first : first + every])
            param.grad = total / every
        if "clip_norm" in config:
            torch.nn.utils.clip_grad_norm_(trained, config["clip_norm"])
        optimizer.step()
        if scheduler:
            scheduler.step()
        after.append({name: param.detach().numpy().tolist() for name, param in params.items()})
    return after


def rates(schedule):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=RATE)
    scheduler, result = torch_scheduler(optimizer, schedule, STEPS), []
    for _ in range(STEPS + 1):
        result.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return result


def plateau_scales(config, values):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=RATE)
    fields = dict(config)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, min_lr=fields.pop("min_scale", 0.0) * RATE, eps=0.0, **fields
    )
    result = []
    for value in values:
        scheduler.step(math.nan if value is None else value)
        result.append(optimizer.param_groups[0]["lr"] / RATE)
    return result


def record(seed):
    rng = np.random.RandomState(seed)

    def draw(scale):
        return {n: (scale * rng.normal(size=s)).astype(np.float32).tolist() for n, s in SHAPES.items()}

    start, gradients = draw(1.0), [draw(rng.choice([0.1, 1.0, 5.0])) for _ in range(STEPS)]
    # Rises, falls, is constant, rises and falls again. None is a NaN, which an evaluation may return.
    turns = [*np.linspace(1, 3, 10), *np.linspace(3, 1, 8), *np.full(6, 1.0), *np.linspace(1, 1.3, 8)]
    watched = np.array([*turns, *np.linspace(0.9, 0.5, 12)])
    watched += 0.02 * rng.normal(size=watched.size)
    watched = [None, *watched.tolist(), None, *[0.6] * 15]
    return {
        "torch": torch.__version__,
        "learning_rate": RATE,
        "steps": STEPS,
        "params": start,
        "gradients": gradients,
        "updates": {name: {"config": c, "params": run(c, start, gradients)} for name, c in CASES.items()},
        "rates": [{"config": schedule, "rates": rates(schedule)} for schedule in (STEP, COSINE)],
        "watched": watched,
        "plateaus": [{"config": config, "scales": plateau_scales(config, watched)} for config in PLATEAUS],
    }


def main():
    path = pathlib.Path(__file__).parent.parent / "tests" / "golden" / "optimizer.json"
    path.write_text(json.dumps(record(0)) + "\n")


if __name__ == "__main__":
    main()
