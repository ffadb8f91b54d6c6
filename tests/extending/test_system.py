"""A system: it is a name for parts and a clip, and changes apply to it."""

from avsal_jax import create_model


def test_the_system_is_built_by_its_name_with_changes(plugin):
    plugin("quick_vinet")
    network, spec = create_model("quick_vinet", **{"heads.saliency.width": 0.5})
    assert (spec.frames, spec.height, spec.width) == (8, 64, 96)
    assert (network.visual_encoder.width, network.fusion) == (1 / 16, None)
    assert type(network.heads["saliency"]).__name__ == "AVRSPDecoder"
