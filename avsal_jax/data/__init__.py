"""Data sets: what a row of one says, how its files lie on disk, and what a video of it offers.

Open a set:       open_dataset, find_dataset
Register one:     DataSet, RawFixations, Generator
A new layout:     Packaging, ListedVideo, FileEntry, VideoEntry, numbered_files, Numbers
                  Truth, ArrayTruth, Fixations
                  Stavis, Dhf1k, Shots, Rearranged, RecordedGaze
Recorded gaze:    GazeSet, Stimulus, FixationTable
Prepared data:    clip_batches, numpy_batches, PreparedSources, Sampling
Files:            IMAGE_SUFFIXES, natural_order, visible_files, read_image, grey_png, tree_identity
"""

from __future__ import annotations

from avsal_jax.contents import offered

_HOMES = {
    "DataSet": ".sets.dataset",
    "Packaging": ".sets.dataset",
    "Generator": ".sets.dataset",
    "find_dataset": ".sets.dataset",
    "open_dataset": ".sets.datasets",
    "Stavis": ".sets.packagings.stavis",
    "Dhf1k": ".sets.packagings.split_folders",
    "Rearranged": ".sets.packagings.split_folders",
    "Shots": ".sets.packagings.split_folders",
    "RecordedGaze": ".sets.packagings.recorded_gaze",
    "VideoEntry": ".sets.entries",
    "FileEntry": ".sets.entries",
    "ListedVideo": ".sets.video_lists",
    "Truth": ".truth.frame_truth",
    "ArrayTruth": ".truth.frame_truth",
    "Fixations": ".truth.fixation_maps",
    "NumberedFiles": ".truth.truth_files",
    "numbered_files": ".truth.truth_files",
    "Numbers": "avsal_jax.media.numbering",
    "RawFixations": ".sets.raw_fixations",
    "Observer": ".sets.raw_fixations",
    "GazeSet": ".gaze.stimuli",
    "Stimulus": ".gaze.stimuli",
    "FixationTable": ".gaze.fixation_table",
    "clip_batches": ".prepared.pipeline",
    "numpy_batches": ".prepared.pipeline",
    "PreparedSources": ".prepared.selection",
    "Sampling": ".prepared.sampling",
    "IMAGE_SUFFIXES": "avsal_jax.media.images",
    "natural_order": "avsal_jax.media.images",
    "visible_files": "avsal_jax.media.images",
    "read_image": "avsal_jax.media.images",
    "grey_png": ".truth.grey_maps",
    "tree_identity": "avsal_jax.identity",
}
__getattr__, __dir__, __all__ = offered(__name__, _HOMES)
