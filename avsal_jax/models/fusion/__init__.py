"""Fusions: (pyramid, audio tokens) -> pyramid.

`__call__(pyramid, tokens, train)` keeps B, T, H, W of every level, and may change channels. `tokens` are
[B, S, C] as the audio encoder made them, or None where that slot is `none`: the audio-visual step is then
the identity. Each fusion records `fused`: what it made of picture and sound, as tokens [B, N, C].
"""
