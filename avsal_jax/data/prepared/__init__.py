"""Prepared data: written by `avsal prepare`, read by training.

`prepare` (a set) over `prepare_video` and `shards` (array_record and TFDS); `videos` (reads prepared
videos), `selection` (which videos) over `source_words`, `sampling` (the clip of each row), `pipeline`
(tf.data), `feature_cache`.
"""

import os

# Otherwise TensorFlow prints startup messages, and the whole traceback of a reader's error, which
# `numpy_batches` reports in one line. It must be set before TensorFlow is imported. (jax sets 1.)
os.environ["TF_CPP_MIN_LOG_LEVEL"] = max("2", os.environ.get("TF_CPP_MIN_LOG_LEVEL", "2"))
