"""Files of photographs: maps, overlays, raw maps and the report, and a log of the complete ones."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
import zipfile
import zlib

import numpy as np
from PIL import Image

from avsal_jax.data.photographs import PhotographSet, read_photograph
from avsal_jax.errors import AvsalError
from avsal_jax.inference.report import write_stills_report
from avsal_jax.inference.result_folders import NAMES, OVERLAY, OVERLAYS
from avsal_jax.inference.settings import Settings
from avsal_jax.pictures import overlay, resize_map, to_grey

LOG = "pictures.jsonl"
ROWS = 200  # photographs in the report
_THUMBNAIL = 320  # pixels at most, each way
_RAW = "raw"
_LARGEST_JPEG = 65_500  # pixels each way
_QUALITY = 90


class StillResults:
    """What is written of photographs into a folder that is not complete yet.

    Args:
      folder: the hidden folder.
      settings: of the prediction.
      is_single: whether it is of one photograph, with the names of a video of one frame.

    `entries` are the lines of the log by the name of the picture, which is in it once its files are complete.
    """

    def __init__(self, folder: pathlib.Path, settings: Settings, is_single: bool):
        self._folder, self._settings, self._is_single = folder, settings, is_single
        self.entries: dict[str, dict] = {}
        self._rows: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        save = settings.save
        # The report of the next run is drawn from the map images, or else from the raw maps.
        self._keeps_raw = "npz" in save or ("report" in save and "maps" not in save)
        kinds = {"maps": "maps" in save, OVERLAYS: "overlay" in save and not is_single, _RAW: self._keeps_raw}
        for name in (name for name, is_wanted in kinds.items() if is_wanted):
            (folder / name).mkdir(exist_ok=True)

    def resume(self, identities: dict[str, str]) -> None:
        """Takes over the pictures that an interrupted run finished, and that have not changed since."""
        path = self._folder / LOG
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            try:
                entry = json.loads(line)
            except ValueError:  # the end of a line that was cut off
                continue
            if not _is_entry(entry) or identities.get(entry["name"]) != entry["identity"]:
                continue
            if all((self._folder / file).exists() for file in self._files(entry)):
                self.entries[entry["name"]] = entry

    def adopt(self, output: pathlib.Path, entries: list[dict], identities: dict[str, str]) -> None:
        """Takes over the unchanged pictures of complete results of the same job."""
        with contextlib.ExitStack() as stack:
            raw = {}
            if self._keeps_raw:
                try:
                    raw = stack.enter_context(np.load(output / NAMES["npz"], allow_pickle=False))
                except (OSError, ValueError, zipfile.BadZipFile):
                    return
            for entry in entries:
                name = entry["name"]
                if name in self.entries or identities.get(name) != entry["identity"]:
                    continue
                is_there = all((output / file).exists() for file in entry["files"])
                if not is_there or (self._keeps_raw and name not in raw):
                    continue
                for file in entry["files"]:
                    _link(output / file, self._folder / file)
                if self._keeps_raw:
                    np.save(self._folder / _RAW / f"{name}.npy", raw[name])
                self._log(entry)

    def add(self, entry: dict, image: np.ndarray, saliency: np.ndarray) -> None:
        """Writes the files of a picture.

        Args:
          entry: for the log; `files` is added.
          image: RGB uint8 [h, w, 3].
          saliency: float32 [H, W] at model size.
        """
        name, save, files = entry["name"], self._settings.save, []
        if "maps" in save or "overlay" in save:
            grey = to_grey(resize_map(saliency, *image.shape[:2]), self._settings.postprocess)
        if "maps" in save:
            files.append(f"maps/{name}.png")
            options = {"compress_level": 1, "compress_type": zlib.Z_RLE}
            Image.fromarray(grey).save(self._new(files[-1]), **options)
        if "overlay" in save:
            suffix = "png" if max(image.shape) > _LARGEST_JPEG else "jpg"
            file = f"{OVERLAY}.{suffix}" if self._is_single else f"{OVERLAYS}/{name}.{suffix}"
            files.append(file)
            Image.fromarray(overlay(image, grey)).save(self._new(file), quality=_QUALITY)
        if self._keeps_raw:
            np.save(self._folder / _RAW / f"{name}.npy", saliency.astype(np.float16))
        if "report" in save and len(self._rows) < ROWS:
            thumbnail = _thumbnail(image)
            self._rows[name] = thumbnail, to_grey(resize_map(saliency, *thumbnail.shape[:2]))
        self._log({**entry, "files": files})

    def finish(self, pictures: PhotographSet, summary: dict, card: dict) -> None:
        """Writes what is about all pictures."""
        save = self._settings.save
        self._sweep()
        if "npz" in save:
            self._write_npz([name for name, _ in pictures.pictures if name in self.entries])
        if "report" in save:
            rows = self._report_rows(pictures)
            write_stills_report(self._folder / NAMES["report"], rows, summary=summary, card=card)
        shutil.rmtree(self._folder / _RAW, ignore_errors=True)
        (self._folder / LOG).unlink(missing_ok=True)

    def _new(self, file: str) -> pathlib.Path:
        """Returns the path of a file to write, which may have been a link to one of an earlier run."""
        path = self._folder / file
        path.unlink(missing_ok=True)
        return path

    def _log(self, entry: dict) -> None:
        with (self._folder / LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        self.entries[entry["name"]] = entry

    def _files(self, entry: dict) -> list[str]:
        return [*entry["files"], *([f"{_RAW}/{entry['name']}.npy"] if self._keeps_raw else [])]

    def _sweep(self) -> None:
        """Removes files of pictures that failed or are not asked for any more."""
        complete = {self._folder / file for entry in self.entries.values() for file in self._files(entry)}
        for folder in ("maps", OVERLAYS, _RAW):
            for path in (self._folder / folder).glob("*"):
                if path not in complete:
                    path.unlink()

    def _write_npz(self, names: list[str]) -> None:
        """One array for each picture by its name; of a single one `maps` [1, H, W], as of a video."""
        with zipfile.ZipFile(
            self._folder / NAMES["npz"], "w", zipfile.ZIP_DEFLATED, compresslevel=1
        ) as archive:
            for name in names:
                saliency = np.load(self._folder / _RAW / f"{name}.npy")
                key, array = ("maps", saliency[None]) if self._is_single else (name, saliency)
                with archive.open(f"{key}.npy", "w") as file:
                    np.lib.format.write_array(file, array, allow_pickle=False)

    def _report_rows(self, pictures: PhotographSet) -> list[tuple[str, np.ndarray, np.ndarray]]:
        """Returns (file name, picture, map), both small, of the first pictures."""
        rows = []
        for name, path in pictures.pictures:
            if len(rows) == ROWS:
                break
            if name not in self.entries:
                continue
            if name not in self._rows:  # of an earlier run
                try:
                    thumbnail = _thumbnail(read_photograph(path).image)
                except AvsalError:
                    continue
                self._rows[name] = thumbnail, self._small_map(name, thumbnail.shape[:2])
            rows.append((path.name, *self._rows[name]))
        return rows

    def _small_map(self, name: str, size: tuple[int, int]) -> np.ndarray:
        if self._keeps_raw:
            return to_grey(resize_map(np.load(self._folder / _RAW / f"{name}.npy"), *size))
        with Image.open(self._folder / "maps" / f"{name}.png") as image:
            return np.asarray(image.resize(size[::-1], Image.Resampling.BILINEAR))


def entries_of(summary: dict) -> list[dict]:
    """Returns the entries of a summary of photographs; none where it was damaged."""
    entries = summary.get("pictures")
    return entries if isinstance(entries, list) and all(map(_is_entry, entries)) else []


def _is_entry(entry) -> bool:
    """Whether a value out of a file is an entry, with files in the folder of the results."""
    if not isinstance(entry, dict) or not isinstance(entry.get("files"), list):
        return False
    texts = [entry.get("name"), entry.get("identity"), *entry["files"]]
    return all(isinstance(text, str) for text in texts) and all(
        file.startswith(("maps/", f"{OVERLAYS}/", f"{OVERLAY}.")) and ".." not in file.split("/")
        for file in entry["files"]
    )


def _thumbnail(image: np.ndarray) -> np.ndarray:
    """Returns RGB uint8 [h, w, 3] with its aspect ratio, at most `_THUMBNAIL` pixels each way."""
    height, width = image.shape[:2]
    scale = min(1.0, _THUMBNAIL / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR, reducing_gap=3.0))


def _link(source: pathlib.Path, target: pathlib.Path) -> None:
    """Makes a file appear in another folder, without a copy where the disk can."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
