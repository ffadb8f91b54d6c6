"""Training: configs, objectives, the step, the loop, checkpoints, reports."""
