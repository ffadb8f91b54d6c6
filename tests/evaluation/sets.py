"""A small set in three videos, and how its tests ask for an evaluation."""

import csv
import shutil

from avsal_jax.cli.main import main
from avsal_jax.evaluation.evaluate import Request, evaluate

PHOTOGRAPHS = ("1001", "1004", "1008", "1010")  # of which the first is of the training part
NAMES = ("first_52x36", "second_64x40", "third_40x48")


def request(root, **settings):
    return Request("diem", root, **settings)


def table(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def files_of(folder):
    return {name: (folder / name).read_bytes() for name in ("summary.json", "frames.csv", "videos.csv")}


def run_cli(capsys, root, predictions, out, *options):
    arguments = ["evaluate", "--dataset", "diem", "--root", str(root), "--predictions", str(predictions)]
    code = main([*arguments, "--output", str(out), *options])
    return code, capsys.readouterr()


def copied(root, predictions, tmp_path):
    shutil.copytree(root, tmp_path / "data")
    shutil.copytree(predictions, tmp_path / "maps")
    return tmp_path / "data", tmp_path / "maps"


def cc_of(root, out, **settings):
    return evaluate(request(root, metrics=("cc",), **settings), out)["metrics"]["cc"]["mean"]
