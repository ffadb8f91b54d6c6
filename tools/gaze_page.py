"""docs/benchmark.md: the page that tools/gaze_benchmark.py writes out of rows of values."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from gaze_scores import COLUMNS, FIRST, Row

from avsal_jax.evaluation.compare import RESAMPLES, SEED
from avsal_jax.evaluation.compare_tables import title
from avsal_jax.metrics import find_metric, metrics_over_priors
from avsal_jax.metrics.densities import FLOOR
from avsal_jax.metrics.standard import CALIBRATION_PERCENTS, mass_name, top_name

DECIMALS = {name: find_metric(name).digits for name in (*COLUMNS, *metrics_over_priors())}
HEADINGS = ("method", *map(title, DECIMALS))
PRIOR, IMAGE, CAUSAL, SMOOTHED, PEOPLE = "prior", "image", "causal", "smoothed", "people"  # keys of rows
DIFFERENCES = ((CAUSAL, IMAGE), (SMOOTHED, IMAGE), (IMAGE, PRIOR), (CAUSAL, PRIOR), (SMOOTHED, PRIOR))
NAMES = {"osie": "OSIE", "eyecrowd": "EyeCrowd"}
NO_VALUE = "-"


@dataclasses.dataclass(frozen=True)
class Content:
    """What the page shows.

    Attributes:
      names: of the clips, in the order of the values.
      clips: rows by key, in order.
      photographs: rows by key for each set.
      picture: file name of the picture of the worst clips, and its caption; None without a model.
      command: the command that made the page.
      machine: its properties by name.
      models: what was scored, by name.
    """

    names: tuple[str, ...]
    clips: dict[str, Row]
    photographs: dict[str, dict[str, Row]]
    picture: tuple[str, str] | None
    command: str
    machine: dict[str, str]
    models: dict[str, str]


def page(content: Content) -> str:
    """Returns the page as Markdown."""
    sections = [
        _introduction(content),
        _reading(),
        f"## Clips\n\n{_table(content.clips)}",
        _differences(content),
        _deficits(content),
        *(_photographs(name, rows) for name, rows in content.photographs.items()),
        _calibration(content),
        _clip_by_clip(content),
        _worst(content),
        _origin(content),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _introduction(content: Content) -> str:
    groups = len(set(next(iter(content.clips.values())).groups))
    photographs = " and ".join(
        f"{len(next(iter(rows.values())).groups)} photographs of {NAMES[name]}"
        for name, rows in content.photographs.items()
    )
    return f"""# Benchmark on recorded gaze

Where people looked, and how well each method predicts it: on {len(content.names)} clips of
[`hevc_gaze`](datasets/hevc_gaze.md), in {groups} groups of clips that show nearly the same, and on the test
thirds of two sets of photographs ({photographs}). Figures are by the protocol
[`gaze`](protocols.md#recorded-gaze). Nothing is scored on gaze that it was fitted or trained on: a clip has
the model and the prior of its fold, which were made without its group."""


def _reading() -> str:
    lines = [[title(metric), find_metric(metric).about] for metric in DECIMALS]
    return f"""## How to read the tables

Each cell is the mean over stimuli with its 95 % bootstrap interval: {RESAMPLES:,} resamples of groups, seed
{SEED}. Where several seeds were trained, values are averaged over seeds first, and ± is the standard
deviation over seeds.

{_markdown(("column", "meaning"), lines)}

The information gain of clips is over the prior of the other folds, that of photographs over the mean map of
the photographs. Map and prior are divided by their sums, then {100 * FLOOR:g} % of the mass is spread
evenly over the cells. "People (leave one out)" predict each observer by the blurred fixations of all others,
for the information gain too. One observer has no density, so CC, SIM and KL are empty there. "People (half)"
predict every second observer by the others: they have all metrics, from half as many people. The metrics of
densities depend on the blur of the fixations, which the protocol states. So does the information gain of
people: it is a lower bound, since the blur was not chosen for it, and a map can exceed it."""


def _table(rows: dict[str, Row]) -> str:
    return _markdown(HEADINGS, [[row.label, *(_cell(row, m) for m in DECIMALS)] for row in rows.values()])


def _markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    return "\n".join(["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *lines)])


def _cell(row: Row, metric: str, sign: str = "") -> str:
    mean, low, high = row.summary(metric)
    if np.isnan(mean):
        return NO_VALUE
    digits, spread = DECIMALS[metric], row.spread(metric)
    text = _number(mean, digits, sign)
    if not np.isnan(low):
        text += f" [{_number(low, digits, sign)}, {_number(high, digits, sign)}]"
    return text if np.isnan(spread) else f"{text} ± {_number(spread, digits)}"


def _number(value: float, digits: int, sign: str = "") -> str:
    """Returns a number without the sign of a zero."""
    return f"{round(value, digits) + 0.0:{sign}.{digits}f}"


def _differences(content: Content) -> str:
    pairs = [(content.clips[a], content.clips[b]) for a, b in DIFFERENCES if {a, b} <= content.clips.keys()]
    if not pairs:
        return ""
    lines = []
    for first, second in pairs:
        row = first.minus(second)
        lines.append([row.label, *(_cell(row, metric, sign="+") for metric in DECIMALS)])
    return f"""### Paired differences

Of the same clips, with the same resamples. If an interval does not hold 0, the sign does not depend on which
groups of clips were drawn.

{_markdown(HEADINGS, lines)}"""


def _deficits(content: Content) -> str:
    prior = content.clips[PRIOR].values(FIRST)
    lines = []
    for key, row in content.clips.items():
        if key == PRIOR:
            continue
        deficits = prior - row.values(FIRST)
        worst = int(np.argmax(deficits))
        largest = f"{deficits[worst]:.2f} ({content.names[worst]})" if deficits[worst] > 0 else NO_VALUE
        lines.append([row.label, f"{int((deficits > 0).sum())} of {len(deficits)}", largest])
    return f"""### Clips below the fitted prior

{_markdown(("method", "clips with lower NSS than the prior", "largest deficit in NSS"), lines)}"""


def _photographs(name: str, rows: dict[str, Row]) -> str:
    count = len(next(iter(rows.values())).groups)
    return f"""## Photographs of {NAMES[name]}

{count} photographs of the test third of [`{name}`](datasets/{name}.md).

{_table(rows)}"""


def _calibration(content: Content) -> str:
    head = ["method", "set", *(f"top {percent} %" for percent in CALIBRATION_PERCENTS)]
    sets = {"clips": content.clips} | {NAMES[name]: rows for name, rows in content.photographs.items()}
    lines = []
    for name, rows in sets.items():
        for row in rows.values():
            cells = [
                f"{row.summary(top_name(percent))[0]:.1%} / {row.summary(mass_name(percent))[0]:.1%}"
                for percent in CALIBRATION_PERCENTS
            ]
            lines.append([row.label, name, *cells])
    return f"""## Calibration

The share of fixations in the cells where the map is largest / the share of its sum that the map has there.
The two agree if the map, divided by its sum, is the probability of a fixation. If the first is larger, the
map is too flat; if the second is larger, the map is too peaked. Means over stimuli.

{_markdown(head, lines)}"""


def _clip_by_clip(content: Content) -> str:
    keys = [key for key in (PRIOR, IMAGE, CAUSAL, SMOOTHED, PEOPLE) if key in content.clips]
    columns = [content.clips[key].values(FIRST) for key in keys]
    lines = [
        [name, *(_number(column[number], 2) for column in columns)]
        for number, name in enumerate(content.names)
    ]
    head = ["clip", *(content.clips[key].label for key in keys)]
    return f"## NSS of each clip\n\n{_markdown(head, lines)}"


def _worst(content: Content) -> str:
    if content.picture is None:
        return ""
    file, caption = content.picture
    return f"## The worst clips\n\n![Maps and fixations of the worst clips]({file})\n\n*{caption}*"


def _origin(content: Content) -> str:
    machine = [[name, value] for name, value in content.machine.items()]
    models = [[name, value] for name, value in content.models.items()]
    tables = _markdown(("machine", ""), machine)
    if models:
        tables += "\n\n" + _markdown(("model", "SHA-256 of its weights, first 12 digits"), models)
    return f"""## How these figures were made

```sh
{content.command}
```

The draws of the metrics and the bootstrap have the seed {SEED}. Rerunning the command evaluates only what is
missing.

{tables}"""
