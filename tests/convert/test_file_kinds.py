"""Files that are not checkpoints: one line says what each file is and what to do."""

import bz2
import gzip
import io
import json
import lzma
import pickle
import tarfile
import zipfile

import numpy as np
import pytest

from avsal_jax import AvsalError, load_model
from avsal_jax.cli.main import main
from avsal_jax.convert.file_kinds import TORCH, checkpoint_format
from avsal_jax.convert.reader import read_checkpoint

TORCH_TAR = ("sys_info", "pickle", "storages", "tensors")


def zipped(members, compression=zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tarred(names, form=tarfile.USTAR_FORMAT):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = 4
            archive.addfile(info, io.BytesIO(b"\x80\x02}."))
    return buffer.getvalue()


def arrays(write, *values):
    buffer = io.BytesIO()
    write(buffer, *values)
    return buffer.getvalue()


PAGE = b"<!DOCTYPE html><html><head><title>Not now</title></head><body>Later.</body></html>"
INDEX = {"metadata": {}, "weight_map": {"a": "model-00001.safetensors", "b": "model-00002.safetensors"}}
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
INNER = {"archive/data.pkl": b"x", "archive/version": b"3"}
SCRIPT = {"m/data.pkl": b"x", "m/constants.pkl": b"x", "m/code/__torch__.py": b"x"}
FILES = {
    "page": (PAGE, r"a web page \(HTML\)"),
    "page of upper case": (PAGE.upper() + b" " * 9000, "a web page"),
    "page after a byte order mark": (b"\xef\xbb\xbf\r\n \n" + PAGE, "a web page"),
    "page in UTF-16": (PAGE.decode().encode("utf-16"), "a web page"),
    "page after a comment": (b"<!-- a proxy -->\n<HTML lang=de>" + "ü".encode() * 5000, "a web page"),
    "page as XHTML": (b'<?xml version="1.0"?>\n<html xmlns="x">', "a web page"),
    "error of a store": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "XML"),
    "error as JSON": (b'{"error": {"code": 404, "message": "no such file"}}', "JSON, not a checkpoint"),
    "pieces": (json.dumps(INDEX).encode(), r"sharded checkpoint \(model-00001.safetensors, model-00002"),
    "card": (b'{"format": "avsal_jax model 1"}', "card of a model directory, .*: give its folder as --model"),
    "git-lfs": (LFS, "a git-lfs pointer, not the file itself: run git lfs pull"),
    "empty": (b"", "empty: the download failed"),
    "zeros": (bytes(9000), "zeros at its beginning: the download failed"),
    "text": (b"hello world", "a text that begins with 'hello world'"),
    "gzip": (gzip.compress(zipped(INNER)), "compressed by gzip: unpack it"),
    "tar.gz": (gzip.compress(tarred(["a.pt"])), r"compressed by gzip \(a tar in it\): unpack it"),
    "xz": (lzma.compress(b"x" * 99), "compressed by xz: unpack it"),
    "bzip2": (bz2.compress(b"x" * 99), "compressed by bzip2: unpack it"),
    "7z": (b"7z\xbc\xaf\x27\x1c" + bytes(99), "a 7z archive: unpack it"),
    "rar": (b"Rar!\x1a\x07\x00" + bytes(99), "a rar archive: unpack it"),
    "first form": (tarred(TORCH_TAR), "PyTorch's first format, a tar from before 2017"),
    "first form, GNU": (tarred(TORCH_TAR, tarfile.GNU_FORMAT), "PyTorch's first format"),
    "first form, cut": (tarred(TORCH_TAR)[:1600], "PyTorch's first format"),
    "tar of files": (tarred(["m/a.pth", "m/b.pth"]), "a tar archive of m/a.pth, m/b.pth: unpack it"),
    "zip in zip": (zipped({"weights/a.pt": zipped(INNER)}), "a zip file that contains weights/a.pt: unpack"),
    "zip of others": (zipped({"readme.txt": b"x"}), "a zip file of readme.txt, not a checkpoint"),
    "empty zip": (zipped({}), "a zip file of nothing"),
    "cut zip": (zipped(INNER)[:60], "a damaged PyTorch file, cut off"),
    "zip bomb": (zipped(INNER | {"archive/data/0": bytes(30_000_000)}, zipfile.ZIP_DEFLATED),
                 r"a compressed PyTorch file of 30,000,002 bytes, refused"),
    "TorchScript": (zipped(SCRIPT), r"a TorchScript program, which runs code; .*torch.jit.load"),
    "torch.export": (zipped({"a/archive_format": b"pt2", "a/models/model.json": b"{}"}), "of torch.export"),
    "npz": (arrays(lambda f: np.savez(f, a=np.ones(2), b=np.ones(2))), r"NumPy arrays .*a.npy, b"),
    "npy": (arrays(np.save, np.ones(2)), r"a NumPy array \(.npy\)"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(99), r"an HDF5 file \(Keras"),
    "Keras 3": (zipped({"config.json": b"{}", "model.weights.h5": b"x"}), "a Keras model"),
    "Office": (zipped({"[Content_Types].xml": b"x", "word/document.xml": b"x"}), "an Office document"),
    "ONNX": (b"\x08\x07\x12\x07pytorch\x1a\x052.0.0" + bytes(range(256)), "an ONNX model"),
    "tflite": (b"\x1c\x00\x00\x00TFL3" + bytes(99), "a TensorFlow Lite model"),
    "msgpack": (b"\x82\xa6params\x81\xa1w\xc7\x10\x01\x00\x00\xff", "a msgpack file, as Flax writes"),
    "pickle": (pickle.dumps({"w": [1.0]}, 2), "a pickle that torch.save did not write"),
    "pickle 5": (pickle.dumps({"w": [1.0]}, 5), "a pickle that torch.save did not write"),
    "pickle 0": (pickle.dumps({"w": [1.0]}, 0), "a pickle that torch.save did not write"),
    "Lua Torch": (b"\4\0\0\0\1\0\0\0\3\0\0\0V 1\x0d\0\0\0nn.Sequential", "a file of Lua Torch"),
    "PNG": (b"\x89PNG\r\n\x1a\n" + bytes(99), "a PNG picture"),
    "PDF": (b"%PDF-1.7\n%\xe2\xe3", "a PDF document"),
    "mp4": (b"\0\0\0\x20ftypisom" + bytes(99), r"a video \(MP4\)"),
    "noise": (np.random.default_rng(0).bytes(5000), "of an unknown format, neither safetensors nor"),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_what_a_file_is_that_is_no_checkpoint(tmp_path, name):
    content, message = FILES[name]
    (tmp_path / "given.pt").write_bytes(content)
    with pytest.raises(AvsalError, match=rf"given.pt is (.*{message}|{message})") as error:
        read_checkpoint(tmp_path / "given.pt")
    assert "\n" not in str(error.value) and len(str(error.value)) < 400
    with pytest.raises(AvsalError, match="is a file, and a model is a directory; .* avsal convert --system"):
        load_model(tmp_path / "given.pt")


FOLDERS = {
    "a model": (["model.json", "weights.safetensors"], "a model directory already: give it as --model"),
    "SavedModel": (["saved_model.pb"], "a folder of TensorFlow"),
    "TensorFlow's checkpoint": (["checkpoint", "model.ckpt-3.index"], "a folder of TensorFlow"),
    "unpacked": (["data.pkl", "version"], "an unpacked PyTorch file"),
    "of checkpoints": (["b.pth", "a.pt", "log.txt"], "a folder: give one of its files, a.pt, b.pth"),
    "of nothing": ([], "a folder: give a checkpoint file"),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_folders(tmp_path, name, capsys):
    files, message = FOLDERS[name]
    for file in files:
        (tmp_path / file).write_text("x")
    assert main(["convert", "--system", "vinet", "--input", str(tmp_path), "--output", "m"]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_legacy_file_begins_with_the_number_that_torch_writes_first(tmp_path):
    path = tmp_path / "a.pt"
    for number, words in ((0x1950A86A20F9469CFC6C, None), (0x1950A86A20F9469CFC6D, "a.pt is ")):
        path.write_bytes(pickle.dumps(number, 2) + pickle.dumps(1001, 2))
        if words is None:
            assert checkpoint_format(path) == TORCH
            continue
        with pytest.raises(AvsalError, match=words):
            checkpoint_format(path)
