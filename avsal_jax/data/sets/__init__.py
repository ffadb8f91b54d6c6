"""Sets of recorded gaze: their files on disk become stimuli with a table of fixations each."""
