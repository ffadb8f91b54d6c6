"""The base of what `avsal predict --save NAME` writes.

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
    """What an output is made with.

    Attributes:
      folder: for its files. It is hidden, and moves to its place when all outputs are complete.
      settings: of the prediction.
      info: of the video; None for photographs.
      sound: the file whose sound goes with the video, or None.
      envelope: returns (seconds, largest amplitude around each) of that sound, float64 [n] each; raises
        AvsalError where it cannot be decoded. None where there is no sound.
      is_single: whether it is one photograph, whose results have the names of a video of one frame.
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
      name: of its files: `000001` of the first frame; of a photograph its own.
      source: the name of the photograph's file; '' for a frame.
      size: (height, width) of the frame.
      pts: in the time base of the video.
      time: seconds.
      features: what the network recorded, for outputs that need features; else None.

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
        """The frame: RGB uint8 [h, w, 3]; None where no output needs it."""
        return _value(self._image)

    @functools.cached_property
    def saliency(self) -> np.ndarray | None:
        """The map: float32 [H, W] at the size of the model; None for a frame between those with a map."""
        return _value(self._saliency)

    @functools.cached_property
    def grey(self) -> np.ndarray | None:
        """The map: uint8 [h, w] at the size of the frame; None where no output needs it."""
        return _value(self._grey)

    def grey_at(self, height: int, width: int) -> np.ndarray:
        """Returns the map as uint8 [height, width], from its minimum to its maximum, for a small picture."""
        import numpy as np
        from PIL import Image

        from avsal_jax.pictures import resize_map, to_grey

        if self.saliency is not None:
            return to_grey(resize_map(self.saliency, height, width))
        return np.asarray(Image.fromarray(self.grey).resize((width, height), Image.Resampling.BILINEAR))


class Output:
    """Files that a prediction leaves; registered by the name that `--save` takes.

    `add` is called for each frame, in order, by a thread of the output's own. Photographs are given to an
    output that `has_file_per_picture` as soon as they are predicted; to any other in order, when all are
    predicted, with maps that were rounded to float16. An interrupted run of photographs continues: those
    that are done already are not predicted again, and all files that are about several are written again.

    Attributes:
      files: the names in the results' folder that it may write, files and folders; the first one exists
        where a video's results are complete.
      needs: of `map` (at the size of the model), `grey` (the map as uint8 at the size of the frame), `image`
        and `features` (of the few frames that `--feature-frames` chooses, which are then the only ones).
      needs_of_photographs: the same for photographs, where it differs.
      is_default: whether `avsal predict` writes it without `--save`.
      every_frame: whether it also takes the frames between those that have a map (`--frame-step`); their
        `grey` is that of the map before.
      has_file_per_picture: whether `add` writes files of one photograph, and returns their names.
      stores: of `map` and `grey`, what `stored` reads from its files of photographs.
      notes: what is unusual about the files, a line each; complete after `close`.
      figures: what it adds to `summary.json`; complete after `close`.
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
            raise AvsalError(f"{cls.__name__} is an output without `files`: name what it writes")
        for need in (*cls.needs, *(cls.needs_of_photographs or ())):
            if need not in NEEDS:
                raise AvsalError(
                    f"{cls.__name__} needs {need!r}{did_you_mean(need, NEEDS)}; an output can need "
                    f"{', '.join(NEEDS)}"
                )

    def __init__(self, context: Context):
        self.context = context

    def path(self, file: str) -> pathlib.Path:
        """Returns where to write a new file, as `maps/000001.png`; makes its folder."""
        path = self.context.folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)  # it may be a link to a file of complete results
        return path

    def add(self, item: Item) -> Sequence[str] | None:
        """Takes the next frame or photograph.

        Returns:
          The files of this photograph, where it `has_file_per_picture`; they are relative to the folder.
        """
        raise NotImplementedError(f"{type(self).__name__} has no `add`")

    def preview(self, item: Item) -> None:
        """Is called when a photograph is predicted, ahead of `add`; for what is better computed then."""

    def close(self, ok: bool) -> None:
        """Completes the files, or where something went wrong (`ok` is False) releases them."""

    def finish(self, summary: dict, card: dict) -> None:
        """Is called last, where all went well: for a page about the run.

        Args:
          summary: the content of `summary.json`.
          card: of the model.
        """

    def stored(self, folder: pathlib.Path, name: str) -> np.ndarray | None:
        """Returns what the output `stores` of a photograph in a folder of results, or None.

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
        """Returns what it needs of a video, or of photographs."""
        return cls.needs if not photographs or cls.needs_of_photographs is None else cls.needs_of_photographs


def _value(value):
    return value() if callable(value) else value


def default_outputs() -> tuple[str, ...]:
    """Returns the names of what is written without `--save`, sorted: a rerun compares them."""
    return tuple(sorted(name for name, cls in registry.table("output").items() if cls.is_default))


def chosen_outputs(save: Sequence[str], features: bool) -> dict[str, type[Output]]:
    """Returns the outputs of `--save` by name: those that need features, or those that do not."""
    classes = {name: registry.find("output", name) for name in save}
    return {name: cls for name, cls in classes.items() if (FEATURES in cls.needs) == features}


def written_names() -> list[str]:
    """Returns the names in a folder of results that registered outputs may write."""
    return [file for cls in registry.table("output").values() for file in cls.files]
