"""Results printed in papers: every row of their tables, read from `published.csv` in this folder.

`Row.key` names a row of a table, such as `avinet:2:ViNet(T=8)`. Rows of training configs (`recipes.Row`) name
their figures by these keys.

Names of papers, as in `Row.paper` and after @ in the name of a method:

- `avinet`: Jain, Yarlagadda, Jyoti, Karthik, Subramanian, Gandhi, "ViNet: Pushing the limits of visual
  modality for audio-visual saliency prediction" (IROS 2021); the tables of the preprint called "AViNet".
- `dual_domain`: Fan, Han, Zhang, Cheng, Xia, et al., "Dual domain-adversarial learning for audio-visual
  saliency prediction" (HCMA 2022, doi 10.1145/3552458.3556447).
- `casp_net`: Xiong, Wang, Zhang, Huang, Zha, Zhai, "CASP-Net: Rethinking video saliency prediction from an
  audio-visual consistency perceptual perspective" (CVPR 2023).
- `avrsp`: Yu, Sun, Gao, Gabbouj, "Relevance-guided audio visual fusion for video saliency prediction"
  (preprint).

Values are as printed, including misprints, which have a note. Papers may print different values for the same
method.
"""

from __future__ import annotations

import csv
import dataclasses
import difflib
import functools
import importlib.resources
from collections.abc import Mapping, Sequence

from avsal_jax import registry
from avsal_jax.errors import AvsalError, did_you_mean

PAPERS = ("avinet", "casp_net", "avrsp", "dual_domain")


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
      dataset: as `avsal evaluate --dataset` calls it; `ave:nature`, `ave:social` and `ave:miscellaneous` are
        the categories of AVE; `nature` is a domain of the dual domain-adversarial paper; `six_sets` is a mean
        that the paper prints.
      split: `test`, or `val` where the paper says that it validates.
      method, variant: what was evaluated; `label` joins them.
      printed: the row's label in the paper.
      paper: one of `PAPERS`.
      table, section: its number in the paper; a section for figures that are only in the text, else a table.
      pretraining: the saliency set on which the weights were pre-trained: `dhf1k`, `none`, or empty if the
        paper does not report it or it does not apply.
      note: misprints and conditions.
      printed_values: metric -> value as printed, such as `0.900`; without those that are not printed.
    """

    dataset: str
    split: str
    method: str
    variant: str
    printed: str
    paper: str
    table: str
    section: str
    pretraining: str
    note: str
    printed_values: dict[str, str]

    @property
    def metrics(self) -> dict[str, float]:
        """The printed values as numbers, by metric."""
        return {name: float(text) for name, text in self.printed_values.items()}

    @property
    def label(self) -> str:
        """The method with its variant, such as `AViNet(B)`."""
        return f"{self.method}({self.variant})" if self.variant else self.method

    @property
    def source(self) -> str:
        """The paper and its table or section, such as `avinet, Table 4`."""
        return f"{self.paper}, Table {self.table}" if self.table else f"{self.paper}, Section {self.section}"

    @property
    def key(self) -> str:
        """The paper, the table or section, and the label: `avinet:4:AViNet(B)`, on each set of the table."""
        return f"{self.paper}:{self.table or self.section}:{self.label}"

    @property
    def figures(self) -> str:
        """The printed values with titles, in the order of the table of metrics: `CC 0.5112, SIM 0.378`."""
        metrics = registry.table("metric").items()
        values = self.printed_values
        return ", ".join(f"{metric.title} {values[name]}" for name, metric in metrics if name in values)


def categories(dataset: str) -> Mapping[str, str]:
    """Returns category of videos -> `Row.dataset` of its printed rows; empty for a set without categories."""
    row = registry.lookup("dataset", dataset)
    return {} if row is None else row.categories


@functools.cache
def _all() -> tuple[Row, ...]:
    text = importlib.resources.files("avsal_jax").joinpath("published.csv").read_text("utf-8")
    reader, table = csv.DictReader(text.splitlines()), []
    columns = {field.name for field in dataclasses.fields(Row)}
    metrics = [name for name in reader.fieldnames if name not in columns]
    for record in reader:
        printed = {metric: record.pop(metric) for metric in metrics}
        table.append(Row(**record, printed_values={name: text for name, text in printed.items() if text}))
    return tuple(table)


def rows(dataset: str | None = None, method: str | None = None, paper: str | None = None) -> tuple[Row, ...]:
    """Returns the rows of a set, a method and a paper, in the order of the tables; None selects all.

    Args:
      method: with its variant (`AViNet(B)`), or without: all its variants.
    """
    return tuple(
        row
        for row in _all()
        if dataset in (None, row.dataset)
        and method in (None, row.label, row.method)
        and paper in (None, row.paper)
    )


def rows_of_key(key: str) -> tuple[Row, ...]:
    """Returns the rows that a key names, in the order of the table.

    Args:
      key: such as `avinet:4:AViNet(B)`, for each set of the table, or `avinet:4:AViNet(B):diem`, for one set.

    Raises:
      AvsalError: no row has this key (with the nearest key).
    """
    matches = tuple(row for row in _all() if key in (row.key, f"{row.key}:{row.dataset}"))
    if not matches:
        keys = dict.fromkeys(row.key for row in _all())
        raise AvsalError(f"no published row has the key {key!r}{did_you_mean(key, keys)}")
    return matches


def method_rows(name: str) -> tuple[Row, ...]:
    """Returns one row for each set of a method, all from one paper.

    Args:
      name: such as `AViNet(B)`, or `STAViS(AV)@avrsp` for the rows of one paper. Without @, the paper that
        prints most values of the method, and the first of these in `PAPERS` if several do. A key, see
        `rows_of_key`, selects the rows of one table: `avinet:2:ViNet(T=16)`.

    Raises:
      AvsalError: there is no such method, paper or key.
    """
    if name.partition(":")[0] in PAPERS:
        return _first_rows(rows_of_key(name))
    method, _, paper = name.partition("@")
    labels = {row.label.casefold(): row.label for row in _all()}
    if method.casefold() not in labels:
        raise AvsalError(_unknown(method, list(labels.values())))
    method = labels[method.casefold()]
    by_paper = {key: [r for r in rows(method=method, paper=key) if r.label == method] for key in PAPERS}
    by_paper = {key: table for key, table in by_paper.items() if table}
    if not paper:
        paper = max(by_paper, key=lambda key: sum(len(row.metrics) for row in by_paper[key]))
    if paper not in by_paper:
        raise AvsalError(f"published:{name}: {method} is printed by {', '.join(by_paper)}, not by {paper!r}")
    return _first_rows(by_paper[paper])


def _first_rows(table: Sequence[Row]) -> tuple[Row, ...]:
    """Returns the first row of each set and split."""
    return tuple({(row.dataset, row.split): row for row in reversed(table)}.values())[::-1]


def _unknown(method: str, names: list[str]) -> str:
    lowered = {name.casefold(): name for name in names}
    close = sorted({row.label for row in _all() if row.method.casefold() == method.casefold()})
    close = close or [lowered[key] for key in difflib.get_close_matches(method.casefold(), lowered, 3, 0.4)]
    hint = f"did you mean {' or '.join(close)}?" if close else "such as AViNet(B), CASP-Net(AV) or AVRSP(AV)"
    return f"no paper here prints a method {method!r}; {hint}"
