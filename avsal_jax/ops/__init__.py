"""Pure functions on arrays: no Flax, no state.

Shapes are channels-last. Letters: B batch, T frames, H height, W width, C channels.
"""
