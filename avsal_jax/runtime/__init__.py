"""What runs beneath models and data: devices, processes, threads, compiled programs.

`cluster` (which process of how many), `parallel` (the mesh of devices), `watch` (heartbeat and stacks of a
run), `threads` (overlapping stages), `compile_cache`.
"""
