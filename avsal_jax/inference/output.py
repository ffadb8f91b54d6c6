"""The base class of the outputs of `avsal predict --save NAME`.

@register("output", "centre")
class Centre(Output):
    files = ("centre.csv",)
    needs = frozenset({"map"})

    def add(self, item): ...
    def close(self, ok): ...
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from avsal_jax import registry
from avsal_jax.errors import AvsalError, did_you_mean

if TYPE_CHECKING:  # outputs are read for `--help`, without numpy
    import pathlib

    import numpy as np

    from avsal_jax.inference.features import Recorded
    from avsal_jax.inference.settings import Settings
    from avsal_jax.media.video import VideoInfo

MAP, GREY, IMAGE, FEATURES = "map", "grey", "image", "features"
NEEDS = (MAP, GREY, IMAGE, FEATURES)


@dataclasses.dataclass(frozen=True)
class Context:
    """The arguments of an output.

    Attributes:
      folder: for its files. It is hidden; its content is moved into place when all outputs are complete.
      settings: of the prediction.
      info: of the video; None for photographs.
      sound: the file with the video's sound, or None.
      envelope: returns (seconds, largest amplitude around each) of that sound, float64 [n] each; raises
        AvsalError if it cannot be decoded. None without sound.
      is_single: whether it is one photograph, whose results have the names of a one-frame video.
    """

    folder: pathlib.Path
    settings: Settings
    info: VideoInfo | None = None
    sound: pathlib.Path | None = None
    envelope: Callable | None = None
    is_single: bool = False


class Item:
    """A frame of a video, or a photograph, with its map.

    Attributes:
      index: from 0, in the video or among the photographs.
      name: of its files: `000001` for the first frame; for a photograph, its name.
      source: the name of the photograph's file; '' for a frame.
      size: (height, width) of the frame.
      pts: in the time base of the video.
      time: seconds.
      features: recorded by the network, for outputs that need features; else None.

    Args:
      image, saliency, grey: values of the properties, or functions that return them.
    """

    def __init__(
        self,
        index: int,
        name: str,
        size: tuple[int, int],
        *,
        source: str = "",
        pts: int = 0,
        time: float = 0.0,
        image: np.ndarray | Callable | None = None,
        saliency: np.ndarray | Callable | None = None,
        grey: np.ndarray | Callable | None = None,
        features: Recorded | None = None,
    ):
        self.index, self.name, self.size, self.source = index, name, size, source
        self.pts, self.time, self.features = pts, time, features
        self._image, self._saliency, self._grey = image, saliency, grey

    @functools.cached_property
    def image(self) -> np.ndarray | None:
        """The frame: RGB uint8 [h, w, 3]; None if no output needs it."""
        return _value(self._image)

    @functools.cached_property
    def saliency(self) -> np.ndarray | None:
        """The map: float32 [H, W] at the size of the model; None for a frame between those with a map."""
        return _value(self._saliency)

    @functools.cached_property
    def grey(self) -> np.ndarray | None:
        """The map: uint8 [h, w] at the size of the frame; None if no output needs it."""
        return _value(self._grey)

    def grey_at(self, height: int, width: int) -> np.ndarray:
        """Returns the map as uint8 [height, width], stretched to its range, for a small picture."""
        import numpy as np
        from PIL import Image

        from avsal_jax.pictures import resize_map, to_grey

        if self.saliency is not None:
            return to_grey(resize_map(self.saliency, height, width))
        return np.asarray(Image.fromarray(self.grey).resize((width, height), Image.Resampling.BILINEAR))


class Output:
    """Files of a prediction; registered by the name for `--save`.

    `add` is called for each frame, in order, in a separate thread for each output. If an output
    `has_file_per_picture`, photographs are added as soon as they are predicted. Otherwise they are added in
    order when all are predicted, with maps that were rounded to float16. An interrupted run of photographs
    can be resumed: finished photographs are skipped, and files about several photographs are written again.

    Attributes:
      files: the names of files and folders that it may write in the results' folder; the first one exists if
        a video's results are complete.
      needs: some of `map` (at the size of the model), `grey` (the map as uint8 at the size of the frame),
        `image` and `features`. An output that needs `features` gets only the frames of `--feature-frames`.
      needs_of_photographs: the same for photographs, if it differs.
      is_default: whether `avsal predict` writes it without `--save`.
      every_frame: whether it also takes the frames between those that have a map (`--frame-step`); their
        `grey` is that of the previous map.
      has_file_per_picture: whether `add` writes files of one photograph, and returns their names.
      stores: which of `map` and `grey` the method `stored` reads from its files of photographs.
      notes: lines on what is unusual about the files; complete after `close`.
      figures: entries for `summary.json`; complete after `close`.
    """

    files: ClassVar[tuple[str, ...]] = ()
    needs: ClassVar[frozenset[str]] = frozenset({MAP})
    needs_of_photographs: ClassVar[frozenset[str] | None] = None
    is_default: ClassVar[bool] = False
    every_frame: ClassVar[bool] = False
    has_file_per_picture: ClassVar[bool] = False
    stores: ClassVar[frozenset[str]] = frozenset()
    notes: tuple[str, ...] = ()
    figures: Mapping[str, object] = {}

    def __init_subclass__(cls, **options):
        super().__init_subclass__(**options)
        if not cls.files:
            raise AvsalError(f"{cls.__name__} is an output without `files`: list the names that it writes")
        for need in (*cls.needs, *(cls.needs_of_photographs or ())):
            if need not in NEEDS:
                raise AvsalError(
                    f"{cls.__name__} needs {need!r}{did_you_mean(need, NEEDS)}; an output can need "
                    f"{', '.join(NEEDS)}"
                )

    def __init__(self, context: Context):
        self.context = context

    def path(self, file: str) -> pathlib.Path:
        """Returns the path of a new file, such as `maps/000001.png`; creates its folder."""
        path = self.context.folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)  # it may be a link to a file of complete results
        return path

    def add(self, item: Item) -> Sequence[str] | None:
        """Takes the next frame or photograph.

        Returns:
          The files of this photograph relative to the folder, if the output `has_file_per_picture`.
        """
        raise NotImplementedError(f"{type(self).__name__} has no `add`")

    def preview(self, item: Item) -> None:
        """Called when a photograph is predicted, before `add`, for work that needs the picture in memory."""

    def close(self, ok: bool) -> None:
        """Completes the files; after an error (`ok` is False), only releases them."""

    def finish(self, summary: dict, card: dict) -> None:
        """Called last if the run succeeded, for a page about the run.

        Args:
          summary: the content of `summary.json`.
          card: of the model.
        """

    def stored(self, folder: pathlib.Path, name: str) -> np.ndarray | None:
        """Returns the map of a photograph that the output `stores` in a folder of results, or None.

        Args:
          folder: of its files.
          name: of the photograph.
        """
        return None

    @classmethod
    def message(cls, summary: dict, folder: pathlib.Path) -> str | None:
        """Returns a line for the terminal about complete results, or None."""
        return None

    @classmethod
    def needs_of(cls, photographs: bool) -> frozenset[str]:
        """Returns its needs for a video, or for photographs."""
        return cls.needs if not photographs or cls.needs_of_photographs is None else cls.needs_of_photographs


def _value(value):
    return value() if callable(value) else value


def default_outputs() -> tuple[str, ...]:
    """Returns the names of the default outputs, sorted, because a rerun compares them."""
    return tuple(sorted(name for name, cls in registry.table("output").items() if cls.is_default))


def frame_outputs(save: Sequence[str]) -> dict[str, type[Output]]:
    """Returns the outputs of `--save` that get every frame or photograph, by name."""
    return {name: cls for name, cls in _outputs(save).items() if FEATURES not in cls.needs}


def feature_outputs(save: Sequence[str]) -> dict[str, type[Output]]:
    """Returns the outputs of `--save` that get only the frames of `--feature-frames`, by name."""
    return {name: cls for name, cls in _outputs(save).items() if FEATURES in cls.needs}


def _outputs(save: Sequence[str]) -> dict[str, type[Output]]:
    return {name: registry.find("output", name) for name in save}


def written_names() -> list[str]:
    """Returns the names in a folder of results that registered outputs may write."""
    return [file for cls in registry.table("output").values() for file in cls.files]
