"""What a network takes, without jax, as a table of contents.

A clip:   InputSpec, Pixels, SIGNED, MEAN_127
Sound:    FrontEnd, Silence, Waveform, LogMel
Fields:   Range, Positive, Natural, Share, Decay, NotNegative, Registered, check_fields
"""

from avsal_jax.contents import offered

_HOMES = {
    **dict.fromkeys(("InputSpec", "Pixels", "SIGNED", "MEAN_127"), ".input"),
    **dict.fromkeys(("FrontEnd", "Silence", "Waveform", "LogMel"), ".front_ends"),
    **dict.fromkeys(("Range", "Positive", "Natural", "Share", "Decay", "NotNegative"), ".fields"),
    **dict.fromkeys(("Registered", "check_fields"), ".fields"),
}
__getattr__, __dir__, __all__ = offered(__name__, _HOMES)
