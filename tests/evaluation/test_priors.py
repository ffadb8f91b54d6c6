"""`avsal fit-prior` and what `avsal evaluate` does with its file: seen stimuli, damaged files."""

import io
import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from avsal_jax import AvsalError
from avsal_jax.cli.main import main
from avsal_jax.data.sets.datasets import open_dataset
from avsal_jax.evaluation.evaluate import Request, evaluate
from avsal_jax.evaluation.priors import read_prior
from tests.evaluation.sets import PHOTOGRAPHS, table

ADVICE = "evaluate another split or list, or add --allow-seen if you mean it"


def fit(capsys, dataset, root, output, *flags) -> str:
    call = ["fit-prior", "--dataset", dataset, "--root", str(root), "--output", str(output), *flags]
    assert main(call) == 0
    return capsys.readouterr().out


def contents(path):
    with np.load(path, allow_pickle=False) as file:
        return json.loads(str(file["about"])), file["saliency"]


def scored(dataset, root, prior, output, **options):
    options = {"metrics": ("nss",), "model": str(prior), **options}
    summary = evaluate(Request(dataset, root, **options), output)
    rows = table(output / "videos.csv") if summary["videos"] else []
    return {row["video"]: float(row["nss"]) for row in rows}, summary["failed"]


def test_a_prior_is_the_mean_of_its_stimuli_and_names_them(osie, tmp_path, capsys):
    path = tmp_path / "folder" / "prior.npz"
    out = fit(capsys, "osie", osie, path, "--split", "all")
    assert out == f"the mean map of 4 stimuli of osie is in {path}\n"
    about, saliency = contents(path)
    assert about["stimuli"] == about["groups"] == [["osie", name] for name in PHOTOGRAPHS]
    assert saliency.shape == (224, 384) and saliency.dtype == np.float32
    mean = np.zeros((224, 384))
    for entry in open_dataset("osie", osie, "all"):
        image = Image.fromarray(entry.truth(0).density.astype(np.float32))
        mean += np.asarray(image.resize((384, 224), Image.Resampling.BILINEAR)) / len(PHOTOGRAPHS)
    # An independent resize: densities are smooth, so kernels differ little.
    np.testing.assert_allclose(saliency, mean, atol=0.05)


def test_the_training_part_is_the_default(osie, tmp_path, capsys):
    fit(capsys, "osie", osie, tmp_path / "prior.npz")
    about, _ = contents(tmp_path / "prior.npz")
    assert about["stimuli"] == [["osie", "1001"]]


def test_what_a_prior_was_fitted_on_is_refused(osie, tmp_path, capsys):
    path = tmp_path / "prior.npz"
    fit(capsys, "osie", osie, path)
    values, failed = scored("osie", osie, path, tmp_path / "all", split="all")
    assert set(values) == {"1004", "1008", "1010"}
    assert failed == [f"1001: {path} was fitted on it; {ADVICE}"]
    all_values, failed = scored("osie", osie, path, tmp_path / "seen", split="all", allow_seen=True)
    assert set(all_values) == set(PHOTOGRAPHS) and failed == []
    assert {name: all_values[name] for name in values} == values
    test, failed = scored("osie", osie, path, tmp_path / "test")
    assert test == values and failed == []


def test_the_mean_map_is_that_prior_and_refuses_the_same(osie, tmp_path, capsys):
    path = tmp_path / "prior.npz"
    fit(capsys, "osie", osie, path)
    prior, _ = scored("osie", osie, path, tmp_path / "prior", split="all")
    mean, failed = scored("osie", osie, "mean_map", tmp_path / "mean", split="all")
    assert mean == prior and failed == [f"1001: the mean map was fitted on it; {ADVICE}"]
    values, failed = scored("osie", osie, "mean_map", tmp_path / "seen", split="all", allow_seen=True)
    assert set(values) == set(PHOTOGRAPHS) and failed == []


def test_near_duplicates_are_refused(hevc, tmp_path, capsys):
    path, names = tmp_path / "prior.npz", tmp_path / "names.txt"
    names.write_text("BasketballDrill\nTraffic\n")
    fit(capsys, "hevc_gaze", hevc, path, "--list", str(names))
    about, _ = contents(path)
    assert about["stimuli"] == [["hevc_gaze", "BasketballDrill"], ["hevc_gaze", "Traffic"]]
    values, failed = scored("hevc_gaze", hevc, path, tmp_path / "out")
    assert set(values) == {"BasketballDrive", "Johnny", "Tennis"}
    reasons = dict(line.split(": ", 1) for line in failed)
    assert reasons["BasketballDrill"] == reasons["Traffic"] == f"{path} was fitted on it; {ADVICE}"
    assert (
        reasons["BasketballDrillText"]
        == f"{path} was fitted on a stimulus that shows nearly the same; {ADVICE}"
    )
    values, failed = scored("hevc_gaze", hevc, path, tmp_path / "out", allow_seen=True)
    assert len(values) == 6 and failed == []


def test_a_fold_is_tested_with_a_prior_of_the_others(hevc, tmp_path, capsys):
    path = tmp_path / "prior.npz"
    for fold in (2, 5):
        clips = open_dataset("hevc_gaze", hevc, "test", fold)
        fit(capsys, "hevc_gaze", hevc, path, "--fold", str(fold))
        values, _ = scored("hevc_gaze", hevc, path, tmp_path / f"out{fold}", fold=fold)
        assert set(values) == {entry.name for entry in clips if entry.frames} != set()


def test_an_absent_clip_adds_nothing(hevc, tmp_path, capsys):
    fit(capsys, "hevc_gaze", hevc, tmp_path / "prior.npz", "--split", "all")
    about, _ = contents(tmp_path / "prior.npz")
    assert ["hevc_gaze", "Kimono"] not in about["stimuli"] and len(about["stimuli"]) == 6


def test_the_blur_is_that_of_the_command(osie, tmp_path, capsys):
    fit(capsys, "osie", osie, tmp_path / "narrow.npz", "--split", "all")
    fit(capsys, "osie", osie, tmp_path / "wide.npz", "--split", "all", "--sigma", "20%")
    narrow, wide = (contents(tmp_path / f"{name}.npz")[1] for name in ("narrow", "wide"))
    assert wide.mean() > 1.5 * narrow.mean()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--output", "prior.npy"], "a prior is a .npz file; got"),
        (["--output", "file/prior.npz"], "cannot write"),
        (["--split", "val"], "osie has no split 'val'"),
        (["--sigma", "1deg"], "needs --pixels-per-degree"),
        (["--list", "none.txt"], "none.txt"),
    ],
)
def test_priors_that_cannot_be_fitted(osie, tmp_path, capsys, flags, words):
    (tmp_path / "file").write_text("x")
    call = ["fit-prior", "--dataset", "osie", "--root", str(osie), "--output", str(tmp_path / "prior.npz")]
    flags = [str(tmp_path / flag) if "." in flag else flag for flag in flags]
    assert main([*call, *flags]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("avsal: ")]
    assert words in line
    assert not (tmp_path / "prior.npz").exists()


@pytest.fixture(scope="module")
def good(osie, tmp_path_factory):
    path = tmp_path_factory.mktemp("prior") / "prior.npz"
    main(["fit-prior", "--dataset", "osie", "--root", str(osie), "--output", str(path)])
    return path


def arrays(**replaced):
    """Returns a change of a file: some of its arrays are others."""

    def change(path, about, saliency):
        content = {"about": np.array(json.dumps(about)), "saliency": saliency, **replaced}
        np.savez(path, **{name: value for name, value in content.items() if value is not None})

    return change


def about_with(**fields):
    """Returns a change of what a file says of itself."""

    def change(path, about, saliency):
        about = {key: value for key, value in {**about, **fields}.items() if value is not None}
        np.savez(path, about=np.array(json.dumps(about)), saliency=saliency)

    return change


def huge_header(path, about, saliency):
    """A map of 16 TB by its header."""
    buffer = io.BytesIO()
    header = {"descr": "<f4", "fortran_order": False, "shape": (1 << 21, 1 << 21)}
    np.lib.format.write_array_header_1_0(buffer, header)
    _rewrite(path, saliency=buffer.getvalue())


def zeros_without_end(path, about, saliency):
    """A member that unpacks to 200 MB."""
    _rewrite(path, more=bytes(200_000_000))


def _rewrite(path, **members):
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in {**content, **{f"{key}.npy": data for key, data in members.items()}}.items():
            archive.writestr(name, data)


def changed_bytes(edit):
    return lambda path, about, saliency: path.write_bytes(edit(path.read_bytes()))


def flipped(content: bytes) -> bytes:
    place = len(content) // 2
    return content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :]


MAP = np.ones((4, 5), np.float32)
DAMAGE = {
    "missing": lambda path, about, saliency: path.unlink(),
    "empty": changed_bytes(lambda content: b""),
    "cut": changed_bytes(lambda content: content[:-100]),
    "flipped": changed_bytes(flipped),
    "text": changed_bytes(lambda content: b"text"),
    "npy": lambda path, about, saliency: path.write_bytes(npy(MAP)),
    "pickle": lambda path, about, saliency: path.write_bytes(npy(np.array([{}], object))),
    "objects": arrays(about=np.array([{"format": 1}], object)),
    "objects as map": arrays(saliency=np.array([[None]], object)),
    "no about": arrays(about=None),
    "no map": arrays(saliency=None),
    "about of numbers": arrays(about=np.ones(3)),
    "about not JSON": arrays(about=np.array("{")),
    "about a list": arrays(about=np.array("[1]")),
    "about nested": arrays(about=np.array("[" * 100_000)),
    "other format": about_with(format="avsal_jax prior 2"),
    "no format": about_with(format=None),
    "no stimuli": about_with(stimuli=None),
    "empty stimuli": about_with(stimuli=[]),
    "stimuli of numbers": about_with(stimuli=[[1, 2]]),
    "stimuli of one": about_with(stimuli=[["osie"]]),
    "stimuli a text": about_with(stimuli="osie"),
    "groups a number": about_with(groups=7),
    "float64": arrays(saliency=MAP.astype(float)),
    "complex": arrays(saliency=MAP.astype(complex)),
    "three axes": arrays(saliency=MAP[None]),
    "no cells": arrays(saliency=MAP[:0]),
    "too wide": arrays(saliency=np.ones((1, 5000), np.float32)),
    "NaN": arrays(saliency=MAP * np.nan),
    "infinite": arrays(saliency=MAP * np.inf),
    "negative": arrays(saliency=-MAP),
    "huge header": huge_header,
    "unpacks to more": zeros_without_end,
}


def npy(array) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


@pytest.mark.parametrize("damage", DAMAGE)
def test_files_that_are_not_priors(good, tmp_path, damage):
    path = tmp_path / "prior.npz"
    path.write_bytes(good.read_bytes())
    DAMAGE[damage](path, *contents(path))
    with pytest.raises(
        AvsalError, match=r"prior.npz is not a prior that avsal fit-prior wrote: \S"
    ) as caught:
        read_prior(path)
    assert "\n" not in str(caught.value)


def test_a_device_is_not_a_prior(tmp_path):
    (tmp_path / "prior.npz").symlink_to("/dev/zero")  # reading it would never end
    with pytest.raises(AvsalError, match="prior.npz is not a prior .* it is not a file"):
        read_prior(tmp_path / "prior.npz")


def test_a_file_that_is_not_a_prior_is_one_line(osie, tmp_path, capsys):
    (tmp_path / "prior.npz").write_text("text")
    call = ["evaluate", "--dataset", "osie", "--root", str(osie), "--model", str(tmp_path / "prior.npz")]
    assert main([*call, "--output", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"avsal: {tmp_path / 'prior.npz'} is not a prior")
    assert not (tmp_path / "out").exists()
