r"""A system: ViNet of eight frames, with a narrow encoder and AVRSP's decoder.

    avsal train --plugin quick_vinet.py --config vinet_dhf1k --workdir runs/quick \
        --config.model.system=quick_vinet
"""

from avsal_jax import InputSpec, register
from avsal_jax.models import System

AVSAL_API = "1.0"

register("system", "quick_vinet")(
    System(
        "ViNet of eight frames and a sixteenth of its width, with AVRSP's decoder",
        {
            "visual_encoder": {"name": "s3d", "width": 1 / 16},
            "heads": {"saliency": {"name": "avrsp", "width": 1 / 16}},
        },
        InputSpec(8, 64, 96),
    )
)
