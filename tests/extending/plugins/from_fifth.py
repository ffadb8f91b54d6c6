"""A protocol of your own: maps as the model makes them, from the fifth frame on, frames with the same weight.

    avsal evaluate --plugin from_fifth.py --protocol from_fifth --dataset diem --root R --model DIR --output O

`avsal_jax.evaluation.Protocol` says what each field does.
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
        negatives="video",
        average="frames",
        source="our paper, section 4.2",
    )
)
