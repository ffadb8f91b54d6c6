"""Devices, processes, threads and compiled programs: the layer below models and data.

`cluster` (process numbers from launchers), `parallel` (the mesh of devices), `watch` (heartbeats, stacks and
dead processes of a run), `threads` (overlapping stages), `compile_cache`.
"""
