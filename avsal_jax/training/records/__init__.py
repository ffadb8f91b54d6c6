"""The files and log lines of a run, apart from its checkpoints.

`run_log` (all records of a run) over `metrics_log`, `event_files`, `progress` (speed), `reporting` (curves
and the report page), `overview` (parameters) and `notes` (descriptions of a run).
"""
