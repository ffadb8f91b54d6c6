"""Tables in Markdown of what the cases of `gpu_check.py` measured. Needs no package."""


def summary(reports: dict[str, dict], titles: dict[str, str], left_out: dict[str, str]) -> str:
    """Returns the page `summary.md`.

    Args:
      reports: of the cases by name, as `gpu_cases.py` writes them.
      titles: what each case shows.
      left_out: cases that were not run or not whole, with the reason.
    """
    machine = next((r["results"]["machine"] for r in reports.values() if "machine" in r["results"]), {})
    lines = ["# Accelerator check", "", ", ".join(f"{key} {value}" for key, value in machine.items()), ""]
    for name, report in reports.items():
        lines += [f"## {titles[name]}", ""]
        if "error" in report:
            lines += [f"**failed**: {report['error'].splitlines()[0]}", ""]
        lines += _table(report["results"]) + _programs(report["programs"])
    lines += ["## Left out", ""]
    lines += [f"- {titles[name]} (`{name}`): {reason}" for name, reason in left_out.items()] or ["nothing"]
    return "\n".join(lines) + "\n"


def _table(results: dict) -> list[str]:
    rows = [(name, _words(value)) for name, value in results.items() if name != "machine"]
    if not rows:
        return []
    return ["| what | result |", "|---|---|", *(f"| {name} | {words} |" for name, words in rows), ""]


def _words(value) -> str:
    """Returns a result in words: rates with units first, then whatever else was measured."""
    if not isinstance(value, dict):
        return str(value)
    words = []
    if "per_second" in value:
        words.append(f"**{value['per_second']:.4g} a second**")
    if "flops_per_second" in value:
        words.append(f"{value['flops_per_second'] / 1e12:.4g} TFLOP/s")
    if value.get("share_of_roof"):
        words.append(f"{value['share_of_roof']:.1%} of the roof")
    if "ratio" in value:
        ratio = value["ratio"]
        words.append(f"{ratio['median']:.2f}x {ratio['against']} ({ratio['low']:.2f} to {ratio['high']:.2f})")
    if "peak_bytes_in_use" in value:
        words.append(f"peak {value['peak_bytes_in_use'] / 2**30:.2f} GiB")
    first = ("per_second", "flops_per_second", "share_of_roof", "ratio", "peak_bytes_in_use")
    hidden = ("seconds", "medians", "bytes_in_use")
    rest = {name: item for name, item in value.items() if name not in (*first, *hidden)}
    return "; ".join(words + [f"{name.replace('_', ' ')} {_short(item)}" for name, item in rest.items()])


def _short(item) -> str:
    if isinstance(item, float):
        return f"{item:.3g}"
    if isinstance(item, dict):
        return ", ".join(f"{name} {_short(inner)}" for name, inner in item.items())
    return {True: "yes", False: "no"}.get(item, str(item)) if isinstance(item, bool) else str(item)


def _programs(programs: dict) -> list[str]:
    if not programs:
        return []
    parts = [
        f"{name} {times.get('trace_seconds', 0) + times['compile_seconds']:.1f} s"
        + (" (from the cache)" if times.get("cached") else "")
        for name, times in programs.items()
    ]
    return [f"Trace and compile: {'; '.join(parts)}.", ""]
