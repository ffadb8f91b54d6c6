"""The truth of frames: densities and fixations, from the files of a data set.

`frame_truth` (the truth of a frame, read once) over `truth_files`; `grey_maps` (the only reader of
densities and predictions), `fixation_maps`, `mat_files`.
"""
