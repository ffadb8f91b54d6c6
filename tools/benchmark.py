"""Measures the speed and memory of avsal_jax, next to PyTorch where a peer exists.

  python tools/benchmark.py ratios [--systems vinet,gaze] [--what forward,step,predict] [--repeats N]
  python tools/benchmark.py table
  python tools/benchmark.py forward|train|predict|encoder|chain|interaction [--output DIR] ...

`ratios` measures all systems and tasks, each in its own process, and writes docs/benchmarks/MACHINE.json
after each of them. `table` writes the tables of these files into docs/performance.md. The other commands
measure one thing in this process and print a table: `forward`, `train` and `predict` of ViNet, the image
`encoder`, the video `chain`, and CASP-Net's `interaction`. With `--output` they write DIR/NAME.json.

Sides are measured in turn. The ratio is the median of the ratios of the pairs, with an interval of at least
95 %. It is printed as `unclear` if the interval is wider than 20 % of the median, or if there are fewer than
six pairs. Both sides first have to give the same output. Without PyTorch its columns are left out.
"""

import argparse
import json
import pathlib

import speed_tables
from measure import Limits, ratio_text
from ratios import Plan, measure_ratios
from speed_case import CLIP, Options, case_system, measure_times
from speed_systems import SYSTEMS, TASKS

ROOT = pathlib.Path(__file__).parent.parent
FOLDER, PAGE = ROOT / "docs" / "benchmarks", ROOT / "docs" / "performance.md"
TITLES = {name: system.title for name, system in SYSTEMS.items()}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    _add_ratios(commands.add_parser("ratios", help="all systems and tasks, each in its own process"))
    table = commands.add_parser("table", help="write the tables of docs/performance.md")
    table.add_argument("--input", type=pathlib.Path, default=FOLDER, help="folder of the files of machines")
    table.add_argument("--page", type=pathlib.Path, default=PAGE)
    for name in SINGLE:
        _add_single(commands.add_parser(name, help="in this process"))
    args = parser.parse_args()
    if args.command == "ratios":
        _ratios(args)
    elif args.command == "table":
        speed_tables.rewrite(args.page, speed_tables.read_reports(args.input), TITLES)
    else:
        _single(args)


def _add_ratios(parser):
    parser.add_argument("--output", type=pathlib.Path, default=FOLDER, help="folder of the machine's file")
    parser.add_argument("--systems", type=_names(SYSTEMS), default=tuple(SYSTEMS), help=",".join(SYSTEMS))
    parser.add_argument(
        "--what", dest="tasks", type=_names(TASKS), default=TASKS, metavar="TASKS", help=",".join(TASKS)
    )
    parser.add_argument("--repeats", type=int, default=9, help="measurements of each side, at least")
    parser.add_argument("--most-repeats", type=int, default=25, help="as long as a ratio is unclear")
    parser.add_argument("--seconds", type=float, default=300.0, help="no measurement starts after this time")
    parser.add_argument(
        "--height", type=int, help="of all systems, for a trial; also --width, --batch, --maps"
    )
    for name in ("width", "batch", "maps"):
        parser.add_argument(f"--{name}", type=int, help=argparse.SUPPRESS)


def _add_single(parser):
    parser.add_argument("--height", type=int, default=224)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--repeats", type=int, default=7, help="measurements of each side")
    parser.add_argument("--maps", type=int, default=8, help="of `predict`")
    parser.add_argument("--gradient", action="store_true", help="of `encoder`: the gradient too")
    parser.add_argument("--video", type=pathlib.Path, default=CLIP)
    parser.add_argument("--no-torch", action="store_true")
    parser.add_argument("--output", type=pathlib.Path)


def _names(table):
    def split(text):
        names = tuple(text.split(","))
        if unknown := [name for name in names if name not in table]:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: choose from {', '.join(table)}")
        return names

    return split


def _ratios(args):
    values = {
        "repeats": args.repeats,
        "most-repeats": args.most_repeats,
        "seconds": args.seconds,
        **{name: getattr(args, name) for name in ("height", "width", "batch", "maps")},
    }
    arguments = [word for name, value in values.items() if value for word in (f"--{name}", str(value))]
    path = measure_ratios(Plan(args.systems, args.tasks, tuple(arguments)), args.output)
    report = json.loads(path.read_text())
    print("\n".join(["", *speed_tables.tables(report, TITLES), "", f"written to {path}"]))
    if any("error" in result for results in report["results"].values() for result in results.values()):
        raise SystemExit("at least one measurement failed")


def _single(args):
    from measure import machine

    report = {"what": args.command, "arguments": {k: str(v) for k, v in vars(args).items()}}
    report |= SINGLE[args.command](args)
    report["machine"] = machine()  # at the end: it names the PyTorch that was loaded
    print(_table(report))
    if args.output:
        args.output.mkdir(parents=True, exist_ok=True)
        (args.output / f"{args.command}.json").write_text(json.dumps(report, indent=2) + "\n")


def _vinet(task):
    def measure(args):
        system = case_system("vinet", height=args.height, width=args.width, batch=args.batch, maps=args.maps)
        limits = Limits(args.repeats, args.repeats)
        options = Options(limits, args.dtype, args.video, with_torch=not args.no_torch)
        return measure_times(system, task, options)

    return measure


def _chain(args):
    from chain import measure_chain

    return measure_chain(args.video, args.repeats)


def _encoder(args):
    from encoder import measure_encoder

    return measure_encoder(
        args.height,
        width=args.width,
        batch=args.batch,
        repeats=args.repeats,
        with_torch=not args.no_torch,
        train=args.gradient,
    )


def _interaction(args):
    from interaction import measure_interaction

    return measure_interaction(args.repeats)


def _table(report):
    lines = [f"{report['what']} on {report['machine']['device']}, jax {report['machine']['jax']}", ""]
    if "rows" in report:
        from interaction import table

        return "\n".join([*lines, *table(report["rows"])])
    if "stages" in report:
        lines += ["| stage | frames per second |", "|---|---|"]
        lines += [f"| {name} | {value:.1f} |" for name, value in report["stages"].items()]
        return "\n".join([*lines, f"| idle share of a 10 ms model, npz only | {report['idle_share']:.3f} |"])
    lines += ["| implementation | median s | smallest | largest |", "|---|---|---|---|"]
    for name, values in report["seconds"].items():
        median = report["medians"][name]
        lines.append(f"| {name} | {median:#.4g} | {min(values):#.4g} | {max(values):#.4g} |")
    if "ratio" in report:
        lines.append(f"\n{ratio_text(report['ratio'])}")
    for key in ("disagreement", "compile_seconds"):
        if key in report:
            lines.append(f"{key}: {report[key]:.3g}")
    return "\n".join(lines)


SINGLE = {
    "forward": _vinet("forward"),
    "train": _vinet("step"),
    "predict": _vinet("predict"),
    "encoder": _encoder,
    "chain": _chain,
    "interaction": _interaction,
}

if __name__ == "__main__":
    main()
