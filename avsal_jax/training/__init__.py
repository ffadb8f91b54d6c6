"""Training: configs, objectives, the step, the loop, checkpoints, reports; a table of contents for plugins.

An objective:  ObjectiveConfig, Objective, Supervised, SupervisedConfig, Stream, MadeStream, Steps,
               StepInputs, StepOutputs, LABELLED, clip_of, masked_mean
In a config:   adaptation
An optimizer:  Optimizer
A schedule:    Schedule, PlateauState
"""

from avsal_jax.contents import offered

_HOMES = {
    **dict.fromkeys(("ObjectiveConfig", "Objective", "Stream", "MadeStream", "Steps"), ".objectives"),
    **dict.fromkeys(("StepInputs", "StepOutputs", "LABELLED", "clip_of", "masked_mean"), ".objectives"),
    **dict.fromkeys(("Supervised", "SupervisedConfig"), ".objectives"),
    "adaptation": ".objectives",
    "Optimizer": ".optimizers",
    **dict.fromkeys(("Schedule", "PlateauState"), ".schedules"),
}
__getattr__, __dir__, __all__ = offered(__name__, _HOMES)
