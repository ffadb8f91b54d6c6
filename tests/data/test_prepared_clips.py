"""Root -> prepare -> pipeline -> batch, against what the files hold, read by other means."""

import pathlib

import numpy as np
import pytest
import scipy.io
import scipy.io.wavfile
from PIL import Image

from avsal_jax import InputSpec, LogMel, Waveform
from avsal_jax.data.prepared.prepare import prepare
from avsal_jax.data.prepared.selection import PreparedSources
from avsal_jax.testing import fake_data

HEIGHT, WIDTH = 32, 64
WAVE = Waveform(35_280)
LONG = (
    fake_data.fake_video("long", 40, (36, 52), 24.99975, seed=1),
    fake_data.fake_video("short", 6, (40, 64), 29.9997, seed=2),
)


def batches(videos, spec, **options):
    from avsal_jax.data.prepared.pipeline import clip_batches

    return list(clip_batches(videos, spec, **options).as_numpy_iterator())


def spec_of(frames, label="last", audio=None):
    return InputSpec(frames=frames, height=HEIGHT, width=WIDTH, label_frame=label, audio=audio)


def cv2_bilinear(image, height, width):
    """Bilinear between pixel centres, edges repeated: one axis after the other, in float64."""
    for axis, new in ((0, height), (1, width)):
        old = image.shape[axis]
        place = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
        low = np.floor(place).astype(int)
        high = np.minimum(low + 1, old - 1)
        share = (place - low).reshape((-1, 1) if axis == 0 else (1, -1))
        image = np.take(image, low, axis) * (1 - share) + np.take(image, high, axis) * share
    return image


def expected_frames(paths):
    images = [Image.open(path).convert("RGB") for path in paths]
    return np.stack([np.asarray(i.resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR)) for i in images])


def expected_fixations(fixated):
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    for row, column in zip(*np.nonzero(fixated), strict=True):
        height, width = fixated.shape
        expected[int((row + 0.5) * HEIGHT / height), int((column + 0.5) * WIDTH / width)] = 1
    return expected


def expected_waveform(path, fps, first, last, samples):
    """STAViS's tables and buffer for frames first..last, from 1, out of the file."""
    rate, wave = scipy.io.wavfile.read(path)
    wave = wave.astype(np.float64) / 32_768 * 256
    step = rate / fps
    begin = int(max(0, (first - 1) * (1.0 / fps) * rate - step / 2))
    end = int(min(len(wave), abs((last - 1) * (1.0 / fps) * rate + step / 2)))
    excerpt = wave[begin : end + 1]
    excerpt = excerpt * np.hanning(len(excerpt))
    buffer = np.zeros(samples)
    at = samples // 2 - len(excerpt) // 2
    buffer[at : at + len(excerpt)] = excerpt
    return buffer


def expected_log_mel(path, fps, first, last):
    """VGGish's log-mel of the sound of frames first..last in the middle of 0.975 s of silence."""
    import librosa

    rate, wave = scipy.io.wavfile.read(path)
    wave = librosa.resample(wave / 32_768, orig_sr=rate, target_sr=16_000, res_type="soxr_hq")
    step = 16_000 / fps
    begin = int(max(0, (first - 1) * (1.0 / fps) * 16_000 - step / 2))
    end = int(min(len(wave), abs((last - 1) * (1.0 / fps) * 16_000 + step / 2)))
    excerpt = wave[begin : end + 1]
    spare = 15_600 - len(excerpt)
    if spare < 0:
        excerpt = excerpt[-spare // 2 : -spare // 2 + 15_600]
    buffer = np.zeros(15_600)
    at = max(0, 7_800 - len(excerpt) // 2)
    buffer[at : at + len(excerpt)] = excerpt
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    frames = np.stack([buffer[i : i + 400] * window for i in range(0, 15_201, 160)])
    mel = lambda hertz: 1127 * np.log(1 + hertz / 700)  # noqa: E731
    edges, bins = np.linspace(mel(125), mel(7500), 66), mel(np.arange(257) * 31.25)
    up = (bins[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    down = (edges[2:] - bins[:, None]) / (edges[2:] - edges[1:-1])
    bank = np.maximum(0, np.minimum(up, down))
    bank[0] = 0
    return np.log(np.abs(np.fft.rfft(frames, 512)) @ bank + 0.01)[None]


def check_batch(batch, videos, files, spec, tolerance):
    """Compares every row with `files(video)` -> (images, density maps, fixation reader, sound, fps)."""
    for i in range(len(batch["row"])):
        images, maps, fixations, sound, fps = files(videos[batch["video"][i]])
        label, count = int(batch["label"][i]), len(images)
        place = spec.frames - 1 if spec.label_frame == "last" else spec.frames // 2
        indices = np.clip(np.arange(spec.frames) + label - place, 0, count - 1)
        frames = expected_frames([images[k] for k in indices])
        assert np.abs(batch["frames"][i].astype(int) - frames).max() <= tolerance
        density = np.asarray(Image.open(maps[label]).convert("L"), np.float64) / 255
        np.testing.assert_allclose(batch["density"][i], cv2_bilinear(density, HEIGHT, WIDTH), atol=1e-6)
        np.testing.assert_array_equal(batch["fixations"][i], expected_fixations(fixations(label)))
        if spec.audio is None or count < spec.frames:
            continue
        span = indices[0] + 1, indices[-1] + 1
        if isinstance(spec.audio, Waveform):
            expected = expected_waveform(sound, fps, *span, spec.audio.samples)
            np.testing.assert_allclose(batch["audio"][i], expected, atol=256e-5)
        else:
            np.testing.assert_allclose(batch["audio"][i], expected_log_mel(sound, fps, *span), atol=1e-3)


def stavis_files(root, folder):
    def files(video):
        truth = root / "annotations" / folder / video.name
        return (
            sorted((root / "video_frames" / folder / video.name).glob("*.jpg")),
            sorted((truth / "maps").glob("*.jpg")),
            lambda i: scipy.io.loadmat(truth / f"fixMap_{i + 1:05d}.mat")["eyeMap"],
            root / "video_audio" / folder / video.name / f"{video.name}.wav",
            video.fps,
        )

    return files


@pytest.fixture(scope="module")
def diem(tmp_path_factory):
    root = tmp_path_factory.mktemp("diem")
    fake_data.write_stavis(root / "root", "DIEM", LONG, {"train": ("long", "short"), "test": ("long",)})
    prepare("diem", root / "root", root / "prepared", (HEIGHT, WIDTH), "png")
    return root


@pytest.mark.parametrize("audio", [None, WAVE, LogMel()], ids=["mute", "waveform", "logmel"])
@pytest.mark.parametrize("label", ["last", "middle"])
@pytest.mark.parametrize("frames", [8, 16, 32])
def test_one_preparation_serves_every_clip(diem, frames, label, audio):
    audio = Waveform(70_560) if audio is WAVE and frames == 32 else audio
    videos = PreparedSources(diem / "prepared").videos([("diem", 1)], "train")
    spec = spec_of(frames, label, audio)
    batch_list = batches(videos, spec, batch=2, steps=2)
    assert {video for batch in batch_list for video in batch["video"]} == {0, 1}
    for batch in batch_list:
        assert batch["mask"].all() and batch["frames"].shape == (2, frames, HEIGHT, WIDTH, 3)
        check_batch(batch, videos, stavis_files(diem / "root", "DIEM"), spec, 0)


def test_a_clip_that_runs_backwards_is_mirrored_in_time_and_space(diem):
    from avsal_jax.data.prepared.sampling import Sampling

    videos = PreparedSources(diem / "prepared").videos([("diem", None)], "test")
    spec = spec_of(8, "last", WAVE)
    variants = set()
    plain = batches(videos, spec, batch=30, sampling=Sampling("all_windows", shuffle=False), one_pass=True)
    by_label = {int(b["label"][i]): (b, i) for b in plain for i in range(30) if b["mask"][i]}
    turned = batches(videos, spec, batch=1, steps=24, sampling=Sampling(flip=True, reverse=True))
    for batch in turned:
        label = int(batch["label"][0])
        candidates = [("forwards", label), ("backwards", label + 7)]
        for way, end in candidates:
            if end not in by_label:
                continue
            source, i = by_label[end]
            frames, sound = source["frames"][i], source["audio"][i]
            frames, sound = (frames, sound) if way == "forwards" else (frames[::-1], sound[::-1])
            for mirrored in (False, True):
                picture = frames[:, :, ::-1] if mirrored else frames
                if np.array_equal(picture, batch["frames"][0]):
                    np.testing.assert_array_equal(batch["audio"][0], sound)
                    if label in by_label:
                        truth, j = by_label[label]
                        for kind in ("density", "fixations"):
                            expected = truth[kind][j][:, ::-1] if mirrored else truth[kind][j]
                            np.testing.assert_array_equal(batch[kind][0], expected)
                    variants.add((way, mirrored))
                    break
    assert len(variants) == 4


def test_jpeg_is_near_the_picture_and_smaller(diem, tmp_path):
    prepare("diem", diem / "root", tmp_path, (HEIGHT, WIDTH), "jpeg")
    videos = PreparedSources(tmp_path).videos([("diem", 1)], "train")
    for batch in batches(videos, spec_of(8), batch=2, steps=1):
        check_batch(batch, videos, stavis_files(diem / "root", "DIEM"), spec_of(8), 12)
    sizes = [
        sum(p.stat().st_size for p in (folder / "diem/pictures").rglob("*record*"))
        for folder in (tmp_path, diem / "prepared")
    ]
    assert sizes[0] <= sizes[1]


def rearranged_files(root, pattern, fixation="fixation"):
    def files(video):
        folder = next(p for p in root.glob(pattern.format(video.name)) if p.is_dir())
        images = sorted(
            next(p for p in (folder / "images", root / "frames" / video.name) if p.is_dir()).iterdir()
        )
        maps = sorted((folder / "maps").glob("*.png"))
        binary = sorted(p for p in (folder / fixation).iterdir() if p.is_file())

        def fixations(i):
            if binary[i].suffix == ".mat":
                return scipy.io.loadmat(binary[i])["I"]
            return np.asarray(Image.open(binary[i]))

        return images, maps, fixations, None, video.fps

    return files


NUMBERED = fake_data.fake_videos(("0001", "0002", "0003"))


def write_one(root: pathlib.Path, kind: str):
    """Writes a set; returns (name, source, split, files of a video)."""
    videos = fake_data.fake_videos()
    names = tuple(v.name for v in videos)
    if kind in ("coutrot1", "stavis:MINE"):
        folder, lists = ("Coutrot_db1", "train_2") if kind == "coutrot1" else ("MINE", "train")
        fake_data.write_stavis(root, folder, videos, {lists: names})
        return (kind, 2 if kind == "coutrot1" else None), stavis_files(root, folder)
    if kind == "ave":
        # The first training video of AVE in each of its sets.
        from avsal_jax.data.sets.video_lists import shipped_list

        for dataset, folder in (("diem", "DIEM"), ("coutrot1", "Coutrot_db1"), ("coutrot2", "Coutrot_db2")):
            name = next(row.video for row in shipped_list("train_ave") if row.dataset == dataset)
            fake_data.write_stavis(root, folder, [fake_data.fake_video(name, 6, seed=len(dataset))])
        folders = {"diem": "DIEM", "coutrot1": "Coutrot_db1", "coutrot2": "Coutrot_db2"}
        return ("ave", None), lambda video: stavis_files(root, folders[video.dataset])(video)
    if kind.startswith("dhf1k released"):
        form = kind.removeprefix("dhf1k released ")
        fake_data.write_dhf1k(root, NUMBERED, form)
        fixation_folder = {"png": "fixation", "mat": "fixation/maps"}[form]
        return ("dhf1k", None), rearranged_files(root, "annotation/{}", fixation_folder)
    if kind == "hollywood2":
        fake_data.write_rearranged(root, "train", videos, "actioncliptrain00001_{:05d}.png", first=41)
        return ("hollywood2", None), rearranged_files(root, "train/{}")
    names = {
        "dhf1k rearranged": ("dhf1k", NUMBERED),
        "ucf": ("ucf", videos),
        "dhf1k:OWN": ("dhf1k:OWN", videos),
    }
    name, members = names[kind]
    fake_data.write_rearranged(root, "training", members)
    return (name, None), rearranged_files(root, "training/{}")


@pytest.mark.parametrize(
    "kind",
    ["coutrot1", "stavis:MINE", "ave", "dhf1k released png", "dhf1k released mat", "dhf1k rearranged",
     "hollywood2", "ucf", "dhf1k:OWN"],
)  # fmt: skip
def test_every_packaging_becomes_clips(tmp_path, kind):
    source, files = write_one(tmp_path / "root", kind)
    summary = prepare(source[0], tmp_path / "root", tmp_path / "prepared", (HEIGHT, WIDTH), "png", workers=1)
    assert summary["failed"] == [] and summary["videos"] == 3
    videos = PreparedSources(tmp_path / "prepared").videos([source], "train")
    hears = WAVE if source[0] in ("coutrot1", "stavis:MINE", "ave") else None
    spec = spec_of(4, "middle", hears)
    batch = batches(videos, spec, batch=3, steps=1)[0]
    assert sorted(batch["video"]) == [0, 1, 2]
    check_batch(batch, videos, files, spec, 0)
    black = {("second_64x40"): (0, 4), "0002": (0, 4)}
    for i, video in enumerate(batch["video"]):
        assert int(batch["label"][i]) not in black.get(videos[video].name, ())


def test_targets_at_native_size(diem):
    from avsal_jax.data.prepared.sampling import Sampling

    videos = PreparedSources(diem / "prepared").videos([("diem", 1)], "train")
    passing = Sampling("all_windows", stride=5, shuffle=False)
    batch_list = batches(videos, spec_of(8), batch=4, sampling=passing, one_pass=True, targets="native")
    rows = [(b, i) for b in batch_list for i in range(4) if b["mask"][i]]
    assert [(int(b["video"][i]), int(b["label"][i])) for b, i in rows] == [
        *((0, 7 + 5 * k) for k in range(7)), (1, 5)
    ]  # fmt: skip
    for batch, i in rows:
        source = LONG[batch["video"][i]]
        height, width = source.densities.shape[1:]
        label = int(batch["label"][i])
        assert tuple(batch["size"][i]) == (height, width)
        decoded = Image.open(
            diem / "root/annotations/DIEM" / source.name / "maps" / f"eyeMap_{label + 1:05d}.jpg"
        )
        np.testing.assert_array_equal(
            batch["density"][i, :height, :width], np.asarray(decoded) / np.float32(255)
        )
        assert not batch["density"][i, height:].any() and not batch["density"][i, :, width:].any()
        points = batch["fixations"][i]
        np.testing.assert_array_equal(points[points[:, 0] >= 0], source.fixations[label])
