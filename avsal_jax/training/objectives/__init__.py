"""What a training step minimises, from which batches, as a table of contents: a module for each objective."""

from avsal_jax.contents import offered

_HOMES = {
    **dict.fromkeys(("ObjectiveConfig", "Objective", "Stream", "MadeStream", "Steps"), ".objective"),
    **dict.fromkeys(("StepInputs", "StepOutputs", "LABELLED", "clip_of", "masked_mean"), ".objective"),
    "joined_variables": ".objective",
    **dict.fromkeys(("Supervised", "SupervisedConfig"), ".supervised"),
    "adaptation": ".domain_adversarial",
}
__getattr__, __dir__, __all__ = offered(__name__, _HOMES)
