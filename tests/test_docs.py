"""The pages: one for each data set, commands that the program knows, Python that runs, links that hold."""

import argparse
import re
import shlex
import subprocess

import pytest

from avsal_jax import registry
from avsal_jax.cli import compare, evaluate, fit_prior, prepare, train
from avsal_jax.data.sets.datasets import find_dataset
from avsal_jax.testing import fake_data

SETS = [name for name, row in registry.table("dataset").items() if row.generator is None]


@pytest.mark.parametrize("name", [*SETS, "own"])
def test_every_set_has_a_page_with_its_commands(tests_dir, name):
    path = tests_dir.parent / "docs/datasets" / f"{name}.md"
    text = path.read_text()
    assert f"`{name}`" in text or name == "own"
    assert f"(datasets/{name}.md)" in (tests_dir.parent / "docs/data.md").read_text()
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command")
    for command in (evaluate, prepare, fit_prior, compare):
        command.add_parser(commands)
    lines = [line for line in text.splitlines() if line.startswith("avsal ") and "--plugin" not in line]
    parsed = [parser.parse_args(shlex.split(line)[1:]) for line in lines]
    assert {args.command for args in parsed} - {"fit-prior", "compare"} == {"prepare", "evaluate"}
    for args in parsed:
        if args.command == "compare":
            continue
        assert args.dataset == name or (name == "own" and find_dataset(args.dataset))
        if args.command == "evaluate" and args.fold:
            assert args.fold in find_dataset("diem" if name == "own" else name).folds
    if name == "own":
        return
    row = find_dataset(name)
    assert text.startswith(f"# {row.title} (`{name}`)\n")
    assert row.licence and row.licence in " ".join(text.split())
    if folder := getattr(row.packaging, "folder", ""):
        assert f"video_frames/{folder}/" in text


def test_links_lead_somewhere(tests_dir):
    docs = tests_dir.parent / "docs"
    pages = [tests_dir.parent / "README.md", *docs.rglob("*.md")]
    links = [(page, link) for page in pages for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text())]
    assert len(links) > 30
    for page, link in links:
        name, _, heading = link.partition("#")
        target = page.parent / name if name else page
        assert target.is_file(), f"{page}: {link}"
        headings = [
            re.sub(r"[^\w -]", "", line.lstrip("# ").lower()).replace(" ", "-")
            for line in (target.read_text().splitlines() if heading else ())
            if line.startswith("#")
        ]
        assert not heading or heading in headings, f"{page}: {link}"


def test_commands_on_training_are_known(tests_dir):
    from avsal_jax.training.overrides import config_values
    from avsal_jax.training.schema import build_config

    parser = argparse.ArgumentParser()
    train.add_parser(parser.add_subparsers())
    root = tests_dir.parent
    text = "\n".join(p.read_text() for p in (root / "docs/training.md", root / "configs/README.md"))
    lines = re.findall(r"^avsal train (--config .*)", text, re.MULTILINE)
    inits = re.findall(r"^--config\.init[.=].*", text, re.MULTILINE)
    lines += [f"--config vinet_dhf1k {init}" for init in inits]
    commands = [line for line in lines if "my/recipe.py" not in line]
    assert len(commands) >= 10
    for line in commands:
        args, overrides = parser.parse_known_args(["train", *shlex.split(line, comments=True)])
        build_config(config_values(args.config, overrides))


def test_the_loops_over_recipes_are_of_commands_that_fit(tests_dir):
    """A shell runs the loops. Its `avsal` is a function that prints its arguments."""
    from avsal_jax.training.overrides import config_values
    from avsal_jax.training.schema import build_config

    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command")
    for command in (evaluate, train):
        command.add_parser(commands)
    text = (tests_dir.parent / "configs/README.md").read_text()
    loops = [block for block in re.findall(r"```\n(.*?)```", text, re.DOTALL) if "for " in block]
    script = "\n".join(['avsal() { echo "$@"; }', *loops])
    shell = subprocess.run(["bash", "-euc", script], capture_output=True, text=True, check=True)
    parsed = [parser.parse_known_args(shlex.split(line)) for line in shell.stdout.splitlines()]
    assert [args.command for args, _ in parsed].count("train") == 12
    for args, overrides in parsed:
        if args.command == "train":
            build_config(config_values(args.config, overrides))
            continue
        assert not overrides
        if not args.model.startswith("1="):  # folds that are pooled
            find_dataset(args.dataset).check_fold(args.dataset, split=args.split, fold=args.fold)


def test_the_python_on_prepared_data_runs(tests_dir, tmp_path, monkeypatch, capsys):
    from avsal_jax.data.prepared.prepare import prepare as prepare_set

    videos = fake_data.fake_videos()
    lists = {"train_1": tuple(v.name for v in videos[:2]), "test_1": (videos[2].name,)}
    fake_data.write_stavis(tmp_path / "data", "Coutrot_db1", videos, lists)
    monkeypatch.chdir(tmp_path)
    prepare_set("coutrot1", "data", "prepared")
    (block,) = re.findall(r"```python\n(.*?)```", (tests_dir.parent / "docs/data.md").read_text(), re.DOTALL)
    exec(compile(block, "data.md", "exec"), {})
    assert "(4, 16, 224, 384, 3) (4, 35280) (4, 224, 384)" in capsys.readouterr().out
