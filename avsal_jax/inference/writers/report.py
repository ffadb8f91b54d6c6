"""`--save report`: one HTML page on a prediction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from avsal_jax.errors import AvsalError
from avsal_jax.inference.output import GREY, IMAGE, MAP, Item, Output
from avsal_jax.registry import register

if TYPE_CHECKING:
    import numpy as np

_PAGE = "report.html"
MOST_PHOTOGRAPHS = 200  # on the page
_THUMBNAIL = 320  # pixels at most, each way


@register("output", "report")
class Report(Output):
    """report.html: pictures with their maps, the mean map, its strength over time, the model, the run."""

    files = (_PAGE,)
    needs = frozenset({IMAGE, MAP})
    needs_of_photographs = frozenset({IMAGE, GREY})
    is_default = True

    def __init__(self, context):
        super().__init__(context)
        self._frames = None
        self._thumbnails: dict[str, tuple[np.ndarray, np.ndarray]] = {}  # of photographs: picture, map
        self._rows: list[tuple[str, np.ndarray, np.ndarray]] = []  # the same in order, by the file's name

    def preview(self, item: Item) -> None:
        """Keeps a photograph's picture and map, small, which then need not be read again."""
        if len(self._thumbnails) < MOST_PHOTOGRAPHS:
            self._thumbnails[item.name] = _small(item)

    def add(self, item: Item) -> None:
        """Records a frame; a photograph, where it is one of the first."""
        if self.context.info is not None:
            self._add_frame(item)
        elif len(self._rows) < MOST_PHOTOGRAPHS:
            try:
                pictures = self._thumbnails.get(item.name) or _small(item)
            except AvsalError:  # a photograph of an earlier run that is damaged by now
                return
            self._rows.append((item.source, *pictures))

    def _add_frame(self, item: Item) -> None:
        from avsal_jax.inference.report_page import ReportCollector

        self._frames = self._frames or ReportCollector()
        self._frames.add(item.time, item.image, item.saliency)

    def finish(self, summary: dict, card: dict) -> None:
        """Writes the page."""
        from avsal_jax.inference.report_page import write_stills_report

        path = self.path(_PAGE)
        if self._frames is not None:
            self._frames.write(path, summary=summary, card=card, envelope=self.context.envelope)
        else:
            write_stills_report(path, self._rows, summary=summary, card=card)


def _small(item: Item) -> tuple[np.ndarray, np.ndarray]:
    """Returns the picture, RGB uint8 [h, w, 3] of at most `_THUMBNAIL` pixels each way, and the map."""
    import numpy as np
    from PIL import Image

    image = item.image
    height, width = image.shape[:2]
    scale = min(1.0, _THUMBNAIL / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    picture = Image.fromarray(image).resize(size, Image.Resampling.BILINEAR, reducing_gap=3.0)
    return np.asarray(picture), item.grey_at(*size[::-1])
