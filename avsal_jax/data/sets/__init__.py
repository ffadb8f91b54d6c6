"""Data sets on disk: rows and packagings, opening a set, the videos of a set.

`dataset` (rows and packagings), `public_sets` (the rows), `packagings` (one class per layout), `datasets`
(opens a set), `entries` (a video of a set), `file_entries`, `video_lists`, `raw_fixations` (eye tracker
files of a set).
"""
