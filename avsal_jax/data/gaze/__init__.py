"""Recorded gaze: files on disk become stimuli with a table of fixations each.

`gaze_sets` (all sets), `stimuli` and `fixation_table` (what a set gives), `gaze_entries` (as videos of a
data set), `hevc_gaze`, `photograph_sets`, `recordings` (your own files).
"""
