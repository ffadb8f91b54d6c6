"""Photographs and their results: writes outputs, and logs complete photographs for resumed runs."""

from __future__ import annotations

import functools
import json
import os
import pathlib
import shutil

import numpy as np

from avsal_jax.inference.output import GREY, MAP, Item, written_names
from avsal_jax.inference.outputs import OutputSet
from avsal_jax.inference.settings import Settings
from avsal_jax.media.photographs import PhotographSet, read_photograph
from avsal_jax.pictures import resize_map, to_grey

LOG = "pictures.jsonl"
_RAW = "raw"


class StillResults:
    """The results of photographs in a folder that is not complete yet.

    Args:
      folder: the hidden folder.
      outputs: the outputs in it.
      pictures: all photographs of the run.
      settings: of the prediction.

    `entries` are the lines of the log by the name of the picture; a picture is logged when its files are
    complete.
    """

    def __init__(self, folder: pathlib.Path, outputs: OutputSet, pictures: PhotographSet, settings: Settings):
        self._folder, self._outputs, self._settings = folder, outputs, settings
        self._pictures = pictures.pictures
        self._places = {name: index for index, (name, _) in enumerate(self._pictures)}
        self.entries: dict[str, dict] = {}
        self._at_once = [output for output in outputs if output.has_file_per_picture]
        self._in_order = [output for output in outputs if not output.has_file_per_picture]
        self._shows_grey = any(GREY in output.needs_of(photographs=True) for output in self._at_once)
        self._with_grey = [output for output in outputs if GREY in output.stores]
        later = {need for output in self._in_order for need in output.needs_of(photographs=True)}
        # Grey maps are read from map images, or else computed from raw maps.
        self._keeps_raw = MAP in later or (GREY in later and not self._with_grey)
        if self._keeps_raw:
            (folder / _RAW).mkdir(exist_ok=True)

    def resume(self, identities: dict[str, str]) -> None:
        """Loads the pictures that an interrupted run finished and that are unchanged."""
        path = self._folder / LOG
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            try:
                entry = json.loads(line)
            except ValueError:  # a truncated line
                continue
            if not _is_entry(entry) or identities.get(entry["name"]) != entry["identity"]:
                continue
            if all((self._folder / file).exists() for file in self._files(entry)):
                self.entries[entry["name"]] = entry

    def adopt(self, folder: pathlib.Path, entries: list[dict], identities: dict[str, str]) -> None:
        """Reuses the unchanged pictures of complete results of the same job.

        Args:
          folder: of the results.
          entries: of their summary.
          identities: of the current files, by name of the picture.
        """
        for entry in entries:
            name = entry["name"]
            if name in self.entries or identities.get(name) != entry["identity"]:
                continue
            if not all((folder / file).exists() for file in entry["files"]):
                continue
            if self._keeps_raw:
                raw = self._stored(MAP, folder, name)
                if raw is None:
                    continue
                np.save(self._raw(name), raw)
            for file in entry["files"]:
                _link(folder / file, self._folder / file)
            self._log(entry)

    def add(self, entry: dict, image: np.ndarray, saliency: np.ndarray) -> None:
        """Writes the files of a picture.

        Args:
          entry: for the log; `files` is added.
          image: RGB uint8 [h, w, 3].
          saliency: float32 [H, W] at model size.
        """
        name, size = entry["name"], image.shape[:2]
        grey = self._to_grey(saliency, size) if self._shows_grey else None
        item = Item(
            self._places[name],
            name=name,
            size=size,
            source=entry["source"],
            image=image,
            saliency=saliency,
            grey=grey,
        )
        files = [file for output in self._at_once for file in output.add(item) or ()]
        if self._keeps_raw:
            np.save(self._raw(name), saliency.astype(np.float16))
        for output in self._in_order:
            output.preview(item)
        self._log({**entry, "files": files})

    def complete(self) -> None:
        """Adds all pictures, in order, to the outputs whose files cover several; closes all outputs."""
        self._sweep()
        for index, (name, path) in enumerate(self._pictures):
            if name in self.entries and self._in_order:
                item = self._stored_item(index, name, path)
                for output in self._in_order:
                    output.add(item)
        self._outputs.close()

    def clear(self) -> None:
        """Removes the files that only a resumed run needs."""
        shutil.rmtree(self._folder / _RAW, ignore_errors=True)
        (self._folder / LOG).unlink(missing_ok=True)

    def _stored_item(self, index: int, name: str, path: pathlib.Path) -> Item:
        """Returns a picture with its stored map, which is read on demand."""
        entry = self.entries[name]
        size = entry["height"], entry["width"]
        raw = functools.cache(lambda: np.load(self._raw(name)).astype(np.float32))

        def grey():
            is_stored = bool(self._with_grey)
            return self._stored(GREY, self._folder, name) if is_stored else self._to_grey(raw(), size)

        return Item(
            index,
            name=name,
            size=size,
            source=path.name,
            image=lambda: read_photograph(path).image,
            saliency=raw if self._keeps_raw else None,
            grey=grey,
        )

    def _stored(self, kind: str, folder: pathlib.Path, name: str) -> np.ndarray | None:
        """Returns a map from the files of an output in a folder of results, or None."""
        outputs = (output for output in self._outputs if kind in output.stores)
        arrays = (output.stored(folder, name) for output in outputs)
        return next((array for array in arrays if array is not None), None)

    def _to_grey(self, saliency: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        return to_grey(resize_map(saliency, *size), self._settings.postprocess)

    def _raw(self, name: str) -> pathlib.Path:
        return self._folder / _RAW / f"{name}.npy"

    def _log(self, entry: dict) -> None:
        with (self._folder / LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        self.entries[entry["name"]] = entry

    def _files(self, entry: dict) -> list[str]:
        return [*entry["files"], *([f"{_RAW}/{entry['name']}.npy"] if self._keeps_raw else [])]

    def _sweep(self) -> None:
        """Removes files of pictures that failed or are no longer in the run."""
        complete = {self._folder / file for entry in self.entries.values() for file in self._files(entry)}
        for folder in (_RAW, *(file for output in self._at_once for file in output.files)):
            for path in (self._folder / folder).rglob("*") if (self._folder / folder).is_dir() else ():
                if path not in complete and not path.is_dir():
                    path.unlink()


def entries_of(summary: dict) -> list[dict]:
    """Returns the entries of a summary of photographs; [] if it is damaged."""
    entries = summary.get("pictures")
    return entries if isinstance(entries, list) and all(map(_is_entry, entries)) else []


def _is_entry(entry) -> bool:
    """Whether a value from a file is a valid entry, with files in the folder of the results."""
    if not isinstance(entry, dict) or not isinstance(entry.get("files"), list):
        return False
    texts = [entry.get("name"), entry.get("identity"), *entry["files"]]
    sizes = (entry.get("height"), entry.get("width"))
    if not all(isinstance(text, str) for text in texts) or not all(isinstance(side, int) for side in sizes):
        return False
    names = written_names()
    parts = [file.split("/") for file in entry["files"]]
    return all(first in names and ".." not in rest for first, *rest in parts)


def _link(source: pathlib.Path, target: pathlib.Path) -> None:
    """Links a file into another folder; copies it if the file system has no hard links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
