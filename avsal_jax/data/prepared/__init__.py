"""Prepared data: written by `avsal prepare`, read by training.

`prepare` (a set) over `prepare_video` and `shards` (array_record and TFDS); `videos` (reads prepared
videos), `selection` (which videos) over `source_words`, `sampling` (the clip of each row), `pipeline`
(tf.data), `feature_cache`.
"""
