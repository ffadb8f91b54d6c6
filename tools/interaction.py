"""Measures how time and memory of CASP-Net's audio-visual interaction grow with the visual tokens.

Each measurement needs its own process, because the peak of a process's memory never decreases:

  python tools/interaction.py linear 43008 gradient

prints a measurement as JSON. `tools/benchmark.py interaction` runs all of them. The forms `linear` and
`quadratic` have as many keys as visual tokens (CASP-Net, Xiong et al. 2023, figure 3). `stage` is the
complete module with one tiled sound token, its projections and the residual. `casp_net` and `avrsp` are a
forward pass of the complete network at full size, in float32, for one clip; they ignore the number of tokens.
"""

import json
import os
import statistics
import subprocess
import sys
import time

from measure import peak_mib

FORMS = ("linear", "quadratic", "stage")
PASSES = ("forward", "gradient")
SYSTEMS = ("casp_net", "avrsp")
TOKENS = (1344, 2688, 5376, 10752, 21504, 43008)  # stages 3, 2, 1 of 16 frames of 224x384, and between
CHANNELS = 256


def measure_interaction(repeats: int, tokens=TOKENS) -> dict:
    """Returns {"rows": [...]}: one row for each form, number of tokens, and forward or gradient."""
    cases = [(form, count, name) for form in FORMS for count in tokens for name in PASSES]
    cases += [(system, max(tokens), "forward") for system in SYSTEMS]
    # By default glibc keeps an unpredictable amount of freed memory, in blocks of up to 32 MiB.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "1000000"}
    rows = []
    for case in cases:
        command = [sys.executable, __file__, *map(str, case), str(repeats)]
        process = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        rows.append(json.loads(process.stdout))
    return {"rows": rows}


def table(rows: list[dict]) -> list[str]:
    """Returns the lines of a Markdown table."""
    lines = ["| form | tokens | forward s | MiB | with gradient s | MiB |", "|---|---|---|---|---|---|"]
    cells = {(row["form"], row["tokens"], row["pass"]): row for row in rows}
    for form, count in dict.fromkeys((row["form"], row["tokens"]) for row in rows):
        parts = []
        for name in PASSES:
            row = cells.get((form, count, name), {})
            measured = [f"{row['seconds']:.3f}", f"{row['peak_mib']:.0f}"] if "seconds" in row else ["", ""]
            parts += ["refused", ""] if "refused" in row else measured
        parameters = cells[form, count, "forward"].get("parameters")
        size = f"{parameters / 1e6:.1f} M parameters" if parameters else f"{count:,}"
        lines.append(f"| {form} | {size} | {' | '.join(parts)} |")
    base = statistics.median(row["base_mib"] for row in rows)
    return [*lines, f"\nMiB: peak resident memory of the process, {base:.0f} of them before the first array."]


def measure_one(form: str, tokens: int, pass_name: str, repeats: int) -> dict:
    """Returns the median seconds of a call and the peak resident memory of this process."""
    import jax
    import jax.numpy as jnp

    from avsal_jax.errors import AvsalError

    jax.block_until_ready(jnp.zeros(1))
    result = {"form": form, "tokens": tokens, "pass": pass_name, "base_mib": peak_mib()}
    if form in SYSTEMS:
        function, inputs = _network(form)
        result["parameters"] = sum(leaf.size for leaf in jax.tree.leaves(inputs[0]["params"]))
    else:
        function, inputs = _stage(tokens) if form == "stage" else _attention(form, tokens)
    if pass_name == "gradient":
        forward = function

        def function(*arrays):
            return jax.grad(lambda *a: (forward(*a) ** 2).mean(), tuple(range(len(arrays))))(*arrays)

    try:
        run = jax.jit(function).lower(*inputs).compile()
    except AvsalError as error:
        return result | {"refused": str(error)}
    jax.block_until_ready(run(*inputs))
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        jax.block_until_ready(run(*inputs))
        seconds.append(time.perf_counter() - started)
    return result | {"seconds": statistics.median(seconds), "peak_mib": peak_mib()}


def _attention(form, tokens):
    from avsal_jax.ops import audio_visual_attention as ava

    inputs = tuple(_wave(scale, 1, tokens, CHANNELS) for scale in (1.1, 1.3, 1.7))
    if form == "quadratic":
        return ava.quadratic_interaction, inputs
    return lambda q, k, v: ava.linear_interaction(q, k, v, normalizer="elements"), inputs


def _stage(tokens):
    from avsal_jax.models.fusion.casp_net import AudioVisualInteraction

    module = AudioVisualInteraction()
    picture, sound = _wave(1.1, 1, 1, tokens, 1, CHANNELS), _wave(1.3, 1, 1, 128)
    import jax

    variables = module.init(jax.random.key(0), picture[:, :, :8], sound)
    return lambda p, s, v: module.apply(v, p, s), (picture, sound, variables)


def _network(system):
    import jax
    import jax.numpy as jnp

    from avsal_jax import Clip, create_model
    from avsal_jax.models.network import SALIENCY, init_variables

    network, spec = create_model(system)
    clip = Clip(
        jnp.zeros((1, spec.frames, spec.height, spec.width, 3), "uint8"), _wave(1.1, 1, *spec.audio.shape)
    )
    # On the device already, so that no call copies the weights.
    variables = jax.device_put(init_variables(network, 0), may_alias=True)
    return lambda v, c: network.run(v, c).logits[SALIENCY], (variables, clip)


def _wave(scale, *shape):
    import jax.numpy as jnp

    count = 1
    for size in shape:
        count *= size
    return jnp.sin(jnp.arange(count, dtype=jnp.float32) * scale).reshape(shape)


if __name__ == "__main__":
    form, tokens, pass_name, *repeats = sys.argv[1:]
    print(json.dumps(measure_one(form, int(tokens), pass_name, int(*repeats or ["3"]))))
