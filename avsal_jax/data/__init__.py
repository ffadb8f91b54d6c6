"""Data sets: what a row of one says, how its files lie on disk, and what a video of it offers.

Open a set:       open_dataset, find_dataset
Register one:     DataSet, RawFixations, Generator
A new layout:     Packaging, ListedVideo, FileEntry, VideoEntry, numbered_files, Numbers
                  Truth, ArrayTruth, Fixations
                  Stavis, Dhf1k, Shots, Rearranged, RecordedGaze
Recorded gaze:    GazeSet, Stimulus, FixationTable
Files:            IMAGE_SUFFIXES, natural_order, visible_files, read_image, grey_png, tree_identity
"""

from __future__ import annotations

from avsal_jax.contents import offered

_HOMES = {
    "DataSet": ".dataset",
    "Packaging": ".dataset",
    "Generator": ".dataset",
    "find_dataset": ".dataset",
    "open_dataset": ".datasets",
    "Stavis": ".packagings.stavis",
    "Dhf1k": ".packagings.split_folders",
    "Rearranged": ".packagings.split_folders",
    "Shots": ".packagings.split_folders",
    "RecordedGaze": ".packagings.recorded_gaze",
    "VideoEntry": ".schema",
    "FileEntry": ".schema",
    "ListedVideo": ".video_lists",
    "Truth": ".truth",
    "ArrayTruth": ".truth",
    "Fixations": ".fixation_maps",
    "NumberedFiles": ".truth_files",
    "numbered_files": ".truth_files",
    "Numbers": ".numbering",
    "RawFixations": ".raw_fixations",
    "Observer": ".raw_fixations",
    "GazeSet": ".sets.stimuli",
    "Stimulus": ".sets.stimuli",
    "FixationTable": ".sets.fixation_table",
    "IMAGE_SUFFIXES": ".images",
    "natural_order": ".images",
    "visible_files": ".images",
    "read_image": ".images",
    "grey_png": ".grey_maps",
    "tree_identity": "avsal_jax.identity",
}
__getattr__, __dir__, __all__ = offered(__name__, _HOMES)
