"""Tables in Markdown of what the cases of `gpu_check.py` measured. Needs no package."""

from measure import ratio_text


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
        words.append(f"**{_short(value['per_second'])} per second**")
    if "flops_per_second" in value:
        words.append(f"{_scaled(value['flops_per_second'], 1e12)} TFLOP/s")
    if value.get("share_of_roof"):
        words.append(f"{_scaled(value['share_of_roof'], 0.01)} % of the roof")
    if "ratio" in value:
        words.append(ratio_text(value["ratio"]))
    for name, title in (("peak_bytes_in_use", "peak so far"), ("torch_peak_bytes", "of torch")):
        if name in value:
            words.append(f"{title} {_scaled(value[name], 2**30)} GiB")
    rates = ("per_second", "flops_per_second", "share_of_roof", "ratio", "seconds", "medians")
    sizes = ("peak_bytes_in_use", "torch_peak_bytes", "bytes_in_use")
    rest = {name: item for name, item in value.items() if name not in (*rates, *sizes)}
    return "; ".join(words + [f"{name.replace('_', ' ')} {_short(item)}" for name, item in rest.items()])


def _scaled(value, unit: float) -> str:
    return _short(value / unit) if isinstance(value, int | float) else str(value)


def _short(value) -> str:
    """Returns a value in few digits; numbers that are not finite are text already."""
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_short(inner)}" for name, inner in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _programs(programs: dict) -> list[str]:
    if not programs:
        return []
    parts = []
    for name, measured in programs.items():
        seconds = measured.get("trace_seconds", 0) + measured["compile_seconds"]
        notes = ["from the cache"] if measured.get("cached") else []
        if "temp_bytes" in measured:
            notes.append(f"{_scaled(measured['temp_bytes'], 2**30)} GiB of temporary arrays")
        parts.append(f"{name} {seconds:.1f} s" + (f" ({', '.join(notes)})" if notes else ""))
    return [f"Trace and compile: {'; '.join(parts)}.", ""]
