"""The row of the generated set; the modules that write it are imported when it is written."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterable, Mapping

from avsal_jax.data.sets.dataset import SPLITS, DataSet, Generator
from avsal_jax.data.sets.packagings.stavis import Stavis
from avsal_jax.data.sets.raw_fixations import RawFixations, people_of_folders
from avsal_jax.media.cues import BLUR
from avsal_jax.registry import register
from avsal_jax.synthetic.settings import SyntheticSettings, settings_from

NAME = "synthetic"
FOLDER = NAME  # in the packaging


class SyntheticGenerator(Generator):
    """Writes the set in the packaging of STAViS, with a contact sheet."""

    def settings(self, values: Mapping[str, str]) -> SyntheticSettings:
        return settings_from(values)

    def write(
        self,
        root: pathlib.Path,
        settings: SyntheticSettings,
        progress: Callable[[Iterable], Iterable] = iter,
        workers: int | None = None,
    ) -> None:
        from avsal_jax.synthetic.sheet import contact_sheet
        from avsal_jax.synthetic.writing import write_synthetic

        write_synthetic(root, settings, progress=progress, workers=workers)
        contact_sheet(root, root / "contact_sheet.png")


register("dataset", NAME)(
    DataSet(
        title="The synthetic data set",
        about="a generated set with sound that decides which of several moving objects observers look at",
        packaging=Stavis(folder=FOLDER),
        fps=25.0,
        splits=SPLITS,
        licence="that of this program, which generates it",
        source="avsal prepare writes it",
        observers=RawFixations(people_of_folders, blur=BLUR),
        generator=SyntheticGenerator(),
    )
)
