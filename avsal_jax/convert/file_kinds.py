"""Detects the format of a file by its first bytes; for a file that is not a checkpoint, says what to do.

Only file headers and lists of archive members are read; nothing is unpickled, unpacked or imported.
"""

from __future__ import annotations

import json
import pathlib
import re
import struct
import tarfile
import zipfile
import zlib

from avsal_jax.errors import AvsalError

SAFETENSORS, TORCH = "safetensors", "torch"
_HEAD_BYTES = 4096
_MAX_JSON_BYTES = 64_000_000
# The legacy format of `torch.save`, before its zip format, begins with this pickled number.
_LEGACY_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_DOWNLOAD = "the download failed; download the file again, if necessary in a browser"
_UNPACK = "unpack it, and convert the checkpoint in it"
_RESAVE = "load it with the program that wrote it, and save its weights with torch.save or as safetensors"
_TAR_MEMBERS = {"sys_info", "pickle", "storages", "tensors"}
_CHECKPOINT_SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".tar", ".safetensors")
_EXPORTED = {"serialized_exported_program.json", "archive_format"}
_GIT_LFS = "a git-lfs pointer, not the file itself"
_TORCHSCRIPT = (
    "a TorchScript program, which runs code; load it if you trust it, and save its weights: "
    "torch.save(torch.jit.load(FILE).state_dict(), 'weights.pt')"
)
_FIRST_TORCH = (
    "in PyTorch's first format, a tar from before 2017; load it if you trust it, and save it again: "
    "torch.save(torch.load(FILE, weights_only=False), 'again.pt')"
)
_PICKLE = (
    "a pickle that torch.save did not write, and reading it would run code; load it if you trust it, and "
    "save a state dict with torch.save"
)
# First bytes -> what it is, and what to do.
_MAGICS: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file (Keras, or MATLAB 7.3)", _RESAVE),
    (0, b"\x93NUMPY", "a NumPy array (.npy)", _RESAVE),
    (0, b"\xfd7zXZ\x00", "compressed by xz", _UNPACK),
    (0, b"BZh", "compressed by bzip2", _UNPACK),
    (0, b"\x28\xb5\x2f\xfd", "compressed by zstd", _UNPACK),
    (0, b"\x04\x22\x4d\x18", "compressed by lz4", _UNPACK),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (0, b"Rar!\x1a\x07", "a rar archive", _UNPACK),
    (0, b"MATLAB 5.0", "a MATLAB file", _RESAVE),
    (0, b"GGUF", "a GGUF file", _RESAVE),
    (4, b"TFL3", "a TensorFlow Lite model", _RESAVE),
    (0, b"\x89PNG\r\n\x1a\n", "a PNG picture", "give a checkpoint"),
    (0, b"\xff\xd8\xff", "a JPEG picture", "give a checkpoint"),
    (0, b"GIF8", "a GIF picture", "give a checkpoint"),
    (0, b"%PDF", "a PDF document", "give a checkpoint"),
    (4, b"ftyp", "a video (MP4)", "give a checkpoint"),
    (0, b"\x1aE\xdf\xa3", "a video (Matroska)", "give a checkpoint"),
    (0, b"RIFF", "a RIFF file (AVI, WAV or WebP)", "give a checkpoint"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Office document", "give a checkpoint"),
    (0, b"\x7fELF", "a program", "give a checkpoint"),
)
# Patterns in the beginning of a text -> what it is, and what to do.
_TEXTS: tuple[tuple[str, str], ...] = (
    (r"<(!doctype\s+html|html|head|body|script|meta|title)\b", f"a web page (HTML): {_DOWNLOAD}"),
    (r"^<", f"XML, such as an error message of a server: {_DOWNLOAD}"),
    (
        r"^version https://git-lfs",
        f"{_GIT_LFS}: run git lfs pull in its repository, or download the file itself",
    ),
    (r"^(\([dl]p?\d|c[a-z_.]+\s+[a-z_]+\s+p?\d)", _PICKLE),
)


def checkpoint_format(path: pathlib.Path) -> str:
    """Returns `SAFETENSORS` or `TORCH` (zip or legacy) by the header of a file.

    Raises:
      AvsalError: the file cannot be read, or has another format; the message says which and what to do.
    """
    if path.is_dir():
        raise AvsalError(f"{path} is {_folder(path)}")
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
        size = path.stat().st_size
    except OSError as error:
        raise AvsalError(f"cannot read {path}: {error.strerror}") from error
    if head[8:9] == b"{" and head[4:8] == b"\0\0\0\0":  # the length of the header, then the header
        return SAFETENSORS
    if head[:2] == b"PK" and (other := _zip(path, head)) is None:
        return TORCH
    if head[:1] == b"\x80" and _LEGACY_MAGIC in head[:64]:
        return TORCH
    description = other if head[:2] == b"PK" else _other(path, head, size)
    raise AvsalError(f"{path} is {description}")


def _other(path: pathlib.Path, head: bytes, size: int) -> str:
    """Returns a description of a file that is not a checkpoint, and what to do."""
    if not size:
        return f"empty: {_DOWNLOAD}"
    if not head.strip(b"\0"):
        return f"zeros at its beginning: {_DOWNLOAD}"
    return _by_magic(path, head) or _text(path, head, size) or _binary(path, head)


def _by_magic(path: pathlib.Path, head: bytes) -> str | None:
    """Returns a description of a file with a known magic number or of an archive; None for other files."""
    for offset, magic, description, advice in _MAGICS:
        if head[offset:].startswith(magic):
            return f"{description}: {advice}"
    if head[:2] == b"\x1f\x8b":
        inner = _gunzipped(head)
        return f"compressed by gzip{' (a tar in it)' if inner[257:262] == b'ustar' else ''}: {_UNPACK}"
    members = _tar_members(path, head)
    if members is None:
        return None
    return (
        _FIRST_TORCH
        if len(_TAR_MEMBERS & members) > 1
        else (f"a tar archive of {_listing(sorted(members))}: {_UNPACK}")
    )


def _binary(path: pathlib.Path, head: bytes) -> str:
    if head[:1] == b"\x80" and head[1:2] <= b"\x05":
        return _PICKLE
    if head[12:15] == b"V 1" or (head[:4] == b"\4\0\0\0" and b"torch." in head[:64]):
        return f"a file of Lua Torch (.t7): {_RESAVE}"
    if re.match(rb"\x08[\x01-\x20](\x12|\x1a|\x22|\x3a|\x42)", head):  # ir_version, producer_name ...
        name = "a TensorFlow SavedModel" if path.name == "saved_model.pb" else "an ONNX model"
        return f"{name}: {_RESAVE}"
    if re.search(r"\.(index|data-\d+-of-\d+)$", path.name):
        return f"a part of a TensorFlow checkpoint: {_RESAVE}"
    if path.suffix == ".msgpack" or re.match(rb"[\x81-\x8f](?=[\xa1-\xbf])|\xde..(?=[\xa1-\xbf])", head):
        return f"a msgpack file, as Flax writes: {_RESAVE}"
    return "of an unknown format, neither safetensors nor written by torch.save; download it again, or "\
        "check which program wrote it"  # fmt: skip


def _as_text(head: bytes) -> str | None:
    """Returns the beginning of a text file, else None."""
    for mark, encoding in ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"), (b"", "utf-8-sig")):
        if head.startswith(mark):
            text = head.decode(encoding, errors="ignore" if len(head) == _HEAD_BYTES else "replace")
            break
    plain = "".join(text.split())
    return text.strip() if "\ufffd" not in plain and plain.isprintable() and plain else None


def _text(path: pathlib.Path, head: bytes, size: int) -> str | None:
    """Returns a description of a text file; None for other files."""
    text = _as_text(head)
    if text is None:
        return None
    lower = text.lower()
    if lower[0] in "{[":
        return _json(path, text, size)
    for pattern, description in _TEXTS:
        if re.search(pattern, lower):
            return description
    return f"a text that begins with {_quoted(text)}: give a checkpoint"


def _json(path: pathlib.Path, text: str, size: int) -> str:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig")) if size < _MAX_JSON_BYTES else None
    except (ValueError, OSError, RecursionError):
        content = None
    if isinstance(content, dict) and isinstance(content.get("weight_map"), dict):
        files = sorted({str(name) for name in content["weight_map"].values()})
        return f"the index of a sharded checkpoint ({_listing(files)}): merge these into one safetensors file"
    if isinstance(content, dict) and str(content.get("format", "")).startswith("avsal_jax model"):
        return "the card of a model directory, which is converted already: give its folder as --model"
    return f"JSON, not a checkpoint ({_quoted(text)}): if it was downloaded, download the file again"


def _zip(path: pathlib.Path, head: bytes) -> str | None:
    """Returns a description of a zip file that torch.save did not write, and what to do; else None."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (
        zipfile.BadZipFile,
        OSError,
        ValueError,
        struct.error,
        NotImplementedError,
        LookupError,
        EOFError,
    ):
        if b"data.pkl" in head[:128] or b"constants.pkl" in head:
            return f"a damaged PyTorch file, cut off or changed: {_DOWNLOAD}"
        return f"a damaged zip file, cut off or changed: {_DOWNLOAD}"
    names = [entry.filename for entry in entries]
    bases = {name.rpartition("/")[2] for name in names}
    inner = {name.partition("/")[2] for name in names}
    if "data.pkl" in inner and not ("constants.pkl" in inner and any(n.startswith("code/") for n in inner)):
        total = sum(entry.file_size for entry in entries)
        if total <= 10 * path.stat().st_size + 1_000_000:
            return None
        return f"a compressed PyTorch file of {total:,} bytes, refused; save it again with torch.save"
    checkpoints = [name for name in names if name.lower().endswith(_CHECKPOINT_SUFFIXES)]
    kinds = (
        ("constants.pkl" in inner, _TORCHSCRIPT),
        (
            names and all(name.endswith(".npy") for name in names),
            f"NumPy arrays (.npz), {_listing(names)}: {_RESAVE}",
        ),
        ("model.weights.h5" in bases, f"a Keras model: {_RESAVE}"),
        (bases & _EXPORTED, f"a program of torch.export: {_RESAVE}"),
        ("[Content_Types].xml" in names, "an Office document: give a checkpoint"),
        (checkpoints, f"a zip file that contains {_listing(checkpoints)}: {_UNPACK}"),
    )
    description = next((description for holds, description in kinds if holds), None)
    return description or f"a zip file of {_listing(names) or 'nothing'}, not a checkpoint: {_UNPACK}"


def _gunzipped(head: bytes) -> bytes:
    try:
        return zlib.decompressobj(31).decompress(head, 1024)
    except zlib.error:
        return b""


def _tar_members(path: pathlib.Path, head: bytes) -> set[str] | None:
    """Returns the names of the first members of a tar archive; None for other files."""
    first = head.partition(b"\0")[0].decode("ascii", "replace")
    if head[257:262] != b"ustar" and first not in _TAR_MEMBERS:
        return None
    names: set[str] = set()
    try:
        with tarfile.open(path, "r:") as archive:
            while len(names) < 16 and (member := archive.next()) is not None:
                names.add(member.name)
    except (tarfile.TarError, OSError, ValueError, OverflowError, RecursionError, EOFError):
        pass  # truncated; the members read so far identify it
    return names or {first}


def _folder(path: pathlib.Path) -> str:
    try:
        names = {entry.name for entry in path.iterdir()}
    except OSError as error:
        return f"a folder that cannot be read: {error.strerror}"
    if "model.json" in names:
        return "a model directory already: give it as --model"
    if "saved_model.pb" in names or any(name.endswith(".index") for name in names):
        return f"a folder of TensorFlow: {_RESAVE}"
    if "data.pkl" in names:
        return "an unpacked PyTorch file: give the file itself"
    files = sorted(name for name in names if name.lower().endswith(_CHECKPOINT_SUFFIXES))
    if files:
        return f"a folder: give one of its files, {_listing(files)}"
    return "a folder: give a checkpoint file, .pt, .pth or .safetensors"


def _quoted(text: str) -> str:
    first = " ".join(text.split())[:50]
    return repr(first)


def _listing(names: list[str], limit: int = 3) -> str:
    examples = [ascii(name[:60])[1:-1] for name in names[:limit]]
    return ", ".join(examples) + (f" and {len(names) - limit} more" if len(names) > limit else "")
