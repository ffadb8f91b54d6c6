"""Values of a config from the command line and from your own files: forms, variants, mistakes."""

import dataclasses
import json

import pytest

from avsal_jax.cli.main import main
from avsal_jax.errors import AvsalError
from avsal_jax.models.systems import build
from avsal_jax.training import launch, recipes
from avsal_jax.training.initialise import Init
from avsal_jax.training.objectives import SupervisedConfig
from avsal_jax.training.optimizers import Adam
from avsal_jax.training.schema import build_config, plain_values
from tests.training.test_recipes import config_of


@pytest.fixture
def started(monkeypatch):
    """Returns the arguments that `avsal train` passes to the trainer, which a stand-in replaces."""
    arguments = {}

    class StandIn:
        def __init__(self, config, workdir, say, should_stop, on_activity, profile, config_name):
            build(config.model.preset())
            assert should_stop(3) is False
            arguments.update(config=config, workdir=workdir, profile=profile, config_name=config_name)

        def run(self):
            return {"steps": 4, "best": ("cc", 0.5, 2), "model": "w/model", "validation": {}}

    monkeypatch.setattr(launch, "Trainer", StandIn)
    return arguments


def test_values_come_from_the_command_line(started, tmp_path, capsys):
    extra = ["data.batch=4", "optimizer.learning_rate=1", "optimizer.clip_norm=2.5", "early_stop.patience=3"]
    extra += [
        "data.sources=(('diem', 1), ('ave', None))",
        "init=()",
        "data.sampling.flip=true",
        "loss.cc=-0.1",
    ]
    extra += ["model.heads.saliency.hierarchy=2", "model.frames=8"]
    arguments = ["train", "--config", "vinet_dhf1k:table2_t16,smoke", "--workdir", str(tmp_path)]
    assert main([*arguments, *(f"--config.{e}" for e in extra)]) == 0
    assert capsys.readouterr().out == "4 steps; best cc 0.5000 at step 2; the model is w/model\n"
    config = started["config"]
    assert started["config_name"] == "vinet_dhf1k:table2_t16,smoke"
    assert started["workdir"] == tmp_path and config.data.batch == 4 and config.optimizer.learning_rate == 1.0
    assert config.optimizer.clip_norm == 2.5 and config.early_stop.patience == 3 and config.init == {}
    assert config.data.sources == (("diem", 1), ("ave", None)) and config.data.sampling.flip is True
    assert config.loss.weights["cc"] == -0.1 and config.loss.weights["kl"] == 1.0
    preset = config.model.preset()  # what is set is added to the row and to smoke
    assert preset.input.frames == 8 and preset.input.height == 64
    assert preset.parts["heads"] == {"saliency": {"name": "vinet", "width": 1 / 16, "hierarchy": 2}}


@pytest.mark.parametrize(
    ("arguments", "fusion"),
    [
        ("--config.model.fusion.heads=8", {"name": "ravf", "heads": 8}),
        (
            "model.fusion.heads=8 --config.model.fusion.width 1/16",
            {"name": "ravf", "heads": 8, "width": 1 / 16},
        ),
        ("--config.model.fusion=mbt", {"name": "mbt"}),
        ("--config.model.fusion=mbt --config.model.fusion.heads=2", {"name": "mbt", "heads": 2}),
        ("--config.model.fusion.heads=2 --config.model.fusion=mbt", {"name": "mbt"}),
        ("--config.model.fusion=none --config.model.audio_encoder=none", None),
        ("--config.model.fusion=None --config.model.audio_encoder=None", None),
    ],
)
def test_parts_and_their_fields_are_set_on_the_command_line(started, tmp_path, arguments, fusion):
    command = ["train", "--config", "avrsp_av:audio_visual", "--workdir", str(tmp_path)]
    assert main([*command, *arguments.split()]) == 0
    preset = started["config"].model.preset()
    assert preset.parts["fusion"] == fusion
    assert preset.parts["regulator"] == {"name": "gates", "gates": 3}  # another fusion keeps the gates


def test_tuples_and_nested_fields_of_parts_are_set_on_the_command_line(started, tmp_path):
    command = ["train", "--config", "casp_net_av:audio_visual", "--workdir", str(tmp_path)]
    fields = ["--config.model.fusion.stages=(3, 4)", "--config.model.fusion.coding.iterations=1"]
    assert main([*command, *fields, "--config.model.neck.rates=[2, 4]"]) == 0
    network = build(started["config"].model.preset())
    assert (network.fusion.stages, network.fusion.iterations, network.neck.rates) == ((3, 4), 1, (2, 4))
    assert main([*command, "--config.model.fusion.coding=None"]) == 0
    assert build(started["config"].model.preset()).fusion.coding is None


START = Init("runs/vinet_dhf1k/model")  # of vinet_ucf, under the name `vinet`


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--config.init.vinet.path=X"], {"vinet": Init("X")}),
        (["init.vinet.slot=visual_encoder"], {"vinet": dataclasses.replace(START, slot="visual_encoder")}),
        (["--config.init.second.path", "X"], {"vinet": START, "second": Init("X")}),
        (
            ["--config.init={}", "--config.init.a.path=X", "--config.init.a.slot=heads/saliency"],
            {"a": Init("X", "heads/saliency")},
        ),
        (["--config.init={'a': {'path': 'X', 'pattern': 'conv[12]/'}}"], {"a": Init("X", "", "conv[12]/")}),
    ],
)
def test_what_a_run_starts_from_is_set_by_name(started, tmp_path, arguments, expected):
    assert main(["train", "--config", "vinet_ucf", "--workdir", str(tmp_path), *arguments]) == 0
    assert started["config"].init == expected


@pytest.mark.parametrize(
    "text", ["avrsp_synergy:table3_v_bare", "casp_net_ablations:table3_stages234", "dual_domain_adapt"]
)
def test_plain_values_state_the_whole_config(text):
    """Those of a run's config.json give the same config again, whatever the defaults of its system are."""
    config = config_of(text)
    values = plain_values(config)
    assert values == json.loads(json.dumps(values))
    restored = build_config(values)
    assert plain_values(restored) == values
    assert dataclasses.replace(restored, model=config.model) == config
    assert build(restored.model.preset()) == build(config.model.preset())


def test_being_stopped_asks_for_another_start(started, tmp_path, monkeypatch, capsys):
    def run(self):
        raise launch.Preempted(7)

    monkeypatch.setattr(launch.Trainer, "run", run)
    assert main(["train", "--config", "vinet_synthetic:smoke", "--workdir", str(tmp_path)]) == 75
    assert "stopped at step 7, and saved; the same command resumes" in capsys.readouterr().err


RECIPE = '"""Mine."""\nimport ml_collections\nfrom avsal_jax.training import recipes\nROWS = {}\n'


def test_ones_own_config_file(started, tmp_path):
    body = "def get_config(variants=''):\n  config = ml_collections.ConfigDict(recipes.defaults())\n"
    body += "  config.data.sources, config.steps = (('diem', 1),), 3000\n"
    body += "  return recipes.apply(config, variants, ROWS)\n"
    (tmp_path / "mine.py").write_text(RECIPE + body)
    assert main(["train", "--config", f"{tmp_path}/mine.py", "--workdir", str(tmp_path / "w")]) == 0
    assert started["config"].data.sources == (("diem", 1),)
    assert (started["config"].steps, started["config"].epochs) == (3000, 0)


MODEL_ROWS = """
ROWS = {
    "heads": recipes.Row({"model.fusion.heads": 8}, "nothing"),
    "mbt": recipes.Row({"model.fusion": "mbt", "model.regulator": None}, "nothing"),
    "wide": recipes.Row({"model.fusion": {"width": 0.25}, "model.heads.saliency.skips": "none"}, "nothing"),
}


def get_config(variants=""):
    config = ml_collections.ConfigDict(recipes.defaults())
    config.model.system = "avrsp"
    config.model.frames = 16
    config.model.fusion = {"name": "ravf", "blocks": 2}
    config.data.sources = (("diem", 1),)
    config.steps = 4
    return recipes.apply(config, variants, ROWS)
"""


@pytest.mark.parametrize(
    ("variants", "expected"),
    [
        ("", {"fusion": {"name": "ravf", "blocks": 2}}),
        ("heads", {"fusion": {"name": "ravf", "blocks": 2, "heads": 8}}),
        ("mbt", {"fusion": {"name": "mbt"}, "regulator": None}),
        (
            "heads,wide",
            {
                "fusion": {"name": "ravf", "blocks": 2, "heads": 8, "width": 0.25},
                "heads": {"saliency": {"name": "avrsp", "skips": "none"}},
            },
        ),
        (
            "wide,smoke",
            {
                "fusion": {"name": "ravf", "blocks": 2, "width": 1 / 16},
                "heads": {"saliency": {"name": "avrsp", "skips": "none", "width": 1 / 16}},
            },
        ),
    ],
)
def test_the_model_of_a_config_file_is_nested_data_that_its_rows_change(tmp_path, variants, expected):
    (tmp_path / "mine.py").write_text(RECIPE + MODEL_ROWS)
    preset = build_config(recipes.config(f"{tmp_path}/mine.py:{variants}").to_dict()).model.preset()
    assert preset.input.frames == 16 and {slot: preset.parts[slot] for slot in expected} == expected
    build(preset)


def test_rows_that_set_the_same_of_the_model_differently_clash(tmp_path):
    row = "ROWS['other'] = recipes.Row({'model.fusion.heads': 4}, 'nothing')\n"
    (tmp_path / "mine.py").write_text(RECIPE + MODEL_ROWS + row)
    with pytest.raises(
        AvsalError, match="the variants heads and other set model.fusion.heads to different values"
    ):
        recipes.config(f"{tmp_path}/mine.py:heads,other")


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("data.bach", "unknown key 'data.bach' in a row .did you mean 'batch'"),
        ("model.fusoin", "model has no setting 'fusoin' .did you mean 'model.fusion'"),
        ("model.fusion.gates", "'fusion.gates' is now 'regulator.gates'"),
    ],
)
def test_a_row_of_unknown_keys_is_refused(tmp_path, key, message):
    row = f"ROWS['odd'] = recipes.Row({{'{key}': 4}}, 'nothing')\n"
    (tmp_path / "mine.py").write_text(RECIPE + MODEL_ROWS + row)
    with pytest.raises(AvsalError, match=message):
        build_config(recipes.config(f"{tmp_path}/mine.py:odd").to_dict())


@pytest.mark.parametrize(
    ("config", "extra", "message"),
    [
        ("vinet_dhfk", "", "no config 'vinet_dhfk' (did you mean 'vinet_dhf1k'?); give a .py file or "),
        ("no/such.py", "", "no config 'no/such.py'"),
        ("vinet_dhf1k:table2_t61", "", "unknown variant 'table2_t61' (did you mean 'table2_t16'?);"),
        ("vinet_dhf1k:table2_t8,table2_t16", "", "table2_t16 set model.frames to different values; use one"),
        ("vinet_dhf1k:smoke,mini", "", "the variants smoke and mini set "),
        ("vinet_ucf", "--config.data.bach=4", "unknown key 'data.bach' in the config (did you mean 'data.ba"),
        ("vinet_ucf", "--config.early_stop.patince=4", "(did you mean 'early_stop.patience'?)"),
        ("vinet_ucf", "--config.data=4", "data is a group of the config; set a field: root, so"),
        ("vinet_ucf", "--config.data.batch=x", "--config.data.batch is of type int: a whole number, as 4, "),
        ("vinet_ucf", "--config.data.batch=1.5", "10_000 or 1e4; got '1.5'"),
        ("vinet_ucf", "--config.optimizer.clip_norm=x", "30000/1001, or None; got 'x'"),
        ("vinet_ucf", "--config.optimizer.clip_norm=inf", "clip_norm is of type float: a number, as 0.5"),
        ("vinet_ucf", "--config.model.remat=maybe", "model.remat is of type bool: true or false; got 'ma"),
        ("vinet_ucf", "--config.data.sources=diem", "of type tuple: a tuple as Python writes it, as "),
        ("vinet_ucf", "--config.data.sources=None", "of type tuple: a tuple as Python writes it, as "),
        ("vinet_ucf", "--config.early_stop=5", "early_stop is a group of the config; set a field, or "),
        ("vinet_ucf", "--config.learning_rate=1", "(did you mean 'optimizer.learning_rate'?)"),
        ("vinet_ucf", "--config.init=((", "as \"{'sound': {'path': 'runs/s/model'}}\"; got '(('"),
        ("vinet_ucf", "--config.steps=9", "give either steps or epochs; got 9 and 40"),
        ("vinet_ucf", "--config.resume=runs/old", "from another run; remove init (--config.init=none)"),
        ("vinet_ucf", "--config.data.batch", "'--config.data.batch' has no value; values of the"),
        ("vinet_ucf", "--data.batch=4", "is not a flag of avsal train; values of the config are set by "),
        ("vinet_ucf", "--data.batch=4", "KEY=VALUE, as --config.data.batch=4"),
        ("vinet_ucf", "--process-id=0", "without a launcher such as SLURM, set all of --coordinator"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(started, tmp_path, capsys, config, extra, message):
    check_refusal(started, tmp_path, capsys, [config, *filter(None, [extra])], message)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("model.heads.saliency.hierachy=2", "has no field 'hierachy' (did you mean 'hierarchy'?)"),
        (
            "model.set=frames=8,fusion=ravf",
            "model.set was removed: give each setting separately, as --config.model.fusion=ravf "
            "--config.model.fusion.heads=8",
        ),
        ("model.decoder.hierarchy=2", "'decoder.hierarchy' is now 'heads.saliency.hierarchy'"),
        ("model=4", "model is a group of the config; set a field, as --config.model.frames=16"),
        ("model.fusoin=ravf", "unknown key 'model.fusoin' in the config (did you mean 'model.fusion'?)"),
        ("model.frmes=8", "unknown key 'model.frmes' in the config (did you mean 'model.frames'?)"),
        ("model.remta=true", "unknown key 'model.remta' in the config (did you mean 'model.remat'?)"),
        ("model.fusion=rav", "unknown fusion 'rav' (did you mean 'ravf'?)"),
        ("model.fusion.heads=8", "fusion is none and takes no field; got heads"),
        ("model.frames=many", "frames must be a whole number from 1 to 512; got 'many'"),
        ("init.vinet.pth=m", "unknown key 'init.vinet.pth' in the config (did you mean 'path'?)"),
        ("init.second.slot=neck", "init.second needs the field 'path'"),
        ("init.vinet.slot=decoder", "the slot 'decoder' of init is now 'heads/saliency'"),
    ],
)
def test_mistakes_in_the_model_and_its_start_are_one_line(started, tmp_path, capsys, extra, message):
    check_refusal(started, tmp_path, capsys, ["vinet_ucf", f"--config.{extra}"], message)


def check_refusal(started, tmp_path, capsys, words, message):
    arguments = ["train", "--config", words[0], "--workdir", str(tmp_path), *words[1:]]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and error.startswith("avsal: ")
    assert "config" not in started


PLAIN = "import ml_collections\n\ndef get_config(SIGNATURE):\n  c = ml_collections.ConfigDict()\n"
SOURCES = "  c.data = ml_collections.ConfigDict({'sources': (('diem', 1),)})\n"


@pytest.mark.parametrize("signature", ["", "config_string=None", "variants", "*, debug=False"])
def test_a_plain_config_has_the_defaults_for_the_rest(started, tmp_path, signature):
    body = SOURCES + "  c.steps = 4\n  c.optimizer = {'learning_rate': 1}\n  c.early_stop = {'patience': 7}\n"
    (tmp_path / "plain.py").write_text(PLAIN.replace("SIGNATURE", signature) + body + "  return c\n")
    arguments = ["--workdir", str(tmp_path / "w"), "--config.optimizer.learning_rate", "1e-3"]
    assert main(["train", "--config", f"{tmp_path}/plain.py", *arguments]) == 0
    config = started["config"]
    assert (config.steps, config.epochs, config.data.batch, config.keep) == (4, 0, 8, 3)
    assert config.optimizer.learning_rate == 1e-3 and type(config.optimizer) is Adam
    assert config.early_stop.patience == 7 and config.early_stop.mode == "min"
    assert started["config_name"] == "plain"
    assert main(["train", "--config", f"{tmp_path}/plain", *arguments]) == 0  # without its suffix


def test_variants_of_a_plain_config(started, tmp_path):
    (tmp_path / "plain.py").write_text(PLAIN.replace("SIGNATURE", "") + "  c.epochs = 2\n  return c\n")
    assert main(["train", "--config", f"{tmp_path}/plain.py:smoke", "--workdir", str(tmp_path / "w")]) == 0
    assert started["config"].steps == 4 and started["config"].epochs == 0
    assert started["config_name"] == "plain:smoke"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("  c.steps = 4\n  return c\n", "data.sources is empty: name a set to train on"),
        (SOURCES + "  return c\n", "give either steps or epochs; got 0 and 0"),
        ("  c.batch = 4\n  return c\n", "plain.py: unknown key 'batch'"),
        (
            "  c.model = {'fusoin': 'ravf'}\n  return c\n",
            "plain.py: model has no setting 'fusoin' (did you mean 'model.fusion'?)",
        ),
        ("  c.data = {'bach': 4}\n  return c\n", "unknown key 'data.bach' (did you mean 'data.batch'?)"),
        (
            SOURCES + "  c.steps = 'four'\n  return c\n",
            "steps must be a whole number of at least 0; got 'four'",
        ),
        ("  return 3\n", "get_config must return a ConfigDict; got 3"),
    ],
)
def test_an_incomplete_plain_config_is_an_error(started, tmp_path, capsys, body, message):
    (tmp_path / "plain.py").write_text(PLAIN.replace("SIGNATURE", "") + body)
    assert main(["train", "--config", f"{tmp_path}/plain.py", "--workdir", str(tmp_path / "w")]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and "config" not in started


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("--config.steps=5 epochs=0", {"steps": 5}),
        ("--config.steps 1e4 --config.epochs 0", {"steps": 10_000}),
        ("--config.steps=1_000 config.epochs=0", {"steps": 1000}),
        ("--config.optimizer.clip_norm=None", {"optimizer.clip_norm": None}),
        ("--config.optimizer.clip_norm=2 --config.optimizer.clip_norm=none", {"optimizer.clip_norm": None}),
        ("--config.optimizer.clip_norm=1/4", {"optimizer.clip_norm": 0.25}),
        ("--config.early_stop.patience=3 --config.early_stop=None", {"early_stop": None}),
        ("--config.early_stop=None early_stop.patience=3", {"early_stop.patience": 3}),
        ("--config.init=none", {"init": {}}),
        ("--config.init={}", {"init": {}}),
        ("--config.resume=runs/old --config.init=none", {"resume": "runs/old", "init": {}}),
        ("--config.loss.cc -0.1", {"loss.weights.cc": -0.1}),
        ("--config.model.remat=yes", {"model.remat": True}),
        ("--config.model.remat FALSE", {"model.remat": False}),
        ("--config.model.dtype='bfloat16'", {"model.dtype": "bfloat16"}),
        ("--config.data.root=a=b,c", {"data.root": "a=b,c"}),
        ("--config.data.sources=(('diem',1),)", {"data.sources": (("diem", 1),)}),
        ("--config.data.sources=[['diem',1],'my.txt']", {"data.sources": (("diem", 1), "my.txt")}),
    ],
)
def test_forms_of_values(started, tmp_path, arguments, expected):
    words = ["--config", "vinet_ucf", "--workdir", str(tmp_path), *arguments.split()]
    assert main(["train", *words]) == 0
    for key, value in expected.items():
        field = started["config"]
        for name in key.split("."):
            field = field[name] if isinstance(field, dict) else getattr(field, name)
        assert field == value and type(field) is type(value), key


def test_the_objective_of_a_row_is_replaced_by_name(started, tmp_path):
    words = ["--config", "dual_domain_adapt:diem_da_both,smoke", "--workdir", str(tmp_path)]
    assert main(["train", *words]) == 0 and started["config"].objective.sources
    assert main(["train", *words, "--config.objective=supervised"]) == 0
    assert started["config"].objective == SupervisedConfig()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\n", "it has no function get_config, which returns an ml_collections.ConfigDict"),
        ("x = 1\ndef (\n", "line 2 is not Python: "),
        ("import nothing_here\n", "an import fails: No module named 'nothing_here'"),
        ("get_config = 3\n", "it has no function get_config"),
        ("raise SystemExit(3)\n", "line 1 fails with SystemExit: 3"),
        (RECIPE + "1 / 0\n", "line 5 fails with ZeroDivisionError"),
        (RECIPE + "def get_config(variants):\n  return config\n", "NameError"),
        (RECIPE + "def get_config(variants):\n  pass\n", "get_config must return a ConfigDict; got None"),
    ],
)
def test_a_file_that_is_no_config(tmp_path, text, message):
    (tmp_path / "broken.py").write_text(text)
    with pytest.raises(AvsalError, match=f"broken.py is not a config: .*{message}"):
        recipes.config(str(tmp_path / "broken.py"))


def test_other_commands_take_no_unknown_flags(capsys):
    with pytest.raises(SystemExit):
        main(["doctor", "--config.data.batch=4"])
    assert "unrecognized arguments: --config.data.batch=4" in capsys.readouterr().err


def test_defaults_are_plain_values_without_a_length():
    values = recipes.defaults()
    assert json.loads(json.dumps(values))["optimizer"]["schedule"]["name"] == "constant"
    with pytest.raises(AvsalError, match="give either steps or epochs; got 0 and 0"):
        build_config(values)
    with pytest.raises(AvsalError, match=r"data.sources is empty"):
        build_config(values | {"steps": 3000})
