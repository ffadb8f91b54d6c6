"""The order of the stream: a pure function of (seed, row), however it is cut."""

import collections
import subprocess
import sys
import types

import numpy as np
import pytest

from avsal_jax import AvsalError, InputSpec, Waveform
from avsal_jax.data.prepared.prepare import prepare
from avsal_jax.data.prepared.sampling import ClipChoice, Sampler, Sampling
from avsal_jax.data.prepared.selection import PreparedSources
from avsal_jax.testing import fake_data

SPEC = InputSpec(frames=8, height=32, width=64, audio=Waveform(35_280))
NAMES = tuple(f"v{i}" for i in range(5))  # a batch of 4 or 6 does not divide them


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    root = tmp_path_factory.mktemp("order")
    videos = [fake_data.fake_video(name, 12 + 3 * i, seed=i) for i, name in enumerate(NAMES)]
    fake_data.write_stavis(root / "root", "DIEM", videos, {"train": NAMES, "test": NAMES[:1]})
    prepare("diem", root / "root", root / "prepared", (32, 64))
    return root / "prepared"


@pytest.fixture(scope="module")
def videos(prepared):
    return PreparedSources(prepared).videos([("diem", 1)], "train")


def stream(videos, batch, steps, **options):
    from avsal_jax.data.prepared.pipeline import clip_batches

    return list(clip_batches(videos, SPEC, batch, steps=steps, **options).as_numpy_iterator())


def by_row(batches):
    return {int(b["row"][i]): {k: v[i] for k, v in b.items()} for b in batches for i in range(len(b["row"]))}


def assert_same(actual, expected):
    assert sorted(actual) == sorted(expected)
    for row, clip in actual.items():
        for key, value in clip.items():
            np.testing.assert_array_equal(value, expected[row][key], err_msg=f"{key} of row {row}")


def test_two_runs_a_resumed_one_and_several_processes_give_the_same_clips(videos):
    reference = by_row(stream(videos, 6, 5))
    assert sorted(reference) == list(range(30))  # six epochs of five videos
    assert_same(by_row(stream(videos, 6, 5)), reference)
    for step in range(1, 5):
        resumed = by_row(stream(videos, 6, 5 - step, first_step=step))
        assert_same(resumed, {row: clip for row, clip in reference.items() if row >= 6 * step})
    for count in (2, 3):
        parts = [stream(videos, 6, 5, shard=(i, count)) for i in range(count)]
        assert all(len(b["row"]) == 6 // count for part in parts for b in part)
        assert_same({k: v for part in parts for k, v in by_row(part).items()}, reference)


def test_another_process_draws_the_same(prepared, videos):
    code = (
        "import sys; from avsal_jax.data.prepared.selection import PreparedSources\n"
        "from tests.data.test_sampling import *\n"
        f"videos = PreparedSources({str(prepared)!r}).videos([('diem', 1)], 'train')\n"
        "sampler = Sampler(videos, SPEC, Sampling(), 7)\n"
        "print([(c.video, c.frames) for c in map(sampler.clip, range(40))])"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    sampler = Sampler(videos, SPEC, Sampling(), 7)
    assert process.stdout.strip() == str([(c.video, c.frames) for c in map(sampler.clip, range(40))])


def test_every_epoch_is_a_permutation_with_new_clips(videos):
    sampler = Sampler(videos, SPEC, Sampling(), 0)
    epochs = [[sampler.clip(5 * e + i) for i in range(5)] for e in range(200)]
    assert all(sorted(c.video for c in epoch) == [0, 1, 2, 3, 4] for epoch in epochs)
    assert len({tuple(c.video for c in epoch) for epoch in epochs}) > 60  # of 120 orders
    for video, entry in enumerate(videos):
        starts = collections.Counter(c.frames[0] for epoch in epochs for c in epoch if c.video == video)
        assert set(starts) == set(range(entry.frames - 7))
        assert max(starts.values()) < 4 * 200 / (entry.frames - 7)
    other = Sampler(videos, SPEC, Sampling(), 1)
    assert [other.clip(r) for r in range(20)] != [sampler.clip(r) for r in range(20)]


def test_all_windows_is_every_clip_once(videos):
    for shuffle in (False, True):
        sampler = Sampler(videos, SPEC, Sampling("all_windows", stride=2, shuffle=shuffle), 0)
        expected = [(v, s) for v, entry in enumerate(videos) for s in range(0, entry.frames - 7, 2)]
        for epoch in (0, 1):
            clips = [
                sampler.clip(epoch * sampler.clips_per_epoch + i) for i in range(sampler.clips_per_epoch)
            ]
            windows = [(c.video, c.frames[0]) for c in clips]
            assert sorted(windows) == expected and (windows == expected) == (not shuffle)


def test_uniform_draws_long_videos_more_often(videos):
    sampler = Sampler(videos, SPEC, Sampling("uniform"), 0)
    counts = collections.Counter(sampler.clip(row).video for row in range(4_000))
    windows = np.array([entry.frames - 7 for entry in videos])
    share = np.array([counts[i] for i in range(5)]) / 4_000
    np.testing.assert_allclose(share, windows / windows.sum(), atol=0.03)


def test_one_pass_fills_up_the_last_batch_with_masked_rows(videos):
    passing = Sampling("all_windows", stride=4, shuffle=False)
    count = Sampler(videos, SPEC, passing, 0).clips_per_epoch
    batches = stream(videos, 6, None, sampling=passing, one_pass=True)
    masks = np.concatenate([b["mask"] for b in batches])
    assert len(masks) == -(-count // 6) * 6 > count
    assert masks[:count].all() and not masks[count:].any()


def test_black_targets_are_not_drawn(tmp_path):
    dark = fake_data.fake_video("dark", 12, black=tuple(range(8, 12)), seed=1)
    night = fake_data.fake_video("night", 12, black=tuple(range(12)), seed=2)
    fake_data.write_stavis(tmp_path / "root", "DIEM", [dark, night], {"train": ("dark", "night")})
    prepare("diem", tmp_path / "root", tmp_path / "out", (32, 64))
    videos = PreparedSources(tmp_path / "out").videos([("diem", None)], "train")
    for reverse in (False, True):
        sampler = Sampler(videos, SPEC, Sampling(reverse=reverse), 0)
        clips = [sampler.clip(row) for row in range(200)]
        labels = {c.label for c in clips if c.video == 0}
        assert labels == ({7} if not reverse else {0, 1, 2, 3, 4, 7})
        assert all(c.label == c.frames[7] for c in clips)
    masks = [bool(m) for b in stream(videos, 2, 4) for m in b["mask"]]
    indices = [int(v) for b in stream(videos, 2, 4) for v in b["video"]]
    assert masks == [video == 0 for video in indices]  # what is black all along teaches nothing
    anything = Sampler(videos, SPEC, Sampling(skip_black=False), 0)
    assert {anything.clip(row).label for row in range(100)} >= {7, 8, 9, 10, 11}


def test_mistakes(videos):
    for options, words in (
        ({"policy": "random"}, "'random' is not one of one_per_video_per_epoch, uniform, all_windows"),
        ({"stride": 0}, "sampling.stride must be a whole number of at least 1; got 0"),
        ({"shuffle": False}, "shuffle=False goes with all_windows"),
    ):
        with pytest.raises(AvsalError, match=words):
            Sampling(**options)
    for options, words in (
        ({"batch": 5, "shard": (0, 2)}, "a batch of 5 cannot be shared by 2 processes"),
        ({"batch": 4, "targets": "big"}, "'big' is not one of model, native"),
        ({"batch": 4, "targets": "native", "sampling": Sampling(flip=True)}, "clips are not mirrored"),
    ):
        with pytest.raises(AvsalError, match=words):
            stream(videos, steps=1, **options)
    from avsal_jax.data.prepared.pipeline import clip_batches

    with pytest.raises(
        AvsalError, match="was prepared at 32x64, the model takes 64x64: avsal prepare --size"
    ):
        clip_batches(videos, InputSpec(8, 64, 64), 2)
    with pytest.raises(AvsalError, match="there is no video to draw clips from"):
        clip_batches([], SPEC, 2)


def test_tensorflow_holds_no_accelerator(videos):
    import tensorflow as tf

    stream(videos, 2, 1)
    assert {d.device_type for d in tf.config.get_visible_devices()} == {"CPU"}


def unread(frames, fps, black=()):
    """A prepared video of which the sampler reads no record."""
    return types.SimpleNamespace(frames=frames, fps=fps, black=np.isin(np.arange(frames), black))


def test_clips_with_an_interval_by_hand():
    spec = InputSpec(frames=4, height=32, width=64, interval=0.2)
    passing = Sampling("all_windows", shuffle=False)
    sampler = Sampler([unread(9, 10.0), unread(5, 10.0), unread(1, 25.0), unread(5, 4.0)], spec, passing, 0)
    clips = [sampler.clip(row) for row in range(sampler.clips_per_epoch)]
    assert [(clip.video, clip.frames) for clip in clips] == [
        (0, (0, 2, 4, 6)),
        (0, (1, 3, 5, 7)),
        (0, (2, 4, 6, 8)),
        (1, (0, 0, 2, 4)),  # shorter than a clip: its last frame, after repeats of the first one
        (2, (0, 0, 0, 0)),
        (3, (0, 1, 2, 3)),
        (3, (1, 2, 3, 4)),
    ]
    assert [clip.label for clip in clips] == [clip.frames[-1] for clip in clips]
    middle = InputSpec(frames=4, height=32, width=64, interval=0.2, label_frame="middle")
    sampler = Sampler([unread(3, 10.0)], middle, passing, 0)
    assert sampler.clips_per_epoch == 1 and sampler.clip(0) == ClipChoice(
        0, (0, 0, 1, 2), label=1, flip=False
    )


# (label, frames of the video, T) -> the frames of its one clip, by the rule in words: all frames, in order,
# the first one repeated in front (`last`, public ViNet), or both ends about the middle one (`middle`).
SHORT = {
    ("last", 20, 32): ((*[0] * 12, *range(20)), 19),
    ("last", 31, 32): ((0, *range(31)), 30),
    ("last", 1, 4): ((0, 0, 0, 0), 0),
    ("middle", 10, 16): ((0, 0, 0, *range(10), 9, 9, 9), 5),
    ("middle", 3, 8): ((0, 0, 0, 0, 1, 2, 2, 2), 1),
}


@pytest.mark.parametrize(("label_frame", "count", "length"), SHORT)
@pytest.mark.parametrize("policy", ["all_windows", "one_per_video_per_epoch", "uniform"])
def test_a_video_shorter_than_a_clip_is_one_clip(label_frame, count, length, policy):
    frames, label = SHORT[label_frame, count, length]
    spec = InputSpec(frames=length, height=32, width=64, label_frame=label_frame)
    for stride in (1, 5, length) if policy == "all_windows" else (1,):
        sampler = Sampler([unread(count, 25.0)], spec, Sampling(policy, stride=stride), 0)
        assert sampler.clips_per_epoch == 1  # in each epoch
        assert [sampler.clip(row) for row in range(3)] == 3 * [ClipChoice(0, frames, label, flip=False)]


@pytest.mark.parametrize(
    ("label_frame", "backwards"), [("last", (4, 4, 4, 4, 3, 2, 1, 0)), ("middle", (4, 4, 4, 3, 2, 1, 0, 0))]
)
def test_a_short_video_backwards(label_frame, backwards):
    spec = InputSpec(frames=8, height=32, width=64, label_frame=label_frame)
    sampler = Sampler([unread(5, 25.0)], spec, Sampling(reverse=True), 0)
    clips = {sampler.clip(row).frames for row in range(30)}
    assert clips == {backwards, tuple(4 - frame for frame in backwards)}
    assert {sampler.clip(row).label for row in range(30)} == ({0, 4} if label_frame == "last" else {2})


def test_a_short_video_beside_long_ones():
    """Strides below the length: the long one has its windows, the short one its clip."""
    passing = Sampling("all_windows", stride=5, shuffle=False)
    sampler = Sampler([unread(20, 25.0), unread(6, 25.0)], SPEC, passing, 0)
    assert [(sampler.clip(row).video, sampler.clip(row).label) for row in range(sampler.clips_per_epoch)] == [
        (0, 7), (0, 12), (0, 17), (1, 5)
    ]  # fmt: skip


def test_black_truth_is_passed_over_with_an_interval():
    """Clips of 7 frames are labelled by frames 6 to 11, and backwards by 5 to 0."""
    spec, black = InputSpec(frames=4, height=32, width=64, interval=0.2), sorted(set(range(12)) - {2, 9})
    for reverse, labels in ((False, {9}), (True, {2, 9})):
        sampler = Sampler([unread(12, 10.0, black)], spec, Sampling(reverse=reverse), 0)
        clips = [sampler.clip(row) for row in range(60)]
        assert {clip.label for clip in clips} == labels
        assert {abs(clip.frames[0] - clip.frames[1]) for clip in clips} == {2}
