"""Pictures and sound from files, without jax.

Video: `video` (files as frames) over `streams`, `orientation`, `color` and `containers`; `frame_reader`
(frames by number), `frame_times`, `fitting` (resizing for a network).
Pictures: `images`, `numbering` (files to frames), `image_videos` (folders and animations as frames),
`photographs` over `color_profiles`.
Sound: `audio` (a file as a waveform) over `sound_stream`, `sound_frames` and `sound_levels`; `clip_sound`
(the sound of a clip).
"""
