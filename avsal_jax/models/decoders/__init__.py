"""Decoders: pyramid -> saliency logits."""
