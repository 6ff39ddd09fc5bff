import pwd
from collections.abc import Mapping
from dataclasses import MISSING, FrozenInstanceError, asdict, fields, replace
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refnet import config, nets
from refnet.cli.commands import COMMANDS
from refnet.cli.parser import parse
from refnet.config import DEFAULTS, KEYS, Config, Nets, configure
from refnet.errors import ConfigError
from refnet.nets import NETS

RECIPES = {"digits": {"batch": 64, "lr": 0.05}, "alexnet": {"epochs": 90, "lr": 0.02, "init": "paper"}}
INITS = {"digits": ("gaussian", "he"), "alexnet": ("paper", "gaussian")}

# Every source, from the weakest to the strongest: what states it, the lr it gives, and how it is cited.
LR = {
    "default": ({}, 0.01, "the default"),
    "recipe": ({"recipes": RECIPES}, 0.05, "the recipe of digits"),
    "file": ({"toml": "lr = 0.3"}, 0.3, "config.toml"),
    "environment": ({"environ": {"REFNET_LR": "0.4"}}, 0.4, "REFNET_LR"),
    "flag": ({"lr": "0.5"}, 0.5, "--lr"),
}


@pytest.fixture
def resolve(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def call(*, toml=None, environ=None, recipes=RECIPES, **flags):
        file = None
        if toml is not None:
            file = Path("config.toml")
            file.write_bytes(toml if isinstance(toml, bytes) else toml.encode())
        resolved = config.resolve(
            KEYS, flags, environ=environ or {}, file=lambda: file, nets=lambda: Nets(recipes, INITS)
        )
        return Whole(config.to_config(resolved.values), resolved.origin)

    return call


@pytest.fixture
def problems(resolve):
    def call(**sources):
        with pytest.raises(ConfigError) as caught:
            resolve(**sources)
        assert caught.value.exit_code == 2
        return str(caught.value).split("\n")

    return call


class Whole(NamedTuple):
    """A configuration and the source of each key."""

    config: Config
    origin: Mapping[str, str]


def flags_of(*argv):
    """Return what the flags of ``refnet train`` say."""
    _, command, namespace, problems = parse(["train", *argv])
    assert problems == []
    return {name: value for name, value in vars(namespace).items() if name in command.by_name}


class TestSources:
    def test_nothing_stated_gives_the_defaults_and_the_recipe_of_the_default_net(self, resolve):
        resolved = resolve()
        assert resolved.config == Config(**{**DEFAULTS, "batch": 64, "lr": 0.05})
        assert resolved.origin["lr"] == "the recipe of digits"
        assert resolved.origin["momentum"] == "the default"
        assert list(resolved.origin) == list(KEYS)

    @pytest.mark.parametrize(("weaker", "stronger"), list(combinations(LR, 2)))
    def test_the_stronger_source_wins(self, resolve, weaker, stronger):
        resolved = resolve(**{"recipes": {"digits": {}}, **LR[weaker][0], **LR[stronger][0]})
        assert (resolved.config.lr, resolved.origin["lr"]) == LR[stronger][1:]

    @pytest.mark.parametrize(
        "naming",
        [
            {"toml": "net = 'alexnet'"},
            {"environ": {"REFNET_NET": "alexnet"}},
            {"net": "alexnet"},
            {"toml": "net = 'digits'", "environ": {"REFNET_NET": "alexnet"}},
            {"environ": {"REFNET_NET": "digits"}, "net": "alexnet"},
            {"toml": "net = 'digits'", "net": "alexnet"},
        ],
    )
    def test_the_recipe_is_that_of_the_net_the_strongest_source_names(self, resolve, naming):
        resolved = resolve(**naming)
        assert (resolved.config.net, resolved.config.epochs, resolved.config.lr) == ("alexnet", 90, 0.02)
        assert (resolved.config.init, resolved.config.batch) == ("paper", 128)

    def test_the_recipe_yields_to_the_file_that_names_its_net(self, resolve):
        assert resolve(toml="net = 'alexnet'\nepochs = 3").config.epochs == 3

    def test_a_recipe_may_say_none_where_none_is_the_default(self, resolve, problems):
        assert resolve(recipes={"digits": {"init": None}}).config.init is None
        assert problems(recipes={"digits": {"lr": None}}) == [
            "the recipe of digits: lr = None is not allowed; it must be a number above 0"
        ]

    def test_other_variables_are_nobodys_business(self, resolve):
        assert resolve(environ={"PATH": "/bin", "REFNETX": "1", "refnet_lr": "x"}) == resolve()

    def test_a_config_cannot_be_changed(self):
        with pytest.raises(FrozenInstanceError):
            configure().lr = 1.0


class TestValues:
    @pytest.mark.parametrize(
        ("name", "text", "value"),
        [
            ("lr", "1", 1.0),
            ("lr", "1e-3", 1e-3),
            ("momentum", "0", 0.0),
            ("weight_decay", "0", 0.0),
            ("seed", "4294967295", 2**32 - 1),
            ("columns", "1", 1),
            ("max_steps", "1", 1),
            ("lr_drops", "0", 0),
            ("schedule", "fixed", "fixed"),
            ("data", "/a path/with spaces", "/a path/with spaces"),
            ("devices", "cuda:0, cuda:1", ("cuda:0", "cuda:1")),
            ("devices", "cpu", ("cpu",)),
            ("drop_epochs", "1,5,30", (1, 5, 30)),
            ("checked", "true", True),
            ("checked", "0", False),
        ],
    )
    def test_flag_and_environment_read_texts_alike(self, resolve, name, text, value):
        by_flag = getattr(resolve(**{name: text}).config, name)
        by_environ = getattr(resolve(environ={f"REFNET_{name.upper()}": text}).config, name)
        assert by_flag == by_environ == value
        assert type(by_flag) is type(by_environ) is type(value)

    @pytest.mark.parametrize(
        ("line", "value"),
        [
            ("lr = 1", 1.0),
            ("devices = ['a', 'b']", ("a", "b")),
            ("devices = 'a,b'", ("a", "b")),
            ("devices = []", ()),
            ("drop_epochs = [2, 3]", (2, 3)),
            ("drop_epochs = '2, 3'", (2, 3)),
            ("checked = true", True),
        ],
    )
    def test_toml(self, resolve, line, value):
        found = getattr(resolve(toml=line).config, line.split()[0])
        assert (found, type(found)) == (value, type(value))

    @pytest.mark.parametrize(
        ("name", "texts"),
        {
            "net": ["lenet", "Digits", " digits"],
            "init": ["paper", "none"],
            "data": [" ", "a\0b", "a\udcff"],
            "backend": ["\t"],
            "columns": ["0", "3", "2.0", "two"],
            "devices": ["a,,b", ",", "a, "],
            "checked": ["yes", "True ", "2"],
            "seed": ["-1", "4294967296", "1e2", "0x10"],
            "epochs": ["0", "1.5", "nan", "9" * 5000],
            "max_steps": ["0", "none"],
            "batch": ["0", "-128"],
            "lr": ["0", "-0.1", "nan", "inf", "-inf", "1e999", "fast", "true", "0,1"],
            "momentum": ["1", "-0.1", "nan", "inf"],
            "weight_decay": ["-1e-9", "inf", "nan"],
            "schedule": ["step", "Fixed"],
            "lr_factor": ["1", "inf", "0.1"],
            "lr_drops": ["-1"],
            "patience": ["0"],
            "drop_epochs": ["0", "2,2", "3,1", "1,", "1.0", "1;2"],
            "run_dir": ["   "],
        }.items(),
    )
    def test_impossible_texts(self, problems, name, texts):
        for text in ["", *texts]:
            (by_flag,) = problems(**{name: text})
            (by_environ,) = problems(environ={f"REFNET_{name.upper()}": text})
            assert by_flag.startswith(f"--{name.replace('_', '-')} ")
            assert by_environ.startswith(f"REFNET_{name.upper()}=")
            assert by_flag.isprintable()
            assert (
                by_flag.split(" is not allowed; it must be ")[1] == by_environ.split(" is not allowed; it must be ")[1]
            )

    def test_every_key_refuses_the_empty_text(self, problems):
        assert len(problems(environ={f"REFNET_{name.upper()}": "" for name in KEYS})) == len(KEYS)

    @pytest.mark.parametrize(
        "line",
        [
            "seed = true",
            "seed = 1.0",
            "epochs = 1e2",
            "epochs = '3'",
            "lr = true",
            "lr = '0.1'",
            "lr = 'nan'",
            "lr = nan",
            "lr = inf",
            "lr = -1.0",
            "lr = []",
            f"lr = 1{'0' * 400}",
            "lr = 2020-01-01",
            "checked = 1",
            "checked = 'true'",
            "net = 3",
            "net = ['digits']",
            "data = ''",
            "init = 'unheard of'",
            "devices = 1",
            "devices = ['a', '']",
            "devices = ['a', 1]",
            "devices = ''",
            "drop_epochs = [2, 1]",
            "drop_epochs = [1.0]",
            "drop_epochs = [true]",
            "drop_epochs = [[1]]",
            "drop_epochs = [{a = 1}]",
            "drop_epochs = 5",
        ],
    )
    def test_impossible_toml(self, problems, line):
        (problem,) = problems(toml=line)
        assert problem.startswith(f"config.toml: {line.split()[0]} = ")
        assert " is not allowed; it must be " in problem

    @pytest.mark.parametrize("line", ["seed = {}", "epochs = {}", "lr = {}", "drop_epochs = [{}]", "devices = [{}]"])
    def test_an_integer_that_python_cannot_print(self, problems, line):
        (problem,) = problems(toml=line.format(f"0x{'f' * 9000}"))
        assert "0xffffffffffffffffff... (more than 64 bits)" in problem

    def test_whole_numbers_have_64_bits(self, resolve, problems):
        assert resolve(epochs=str(2**63 - 1)).config.epochs == 2**63 - 1
        assert len(problems(epochs=str(2**63), max_steps=str(10**400), toml=f"lr = {10**400}")) == 3

    def test_a_long_value_is_cut(self, problems):
        (problem,) = problems(lr="a" * 5000)
        assert problem == f"--lr {'a' * 77}... is not allowed; it must be a number above 0"


class TestMessages:
    @pytest.mark.parametrize(
        ("sources", "message"),
        [
            ({"toml": "lr = -1.0"}, "config.toml: lr = -1.0 is not allowed; it must be a number above 0"),
            ({"toml": "seed = true"}, "config.toml: seed = true is not allowed; it must be a whole number from 0 to "),
            ({"lr": "nan"}, "--lr nan is not allowed; it must be a number above 0"),
            ({"lr_factor": "0"}, "--lr-factor 0 is not allowed; it must be a number above 1"),
            ({"data": ""}, "--data '' is not allowed; it must be 'digits' or a path"),
            (
                {"environ": {"REFNET_BATCH": "0"}},
                "REFNET_BATCH=0 is not allowed; it must be a whole number of at least 1",
            ),
            ({"net": "lenet"}, "--net lenet is not allowed; it must be one of digits, alexnet"),
            ({"init": "paper"}, "--init paper is not allowed; it must be one of gaussian, he"),
            ({"net": "alexnet", "init": "he"}, "--init he is not allowed; it must be one of paper, gaussian"),
            ({"environ": {"REFNET_EPOCS": "1"}}, "REFNET_EPOCS is not a setting; did you mean REFNET_EPOCHS?"),
            ({"environ": {"REFNET_Lr": "1"}}, "REFNET_Lr is not a setting; did you mean REFNET_LR?"),
            ({"environ": {"REFNET_WD": "1"}}, "REFNET_WD is not a setting; did you mean REFNET_WEIGHT_DECAY?"),
            ({"toml": "learning_rate = 1"}, "config.toml: learning_rate is not a setting; did you mean lr?"),
            ({"toml": "batch_size = 1"}, "config.toml: batch_size is not a setting; did you mean batch?"),
            ({"toml": "lr-factor = 2"}, "config.toml: lr-factor is not a setting; did you mean lr_factor?"),
            ({"toml": "'a\\nb' = 2"}, "config.toml: 'a\\nb' is not a setting; "),
            ({"toml": "'' = 2"}, "config.toml: '' is not a setting; "),
            ({"toml": "[train]\nlr = 1"}, "config.toml: train is a table, not a key; write the keys at the top"),
            ({"toml": "net.name = 'digits'"}, "config.toml: net is a table, not a key; write the keys at the top"),
            ({"lr_factr": "2"}, "--lr-factr is not a setting; did you mean --lr-factor?"),
            (
                {"recipes": {"digits": {"lr": 0}}},
                "the recipe of digits: lr = 0 is not allowed; it must be a number above",
            ),
            ({"recipes": {"digits": {"rate": 0}}}, "the recipe of digits: rate is not a setting; "),
            ({"toml": "lr = 1\nlr = 2\n"}, "config.toml: not TOML: Cannot overwrite a value (at line 2, column 7)"),
            ({"toml": "epochs = 3\nlr = @"}, "config.toml: not TOML: Invalid value (at line 2, column 6)"),
            (
                {"toml": "epochs = 3\nlr ="},
                "config.toml: not TOML: Invalid value (at line 2, column 5, the end of the file)",
            ),
            ({"toml": b"# \xc3\xa9\ndata = '\xff'"}, "config.toml: not UTF-8 (at line 2, column 9); save it as UTF-8"),
            ({"toml": f"seed = {'9' * 5000}"}, "config.toml: not TOML: "),
            ({"toml": f"seed = {'[' * 9999}"}, "config.toml: nested too deeply"),
        ],
    )
    def test_one_problem(self, problems, sources, message):
        (problem,) = problems(**sources)
        assert problem.startswith(message)
        assert problem.isprintable()

    @pytest.mark.parametrize(("name", "reason"), [("gone.toml", "No such file"), (".", "Is a directory")])
    def test_a_file_that_cannot_be_read(self, name, reason):
        with pytest.raises(ConfigError) as caught:
            config.resolve(KEYS, {}, environ={}, file=lambda: Path(name), nets=lambda: Nets(RECIPES, INITS))
        assert str(caught.value).startswith(f"{name}: cannot be read ({reason}")

    def test_all_problems_of_all_sources_at_once(self, problems):
        found = problems(
            recipes={"digits": {"patience": 0}},
            toml="learning_rate = 1\nlr = -1\nbatch = 32\n[optimiser]\nmomentum = 2",
            environ={"REFNET_EPOCS": "1", "REFNET_BATCH": "", "REFNET_SEED": "1"},
            lr="nan",
            init="paper",
        )
        assert [problem.split(" is ")[0] for problem in found] == [
            "the recipe of digits: patience = 0",
            "config.toml: learning_rate",
            "config.toml: lr = -1",
            "config.toml: optimiser",
            "REFNET_EPOCS",
            "REFNET_BATCH=''",
            "--lr nan",
            "--init paper",
        ]

    def test_a_replaced_value_is_checked_too(self, problems):
        (problem,) = problems(toml="lr = -1", lr="0.1")
        assert problem.startswith("config.toml: lr = -1 ")

    def test_a_replaced_init_may_be_another_nets(self, resolve):
        resolved = resolve(toml="net = 'alexnet'\ninit = 'paper'", net="digits", init="he")
        assert (resolved.config.net, resolved.config.init) == ("digits", "he")

    def test_an_init_left_over_from_a_replaced_net_is_reported_where_it_stands(self, problems):
        (problem,) = problems(toml="net = 'alexnet'\ninit = 'paper'", net="digits")
        assert problem == 'config.toml: init = "paper" is not allowed; it must be one of gaussian, he'

    def test_an_unknown_net_is_not_replaced_by_a_weaker_one(self, problems):
        (problem,) = problems(toml="net = 'digits'", net="lenet", init="lenets own")
        assert problem.startswith("--net lenet ")

    def test_behind_a_broken_file_no_net_is_guessed(self, problems):
        found = problems(toml="net = alexnet", init="paper", lr="0")  # 'paper' is right for what the file means
        assert [problem.split(" ")[0] for problem in found] == ["config.toml:", "--lr"]
        found = problems(toml="net = alexnet", init="paper", net="digits")
        assert [problem.split(" ")[0] for problem in found] == ["config.toml:", "--init"]


class TestHome:
    """A leading ~ or ~user is the home folder in every path, from every source."""

    @pytest.fixture(autouse=True)
    def home(self, monkeypatch, tmp_path):
        monkeypatch.setenv("HOME", str(tmp_path))
        return str(tmp_path)

    @pytest.mark.parametrize("key", ["data", "run_dir"])
    def test_of_every_source(self, resolve, home, key):
        stated = [
            {"toml": f"{key} = '~/x'"},
            {"environ": {f"REFNET_{key.upper()}": "~/x"}},
            {key: "~/x"},
            {"recipes": RECIPES | {"digits": {key: "~/x"}}},
        ]
        assert [getattr(resolve(**sources).config, key) for sources in stated] == [f"{home}/x"] * 4
        assert getattr(configure(**{key: Path("~/x")}), key) == f"{home}/x"

    def test_every_flag_that_is_a_path(self, home):
        commands = [*COMMANDS.values(), *COMMANDS["data"].commands.values()]
        every = [s for command in commands for s in command.settings]
        are_paths = [s for s in every if s.allowed.names_path]
        named = {
            "data",
            "run_dir",
            "output",
            "resume",
            "config",
            "run",
            "runs",
            "images",
            "source",
            "destination",
            "to",
        }
        assert {s.name for s in are_paths} >= named
        for rule in (s.allowed for s in are_paths if s.name != "output"):
            read = rule.from_value(["~/x"]) if rule.many else (rule.from_text("~/x"),)
            assert list(map(str, read)) == [f"{home}/x"]
        assert all(s.allowed.names_path for s in every if s.allowed.kind is Path)

    def test_the_home_of_another_user_and_of_nobody(self):
        root = configure(data="~root/x").data
        assert root == f"{pwd.getpwnam('root').pw_dir}/x"
        assert configure(data="~no.such.user/x").data == "~no.such.user/x"

    def test_an_account_without_a_home(self, monkeypatch):
        def unknown(uid):
            raise KeyError(uid)

        monkeypatch.delenv("HOME")
        monkeypatch.setattr(pwd, "getpwuid", unknown)
        assert configure(data="~/x").data == "~/x"

    def test_a_tilde_elsewhere_is_a_letter(self):
        assert configure(data="a~/x", run_dir="./~").data == "a~/x"


class TestWindows:
    """TOML files as Windows' editors write them."""

    def test_a_byte_order_mark_and_carriage_returns(self, resolve):
        assert resolve(toml=b"\xef\xbb\xbfepochs = 3\r\nlr = 0.5\r\n").config.epochs == 3

    @pytest.mark.parametrize("path", [r"C:\Users\me", r"C:\temp", r"data\images", r"\\server\share"])
    def test_a_path_in_double_quotes(self, problems, path):
        (problem,) = problems(toml=f'epochs = 3\ndata = "{path}"\n')
        assert "line 2" in problem
        assert problem.endswith("""write a path in single quotes ('C:\\data') or with / ("C:/data")""")

    @pytest.mark.parametrize("written", [r"'C:\temp'", r'"C:\\temp"'])
    def test_a_path_as_toml_has_it(self, resolve, written):
        assert resolve(toml=f"data = {written}").config.data == r"C:\temp"


class TestFlags:
    def test_only_what_was_given(self):
        assert flags_of("--config", "x.toml") == {"config": "x.toml"}
        assert flags_of("--lr-factor", "oops", "--run-dir=here") == {"lr_factor": "oops", "run_dir": "here"}

    @pytest.mark.parametrize(("flag", "value"), [("--checked", True), ("--no-checked", False)])
    def test_a_switch_goes_before_the_environment(self, resolve, flag, value):
        environ = {"REFNET_CHECKED": str(not value).lower()}
        assert resolve(environ=environ, **flags_of(flag)).config.checked is value

    def test_every_field_has_a_key_and_no_default_so_that_no_config_is_incomplete(self):
        assert [field.name for field in fields(Config)] == list(KEYS)
        assert {field.default for field in fields(Config)} == {MISSING}
        with pytest.raises(TypeError, match="missing"):
            Config(net="digits")


class TestConfigure:
    """The way for Python code."""

    @pytest.mark.parametrize("net", NETS)
    def test_the_recipe_of_the_net_applies(self, net):
        whole, recipe = asdict(configure(net)), nets.get(net).recipe
        assert recipe["epochs"] > 1
        assert {name: whole[name] for name in recipe} == recipe
        assert {name: whole[name] for name in DEFAULTS.keys() - recipe.keys()} == {
            name: value for name, value in {**DEFAULTS, "net": net}.items() if name not in recipe
        }

    def test_an_argument_goes_before_the_recipe_and_the_environment_plays_no_part(self, monkeypatch):
        monkeypatch.setenv("REFNET_EPOCHS", "7")
        assert configure("digits", batch=16) == replace(configure("digits"), batch=16)
        assert configure("digits").epochs == 26

    def test_paths_lists_and_numbers_of_numpy_are_taken_for_what_they_mean(self):
        whole = configure(
            "paper", data=Path("photos"), batch=np.int64(16), lr=np.float32(0.5), drop_epochs=[np.int32(2), 3]
        )
        assert (whole.data, whole.batch, whole.lr, whole.drop_epochs) == ("photos", 16, 0.5, (2, 3))
        assert (type(whole.batch), type(whole.lr), type(whole.drop_epochs[0])) == (int, float, int)

    def test_every_wrong_argument_is_named_at_once(self):
        with pytest.raises(ConfigError) as caught:
            configure("lenet", batch=0, lr="0.1", learning_rate=1, graph=1, devices=["a", 1], init="x" * 99)
        assert str(caught.value).splitlines() == [
            "net='lenet' is not allowed; it must be one of digits, paper, half, cifar, fashion",
            "batch=0 is not allowed; it must be a whole number of at least 1",
            "lr='0.1' is not allowed; it must be a number above 0",
            "learning_rate is not a setting; did you mean lr?",
            "graph=1 is not allowed; it must be true or false",
            "devices=('a', 1) is not allowed; it must be names of devices, separated by commas",
        ]


text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).filter(str.strip)
at_least_1 = st.integers(1, 10**9)
configs = st.sampled_from(sorted(INITS)).flatmap(
    lambda net: st.builds(
        lambda **values: Config(**{**DEFAULTS, **values}),
        net=st.just(net),
        # With a recipe that has an init, None is no result of `resolve`.
        init=st.sampled_from(INITS[net]) | st.none() if "init" not in RECIPES[net] else st.sampled_from(INITS[net]),
        data=st.none() | text,
        backend=text,
        columns=st.integers(1, 2),
        devices=st.lists(text, max_size=3).map(tuple),
        checked=st.booleans(),
        seed=st.integers(0, 2**32 - 1),
        epochs=at_least_1,
        max_steps=st.none() | at_least_1,
        batch=at_least_1,
        lr=st.floats(0, exclude_min=True, allow_infinity=False),
        momentum=st.floats(0, 1, exclude_max=True),
        weight_decay=st.floats(0, allow_infinity=False),
        schedule=st.sampled_from(["plateau", "fixed"]),
        lr_factor=st.floats(1, exclude_min=True, allow_infinity=False),
        lr_drops=st.integers(0, 100),
        patience=at_least_1,
        drop_epochs=st.sets(at_least_1, max_size=4).map(sorted).map(tuple),
        run_dir=st.none() | text,
    )
)


class TestRoundTrip:
    @given(written=configs)
    def test_toml_reads_back_to_an_equal_config(self, tmp_path_factory, written):
        file = tmp_path_factory.getbasetemp() / "round_trip.toml"
        file.write_bytes(config.to_toml(written).encode())
        resolved = config.resolve(KEYS, {}, environ={}, file=lambda: file, nets=lambda: Nets(RECIPES, INITS))
        read = config.to_config(resolved.values)
        assert read == written
        assert [type(v) for v in asdict(read).values()] == [type(v) for v in asdict(written).values()]

    def test_none_is_left_out(self):
        assert "run_dir" not in config.to_toml(configure())
        assert 'run_dir = "x"' in config.to_toml(configure(run_dir="x"))


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=5,
)
names = st.sampled_from(sorted(KEYS)) | st.text(max_size=8)


@settings(max_examples=300)
@given(
    recipe=st.dictionaries(names, anything, max_size=4),
    environ=st.dictionaries(names.map(lambda name: f"REFNET_{name.upper()}"), st.text(max_size=8), max_size=4),
    flags=st.dictionaries(names, st.text(max_size=8) | st.booleans(), max_size=4),
)
def test_whatever_is_stated_the_answer_is_a_config_or_lines_of_problems(recipe, environ, flags):
    try:
        resolved = config.resolve(KEYS, flags, environ=environ, nets=lambda: Nets({"digits": recipe}, INITS))
    except ConfigError as error:
        problems = str(error).split("\n")
        assert all(problem.isprintable() for problem in problems)
        assert len(problems) <= len(recipe) + len(environ) + len(flags)
    else:
        assert isinstance(config.to_config(resolved.values), Config)
        assert recipe.keys() | flags.keys() <= KEYS.keys()
