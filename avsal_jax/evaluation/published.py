"""Results printed in papers: every row of their tables, read from `published.csv` in this folder.

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
from collections.abc import Mapping

from avsal_jax import registry
from avsal_jax.errors import AvsalError

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
      paper, table: where it is printed.
      pretraining: the saliency set on which the weights were pre-trained: `dhf1k`, `none`, or empty if the
        paper does not report it or it does not apply.
      metrics: name -> value, only for printed values.
      note: misprints and conditions.
    """

    dataset: str
    split: str
    method: str
    variant: str
    printed: str
    paper: str
    table: str
    pretraining: str
    metrics: dict[str, float]
    note: str

    @property
    def label(self) -> str:
        """The method with its variant, such as `AViNet(B)`."""
        return f"{self.method}({self.variant})" if self.variant else self.method

    @property
    def source(self) -> str:
        """The paper and its table, such as `avinet, Table 4`."""
        return f"{self.paper}, Table {self.table}"


def categories(dataset: str) -> Mapping[str, str]:
    """Returns category of videos -> `Row.dataset` of its printed rows; empty for a set without categories."""
    row = registry.lookup("dataset", dataset)
    return {} if row is None else row.categories


@functools.cache
def _all() -> tuple[Row, ...]:
    text = importlib.resources.files("avsal_jax.evaluation").joinpath("published.csv").read_text("utf-8")
    reader, table = csv.DictReader(text.splitlines()), []
    columns = {field.name for field in dataclasses.fields(Row)}
    metrics = [name for name in reader.fieldnames if name not in columns]
    for record in reader:
        printed = {metric: record.pop(metric) for metric in metrics}
        table.append(Row(**record, metrics={k: float(v) for k, v in printed.items() if v}))
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


def method_rows(name: str) -> tuple[Row, ...]:
    """Returns one row for each set of a method, all from one paper.

    Args:
      name: such as `AViNet(B)`, or `STAViS(AV)@avrsp` for the rows of one paper. Without @, the paper that
        prints most values of the method, and the first of these in `PAPERS` if several do.

    Raises:
      AvsalError: there is no such method or paper.
    """
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
    return tuple({(row.dataset, row.split): row for row in reversed(by_paper[paper])}.values())[::-1]


def _unknown(method: str, names: list[str]) -> str:
    lowered = {name.casefold(): name for name in names}
    close = sorted({row.label for row in _all() if row.method.casefold() == method.casefold()})
    close = close or [lowered[key] for key in difflib.get_close_matches(method.casefold(), lowered, 3, 0.4)]
    hint = f"did you mean {' or '.join(close)}?" if close else "such as AViNet(B), CASP-Net(AV) or AVRSP(AV)"
    return f"no paper here prints a method {method!r}; {hint}"
