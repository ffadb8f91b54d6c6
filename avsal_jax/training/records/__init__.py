"""What a run writes in addition to its checkpoints.

`run_log` (all records of a run) over `metrics_log`, `event_files`, `progress` (speed), `reporting` (curves
and the report page), `overview` (parameters) and `notes` (what a run says of itself).
"""
