"""A frozen encoder's features are computed once; training on them equals training on frames."""

import concurrent.futures
import gc
import sys

import numpy as np
import pytest

from avsal_jax.cli.main import main
from avsal_jax.data.prepared.feature_cache import FeatureCache
from avsal_jax.data.prepared.selection import PreparedSources
from avsal_jax.errors import AvsalError
from avsal_jax.storage import flatten, read_model
from tests.evaluation.test_own_recordings import write_fixations, write_stimuli

SIZE = "64x96"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recording")
    write_stimuli(folder / "mine")
    write_fixations(folder / "mine")
    command = ["prepare", "--dataset", "gaze:mine", "--root", str(folder / "mine"), "--size", SIZE]
    assert main([*command, "--output", str(folder / "prepared")]) == 0
    return folder / "prepared"


def train(prepared, workdir, *flags):
    values = {
        "data.root": prepared,
        "data.sources": "(('gaze:mine',None),)",
        "data.validation": "holdout",
        "data.holdout": ".4",
        "model.frames": 2,
        "model.visual_encoder": "{'name': 'efficientnet_lite0', 'width': .25, 'frozen': 8}",
        "model.heads.saliency": "small",
        "steps": 3,
    }
    settings = [f"--config.{key}={value}" for key, value in values.items()]
    return main(["train", "--config", "vinet_synthetic:smoke", "--workdir", str(workdir), *settings, *flags])


def parameters(workdir):
    return flatten(read_model(workdir / "model").variables)


def cached_files(prepared):
    return sorted(prepared.glob("gaze-mine/features/*/*.npy"))


@pytest.mark.slow
def test_training_on_cached_features_equals_training_on_frames(prepared, tmp_path, capsys):
    assert train(prepared, tmp_path / "frames") == 0
    assert train(prepared, tmp_path / "cached", "--config.data.cached_features=True") == 0
    assert "caching features of 3 of 3 videos: 52 frames" in capsys.readouterr().err
    frames, cached = parameters(tmp_path / "frames"), parameters(tmp_path / "cached")
    assert frames.keys() == cached.keys()
    for name, value in frames.items():
        if "visual_encoder" in name:
            np.testing.assert_array_equal(value, cached[name], err_msg=name)
        else:  # float16 has 11 bits: 5e-4 of each feature, and Adam's steps of 1e-3 follow their signs
            np.testing.assert_allclose(value, cached[name], rtol=0, atol=2e-2, err_msg=name)
    assert (tmp_path / "cached" / "pictures").is_dir()

    files = sorted(prepared.glob("gaze-mine/features/*/*.npy"))
    files[0].unlink()  # only its video is computed a second time
    assert train(prepared, tmp_path / "again", "--config.data.cached_features=True") == 0
    assert "caching features of 1 of 3 videos" in capsys.readouterr().err
    assert sorted(prepared.glob("gaze-mine/features/*/*.npy")) == files
    resumed = parameters(tmp_path / "again")
    for name, value in cached.items():
        np.testing.assert_array_equal(value, resumed[name], err_msg=name)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--config.data.sampling.flip=True"], "not mirrored"),
        (["--config.model.visual_encoder.frozen=7"], "is frozen, such as"),
        (["--config.model.visual_encoder=small"], "works on single frames and is frozen"),
    ],
)
def test_what_a_cache_cannot_have_is_refused(prepared, tmp_path, capsys, flags, words):
    assert train(prepared, tmp_path, "--config.data.cached_features=True", *flags) == 2
    assert words in capsys.readouterr().err


def test_a_cache_gives_back_what_was_written(prepared, tmp_path):
    """Frames in any order and repeated; a file that is cut off, or of other sizes, is an error."""
    videos = PreparedSources(prepared).videos([("gaze:mine", None)], "train")
    video = max(videos, key=lambda entry: entry.frames)
    rng = np.random.default_rng(0)
    levels = [rng.normal(size=(video.frames, 4, 6, 2)).astype(np.float16) for _ in range(2)]
    cache = FeatureCache("test", [(4, 6, 2)] * 2)
    assert not cache.has(video)
    with pytest.raises(AvsalError, match="cannot be read"):
        cache.read(video, [0])
    cache.write(video, ([level[i : i + 8] for level in levels] for i in range(0, video.frames, 8)))
    assert cache.has(video)
    frames = [3, 0, 0, video.frames - 1]
    for level, features in zip(levels, cache.read(video, frames), strict=True):
        np.testing.assert_array_equal(features, level[frames])
    with pytest.raises(AvsalError, match="holds float16"):
        FeatureCache("test", [(4, 6, 3)] * 2).read(video, [0])
    infinite = [level * np.float16(np.inf) for level in levels]
    for batch, words in ((levels, "frames, but features of"), (infinite, "float16")):
        shortened = [[level[:-1] for level in batch]]
        with pytest.raises(AvsalError, match=words):
            FeatureCache("other", [(4, 6, 2)] * 2).write(video, shortened)
    path = next((prepared / "gaze-mine" / "features" / "test").glob("*-0.npy"))
    path.write_bytes(path.read_bytes()[:200])
    assert not cache.has(video)


class _Cycle:
    """Garbage whose collection runs Python code, as that of jax's arrays does."""

    def __init__(self):
        self.me = self

    def __del__(self):
        sum(range(50))


def test_threads_read_a_cache_at_the_same_time(prepared):
    """In CPython 3.11 two threads that parse the headers of files failed after some thousand reads."""
    (video,) = PreparedSources(prepared).videos([("gaze:mine", None)], "train")[:1]
    cache = FeatureCache("threads", [(2, 3, 4)])
    cache.write(video, [[np.zeros((video.frames, 2, 3, 4))]])

    def read(_):
        for _ in range(500):
            _Cycle()
            cache.read(video, [0])

    interval, threshold = sys.getswitchinterval(), gc.get_threshold()
    sys.setswitchinterval(1e-6)
    gc.set_threshold(7)
    try:
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(read, range(8)))
    finally:
        sys.setswitchinterval(interval)
        gc.set_threshold(*threshold)
