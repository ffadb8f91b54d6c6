"""Measures the input pipeline against a torch DataLoader that reads the original files, in one run.

  python tools/benchmark_data.py [--output DIR] [--rounds N]

Both give the same batches: clips of 32 frames at 224x384 with SoundNet's buffer of sound and the map of the
last frame, batch 8, out of 640x360 JPEGs made from the clip that comes with the repository. The torch side
is own code after the public ViNet loader: Pillow decodes and resizes, waveforms are in memory, two workers.
Sides alternate, each in a process of its own, with the files in the page cache.
"""

import argparse
import json
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

CLIP = pathlib.Path(__file__).parent.parent / "tests" / "media" / "big_buck_bunny_5s.mp4"
FRAMES, HEIGHT, WIDTH, SAMPLES, BATCH, FPS, RATE = 32, 224, 384, 70_560, 8, 24.99975, 22_050
VIDEOS, LENGTH = 16, 96


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batches", type=int, default=12, help="counted batches of each round")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=pathlib.Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        print(json.dumps(SIDES[args.side](args.folder, args.batches)))
        return
    with tempfile.TemporaryDirectory() as folder:
        report = _compare(pathlib.Path(folder), args)
    print(_table(report))
    if args.output:
        args.output.mkdir(parents=True, exist_ok=True)
        (args.output / "data.json").write_text(json.dumps(report, indent=2) + "\n")


def _compare(folder, args):
    from avsal_jax.data.prepared.prepare import prepare

    _write_set(folder / "root")
    report = {"rounds": {name: [] for name in SIDES}}
    for encoding in ("jpeg", "png"):
        started = time.perf_counter()
        prepare("diem", folder / "root", folder / encoding, (HEIGHT, WIDTH), encoding)
        seconds = time.perf_counter() - started
        size = sum(p.stat().st_size for p in (folder / encoding / "diem/pictures").rglob("*record*"))
        report[encoding] = {
            "prepare_frames_per_second": VIDEOS * LENGTH / seconds,
            "picture_bytes_per_frame": size / (VIDEOS * LENGTH),
        }
    report["jpeg"] |= _jpeg_error(folder)
    for _ in range(args.rounds):
        for side in SIDES:
            command = [sys.executable, __file__, "--side", side, "--folder", str(folder)]
            command += ["--batches", str(args.batches)]
            process = subprocess.run(command, capture_output=True, text=True, check=True)
            report["rounds"][side].append(json.loads(process.stdout.splitlines()[-1]))
    return report


def _write_set(root):
    """Writes the set in the packaging of STAViS: shifted frames of the clip, noise as sound."""
    import scipy.io
    import scipy.io.wavfile
    from PIL import Image

    from avsal_jax.media.video import Video

    frames = [Image.fromarray(frame.image).resize((640, 360)) for frame in Video(CLIP)]
    rng = np.random.default_rng(0)
    names = [f"video{i}" for i in range(VIDEOS)]
    for i, name in enumerate(names):
        images, truth = root / "video_frames/DIEM" / name, root / "annotations/DIEM" / name
        sound = root / "video_audio/DIEM" / name
        for folder in (images, truth / "maps", sound):
            folder.mkdir(parents=True)
        for k in range(LENGTH):
            frame = np.roll(np.asarray(frames[(k + 7 * i) % len(frames)]), 16 * i, axis=1)
            Image.fromarray(frame).save(images / f"img_{k + 1:05d}.jpg", quality=90)
            fixated = np.zeros((360, 640), np.uint8)
            fixated[rng.integers(0, 360, 20), rng.integers(0, 640, 20)] = 1
            density = Image.fromarray(255 * fixated).resize((64, 36)).resize((640, 360))
            density.save(truth / "maps" / f"eyeMap_{k + 1:05d}.jpg")
            scipy.io.savemat(truth / f"fixMap_{k + 1:05d}.mat", {"eyeMap": fixated}, do_compression=True)
        wave = rng.normal(0, 3_000, int(LENGTH / FPS * RATE)).astype(np.int16)
        scipy.io.wavfile.write(sound / f"{name}.wav", RATE, wave)
    (root / "fold_lists").mkdir()
    lines = "\n".join(f"{name} {LENGTH} {FPS}" for name in names)
    (root / "fold_lists/DIEM_list_train_fps.txt").write_text(lines)


def _jpeg_error(folder):
    """Differences of the JPEG pictures from the exact ones, in levels of 255."""
    from avsal_jax.data.prepared.selection import PreparedSources

    sides = [PreparedSources(folder / e).videos([("diem", 1)], "train")[0] for e in ("jpeg", "png")]
    images = [
        np.stack([r["image"] for r in v.shards.read("pictures", v.index, range(0, LENGTH, 8))]).astype(int)
        for v in sides
    ]
    difference = np.abs(images[0] - images[1])
    return {"mean_error": float(difference.mean()), "largest_error": int(difference.max())}


def _avsal_jax(folder, batches):
    from avsal_jax import InputSpec, Waveform
    from avsal_jax.data.prepared.pipeline import clip_batches
    from avsal_jax.data.prepared.selection import PreparedSources

    spec = InputSpec(FRAMES, HEIGHT, WIDTH, audio=Waveform(SAMPLES))
    videos = PreparedSources(folder / "jpeg").videos([("diem", 1)], "train")
    reading = _time_reading()
    stream = iter(clip_batches(videos, spec, BATCH))
    for _ in range(3):
        next(stream)
    reading.clear()
    began = time.process_time()
    result = _timed(stream, batches, lambda b: b["frames"].shape[0])
    return result | {"reading_share": sum(reading) / (time.process_time() - began)}


def _time_reading():
    """Makes every read of records add its processor seconds to the list that is returned."""
    from avsal_jax.data.prepared.shards import ShardFolder

    seconds, plain = [], ShardFolder.read_raw

    def timed(*arguments):
        began = time.thread_time()
        try:
            return plain(*arguments)
        finally:
            seconds.append(time.thread_time() - began)

    ShardFolder.read_raw = timed
    return seconds


def _torch(folder, batches):
    import torch
    import torch.utils.data

    dataset = _torch_dataset(folder / "root", torch)
    loader = torch.utils.data.DataLoader(dataset, BATCH, shuffle=True, num_workers=2, drop_last=True)

    def endless():
        while True:
            yield from loader

    return _timed(endless(), batches, lambda b: b[0].shape[0])


def _torch_dataset(root, torch):
    """One random clip of every video, ten epochs in one so that workers live on."""
    import scipy.io.wavfile
    from PIL import Image

    names = sorted(p.name for p in (root / "video_frames/DIEM").iterdir())
    waves = {n: scipy.io.wavfile.read(root / f"video_audio/DIEM/{n}/{n}.wav")[1] for n in names}
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    step = RATE / FPS

    class Clips(torch.utils.data.Dataset):
        def __len__(self):
            return 10 * len(names)

        def __getitem__(self, index):
            name = names[index % len(names)]
            start = np.random.randint(0, LENGTH - FRAMES + 1)
            frames = []
            for k in range(start + 1, start + FRAMES + 1):
                image = Image.open(root / f"video_frames/DIEM/{name}/img_{k:05d}.jpg").convert("RGB")
                image = image.resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR)
                frames.append((torch.from_numpy(np.array(image)).float() / 255 - mean) / std)
            last = start + FRAMES
            path = root / f"annotations/DIEM/{name}/maps/eyeMap_{last:05d}.jpg"
            density = np.array(Image.open(path).convert("L").resize((WIDTH, HEIGHT)), np.float32) / 255
            begin = int(max(0, start / FPS * RATE - step / 2))
            end = int(min(len(waves[name]), (last - 1) / FPS * RATE + step / 2))
            excerpt = waves[name][begin : end + 1] / 128.0
            buffer = np.zeros(SAMPLES, np.float32)
            at = SAMPLES // 2 - len(excerpt) // 2
            buffer[at : at + len(excerpt)] = excerpt * np.hanning(len(excerpt))
            return torch.stack(frames).permute(3, 0, 1, 2), torch.from_numpy(density), buffer

    return Clips()


def _timed(stream, batches, rows):
    """Returns the rate in clips per second over `batches`, after three that fill the buffers."""
    for _ in range(3):
        next(stream)
    started = time.perf_counter()
    clips = sum(rows(next(stream)) for _ in range(batches))
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {"clips_per_second": clips / seconds, "seconds": seconds, "peak_gb": peak}


SIDES = {"ours": _avsal_jax, "torch": _torch}


def _table(report):
    rates = {s: [r["clips_per_second"] for r in rows] for s, rows in report["rounds"].items()}
    ratios = [a / b for a, b in zip(rates["ours"], rates["torch"], strict=True)]
    rounds = report["rounds"]["ours"]
    lines = ["| | clips/s, median (range) | frames/s |", "|---|---|---|"]
    for side, values in rates.items():
        middle = statistics.median(values)
        lines.append(
            f"| {side} | {middle:.2f} ({min(values):.2f} to {max(values):.2f}) | {32 * middle:.0f} |"
        )
    lines += [
        f"\nratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}); reading records "
        f"{100 * max(r['reading_share'] for r in rounds):.1f} % of the processor time; peak "
        f"{max(r['peak_gb'] for r in rounds):.2f} GB",
    ]
    for encoding in ("jpeg", "png"):
        lines.append(f"{encoding}: {json.dumps({k: round(v, 2) for k, v in report[encoding].items()})}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
