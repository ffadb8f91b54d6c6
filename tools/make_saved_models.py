"""Writes small model directories as this version stores them, with what each network gives.

  python tools/make_saved_models.py --output tests/saved_models/format2

They are part of the tests: every later version must read them and give the same (tests/test_saved_models.py).
Run it once for each new format and commit the folder. Never write a folder of an earlier format again.
"""

import argparse
import json
import pathlib

import numpy as np

from avsal_jax import __version__
from avsal_jax.models.network import abstract_variables
from avsal_jax.models.systems import build, resolve
from avsal_jax.storage import StoredModel, write_model
from avsal_jax.testing.saved_models import EXPECTED, outputs_of, probes, random_values

THIN = {"height": 64, "width": 96, "visual_encoder.width": 1 / 32}
SYSTEM = {**THIN, "heads.saliency.width": 1 / 32}
HEARING = {**SYSTEM, "audio_encoder.width": 1 / 32}
SHORT = {**HEARING, "frames": 16, "audio.samples": 35_280}
CASP = {**HEARING, "neck.width": 1 / 64}
AVRSP = {**SHORT, "neck.width": 1 / 64, "fusion.width": 1 / 32, "fusion.blocks": 1}
VARIANT = {"heads.saliency": {"hierarchy": 2, "join": "channels", "upsample": "transposed"}}
STAGES = {"fusion.stages": (3, 4), "fusion.coding": None, "neck.rates": (2, 4, 6), "heads.saliency": "unet"}
GATES = {"fusion": "mbt", "fusion.blocks": 2, "regulator.gates": 2}
OPTIONS = {"fusion.coding": {"iterations": 1, "target": "pooled", "order": "simultaneous"}}
REGULATOR = {"regulator": {"gates": 1, "order": "average_sigmoid", "returns": "gated"}}
VISUAL = {"audio_encoder": None, "fusion": None, "regulator": None}
LITE = {"visual_encoder.width": 1 / 16, "visual_encoder.frozen": 2, "height": 32, "width": 64}
GAZE = {**LITE, "frames": 4, "heads.saliency": {"channels": 4, "hidden": 4, "motion": 3, "lags": (1, 2)}}
# name -> (system or part, settings): every form that a part's fields take in `model.json`.
MODELS = {
    "vinet": ("vinet", SYSTEM),
    "vinet_variant": ("vinet", {**SYSTEM, "frames": 16, **VARIANT}),
    "avinet_bilinear": ("avinet", HEARING),
    "avinet_concatenation": ("avinet", {**SHORT, "fusion": "concatenation"}),
    "avinet_transformer": ("avinet", {**SHORT, "fusion": "transformer", "fusion.width": 1 / 32}),
    "dual_domain": ("dual_domain", {**SHORT, "fusion.width": 1 / 32}),
    "casp_net": ("casp_net", {**CASP, "heads.saliency.dense_layers": 1}),
    "casp_net_stages": ("casp_net", {**CASP, **STAGES}),
    "casp_net_coding": ("casp_net", {**CASP, "heads.saliency.dense_layers": 1, **OPTIONS}),
    "avrsp": ("avrsp", AVRSP),
    "avrsp_regulator": ("avrsp", {**AVRSP, **REGULATOR}),
    "avrsp_mbt_gates": ("avrsp", {**AVRSP, **GATES}),
    "avrsp_visual": ("avrsp", {**SYSTEM, "frames": 16, "neck.width": 1 / 64, **VISUAL}),
    "s3d": ("s3d", {**THIN, "frames": 16, "visual_encoder.classes": 10}),
    "efficientnet_lite0": ("efficientnet_lite0", {**LITE, "visual_encoder.classes": 10}),
    "efficientnet_lite1": ("efficientnet_lite1", LITE),
    "efficientnet_lite2": ("efficientnet_lite2", LITE),
    "gaze": ("gaze", GAZE),
    "soundnet": ("soundnet", {"audio_encoder.width": 1 / 32}),
    "vggish": ("vggish", {"audio_encoder.width": 1 / 32}),
}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=pathlib.Path, required=True)
    parser.add_argument("--only", nargs="*", choices=tuple(MODELS), default=tuple(MODELS), help="models")
    args = parser.parse_args()
    for name in args.only:
        system, settings = MODELS[name]
        preset = resolve(system, settings)
        network = build(preset)
        variables = random_values(abstract_variables(network))
        provenance = {"by": f"avsal_jax {__version__}", "made by": "tools/make_saved_models.py"}
        folder = write_model(args.output / name, preset, variables, provenance)
        outputs = outputs_of(StoredModel(preset, network, variables, {}))
        assert all(np.isfinite(values).all() and values.std() > 0 for values in outputs.values()), name
        content = {key: probes(values) for key, values in outputs.items()}
        (folder / EXPECTED).write_text(json.dumps(content) + "\n")
        print(f"{name}: {sum(file.stat().st_size for file in folder.iterdir()) / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
