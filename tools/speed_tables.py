"""The tables of docs/performance.md, from the files in docs/benchmarks. Needs no package."""

import json
import pathlib

BEGIN = "<!-- ratios: written by tools/benchmark.py table -->"
END = "<!-- end of ratios -->"
_JAX = "avsal_jax"
_COMPILED = "torch, compiled"


def read_reports(folder: pathlib.Path) -> list[dict]:
    """Returns the files of a folder, in order of their names."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]


def rewrite(page: pathlib.Path, reports: list[dict], titles: dict[str, str]) -> None:
    """Replaces the section between the markers of a page by the tables of all machines."""
    before, _, after = _split(page.read_text(encoding="utf-8"))
    page.write_text(before + section(reports, titles) + after, encoding="utf-8")


def section_of(page: pathlib.Path) -> str:
    """Returns the section of a page, with its markers."""
    return _split(page.read_text(encoding="utf-8"))[1]


def _split(text: str) -> tuple[str, str, str]:
    before, found_begin, rest = text.partition(BEGIN)
    inside, found_end, after = rest.partition(END)
    if not (found_begin and found_end):
        raise SystemExit(f"the page needs the lines {BEGIN} and {END}")
    return before, BEGIN + inside + END, after


def section(reports: list[dict], titles: dict[str, str]) -> str:
    """Returns the section with its markers.

    Args:
      reports: of the machines, as `ratios.measure_ratios` writes them.
      titles: of the systems by name; the order of rows.
    """
    lines = [BEGIN, ""]
    for report in reports:
        lines += [*tables(report, titles), ""]
    if not reports:
        lines += ["No machine has been measured yet.", ""]
    return "\n".join([*lines, END])


def tables(report: dict, titles: dict[str, str]) -> list[str]:
    """Returns the lines about a machine: a heading, times with ratios, and memory."""
    machine, results = report["machine"], report["results"]
    versions = [f"{name} {machine[name]}" for name in ("jax", "torch") if name in machine]
    cases = [
        (name, title, task, results[name][task])
        for name, title in titles.items()
        for task in results.get(name, {})
    ]
    dates = sorted({result["date"] for *_, result in cases})
    period = " to ".join(dict.fromkeys((dates[0], dates[-1]))) if dates else "not measured"
    heading = f"### {machine['processor']}, {machine['cores']} cores"
    lines = [
        heading,
        "",
        f"{', '.join(versions)}, {machine['memory GiB']} GiB of memory, float32; {period}.",
        "",
    ]
    lines += ["| system | task | avsal_jax | PyTorch | **ratio** | torch.compile | ratio to it |"]
    lines += ["|---|---|---|---|---|---|---|"]
    lines += [f"| {title} | {task} | {' | '.join(_times(result))} |" for _, title, task, result in cases]
    memory = [(title, task, result["memory"]) for _, title, task, result in cases if result.get("memory")]
    if memory:
        lines += [
            "",
            "| peak memory, MiB | task | avsal_jax | PyTorch, contiguous | PyTorch, channels-last |",
        ]
        lines += ["|---|---|---|---|---|"]
        lines += [f"| {title} | {task} | {' | '.join(_memory(sides))} |" for title, task, sides in memory]
    return lines


def _times(result: dict) -> list[str]:
    """Returns the cells of a row."""
    if "error" in result:
        return [f"failed: {result['error']}", "", "", "", ""]
    medians = result["medians"]
    cells = [duration(medians[_JAX])]
    if "ratio" not in result:
        return [*cells, "", "", "", ""]
    against = result["ratio"]["against"]
    cells += [f"{duration(medians[against])}, {against.removeprefix('torch, ')}", ratio(result["ratio"])]
    compiled = result.get("ratios_apart", {}).get(_COMPILED)
    if compiled is None:
        reason = "failed" if "torch.compile failed" in result else ""
        return [*cells, reason, ""]
    return [*cells, duration(medians[_COMPILED]), ratio(compiled)]


def _memory(sides: dict) -> list[str]:
    names = (_JAX, "torch, contiguous", "torch, channels-last")
    return [_mebibytes(sides.get(name)) for name in names]


def _mebibytes(measured: dict | None) -> str:
    if measured is None:
        return ""
    return "failed" if "error" in measured else f"{measured['peak_mib']:,.0f}"


def ratio(values: dict) -> str:
    """Returns `1.25 (1.20 to 1.31)`, or `unclear (0.90 to 1.60)` for an interval that is too wide."""
    word = f"{values['median']:.2f}" if values["called"] else "unclear"
    return f"{word} ({values['low']:.2f} to {values['high']:.2f})"


def duration(seconds: float) -> str:
    """Returns seconds with three digits, in ms below one second."""
    value, unit = (seconds, "s") if seconds >= 0.9995 else (1000 * seconds, "ms")
    return f"{value:#.3g}".rstrip(".") + f" {unit}"
