"""A protocol of your own: maps as the model makes them, from the fifth frame on, frames with the same weight.

avsal evaluate --plugin protocol.py --dataset diem --root DATA --model DIR --protocol from_fifth --output O
"""

from avsal_jax import register
from avsal_jax.evaluation import Protocol

AVSAL_API = "1.0"

register("protocol", "from_fifth")(
    Protocol(
        about="maps at the model's size from the fifth frame on; mean of all frames of the set",
        postprocess="none",
        at_frame_size=False,
        smooth=False,
        first_frame=5,
        others="video",
        average="frames",
        source="tests/extending/plugins/protocol.py",
    )
)
