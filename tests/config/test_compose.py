"""Composition of configs: groups, overrides, error messages, plugins."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from helpers.tiny_recipe import TOY
from omegaconf import OmegaConf

import mvdiff
from mvdiff.cli.main import COMMANDS, main
from mvdiff.config.compose import compose
from mvdiff.config.groups import groups, load_plugins
from mvdiff.errors import ConfigError, MvdiffError

NEEDED = {
    "generate": ["image=x"],
    "train": ["data=x"],
    "render": ["out=x"],
    "reconstruct": ["views=x"],
    "evaluate": ["pred=x", "reference=y"],
    "export": ["run_dir=x", "out=y"],
    "convert": ["source=x", "output=y"],
    "ablate": ["data=x"],
}


def test_every_command_composes_with_its_defaults():
    assert set(NEEDED) == set(COMMANDS) - {"list"}
    for command, needed in NEEDED.items():
        assert compose(command, needed)


def slots_of(command: str) -> list[str]:
    config = compose(command, NEEDED[command])
    return [*(group for group in groups() if group in config), *["recipe"] * ("size" in config)]


@pytest.mark.parametrize("command", ["generate", "train", "reconstruct"])
def test_every_variant_composes_for_every_command_it_belongs_to(command):
    slots = slots_of(command)
    assert slots
    for group in slots:
        for variant in groups()[group]:
            config = compose(command, [*NEEDED[command], f"{group}={variant}"])
            if group not in ("recipe", "rig"):
                assert config[group].get("name", variant) in (variant, config[group].get("name"))
            assert not [k for k in config if OmegaConf.is_missing(config, k)]


def test_a_recipes_numbers_can_be_overridden_and_reach_the_parts():
    config = compose("generate", [*NEEDED["generate"], "sizes.volume_side=24", "sampler=dpmpp"])
    assert config.volume.side == 24
    assert config.sampler.name == "dpmpp"
    assert config.sampler.steps == 12


REFUSED = {
    "elevaton=3": r"unknown setting 'elevaton' of mvdiff generate; choose from .*elevation.* Did "
    r"you mean 'elevation'\?",
    "sampler.step=3": r"unknown setting 'sampler.step'.*choose from eta, name, options, steps. Did",
    "attention=dephtwise": r"unknown attention 'dephtwise'; choose from .*none.*Did you mean "
    r"'depthwise'",
    "recipe=big": r"unknown recipe 'big'; choose from .*tiny",
    "sampler=ddin": r"unknown sampler 'ddin'; choose from ddim, .*ddpm, dpmpp",
    "attentions=none": r"unknown setting 'attentions'.*Did you mean 'attention'",
    "seed=abc": r"seed must be a whole number, got 'abc': the default is 0",
    "seed=1.5": r"seed must be a whole number, got 1.5",
    "seed=true": r"seed must be a whole number, got true",
    "seed=null": r"seed must be a whole number, got null",
    "seed=": r"seed must be a whole number, got ''",
    "seed=1,2": r"seed takes one value, got .1,2.: write seed=N samples=K",
    "turntable=maybe": r"turntable must be true or false, got 'maybe': the default is true",
    "guidance.scale=strong": r"guidance.scale must be a number in .*, got 'strong'",
    "train.betas=5": r"train.betas must be a list of numbers, got 5",
    "sampler.steps=many": r"sampler.steps must be a whole number",
    "train=5": r"train must be a mapping, got 5",
    "photo.png": r"'photo.png' is not a setting: write key=value, see mvdiff generate --help",
    "--samples": r"'--samples' is not a setting: write key=value",
    "=3": r"'=3' has no setting's name",
    "@x=3": r"'@x=3' has no setting's name",
    "seed='1": r"cannot read 'seed='1': put special characters in quotes",
    "image=": r"image= is empty: name an image",
    "plugins=[no_such_package]": r"cannot import the plugin 'no_such_package'.*install it",
}


@pytest.mark.parametrize("override", REFUSED)
def test_what_does_not_compose_is_one_sentence_with_the_choices(override):
    with pytest.raises(MvdiffError, match=REFUSED[override]) as caught:
        compose("generate", [*([] if override == "image=" else ["image=x"]), override])
    assert "\n" not in str(caught.value)


def test_a_setting_of_another_variant_lists_this_variants_settings():
    with pytest.raises(MvdiffError, match=r"'reconstructor.resolution'.*choose from name"):
        compose("generate", ["image=x", "reconstructor=none", "reconstructor.resolution=9"])


def test_settings_of_another_command_are_unknown():
    with pytest.raises(MvdiffError, match=r"unknown setting 'sampler' of mvdiff reconstruct"):
        compose("reconstruct", ["views=x", "sampler=ddim"])


def test_missing_settings_are_named():
    with pytest.raises(MvdiffError, match=r"mvdiff evaluate needs pred=… and reference=…: see"):
        compose("evaluate")


def test_a_lone_path_gets_the_setting_it_was_meant_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cup.png").write_text("")
    with pytest.raises(MvdiffError, match=r"'cup.png' is not a setting: write image=cup.png"):
        compose("generate", ["cup.png"])


AWKWARD = [
    "my photo.png",
    "a,b.png",
    "cup (1).png",
    "it's.png",
    'the "cup".png',
    "a=b.png",
    "größe-杯.png",
    "[x].png",
    "{x}.png",
    "$x.png",
    "a${b}.png",
    "#1 (final), v2.png",
    "back\\slash.png",
    "end\\",
    "a\\'b.png",
    " lead.png",
    "x:y?z*&;|<>!.png",
    "%20.png",
    "123",
    "1e5",
    "true",
    "none",
]


@pytest.mark.parametrize("name", AWKWARD)
@pytest.mark.parametrize(("command", "key"), [("generate", "image"), ("reconstruct", "views")])
def test_paths_are_taken_literally(command, key, name):
    others = [o for o in NEEDED[command] if not o.startswith(f"{key}=")]
    config = compose(command, [f"{key}={name}", *others])
    assert config[key] == name


@pytest.mark.parametrize("name", AWKWARD)
def test_paths_in_lists_are_taken_literally(name):
    protected = f"'{name}'" if "," in name or name != name.strip() else name
    if "," in name and "'" in name:
        protected = f'"{name}"'
    config = compose("generate", [f"image=[{protected},other.png]"])
    assert list(config.image) == [name, "other.png"]


def test_the_home_folder_is_expanded(monkeypatch):
    monkeypatch.setenv("HOME", "/somewhere")
    assert compose("generate", ["image=~/x.png"]).image == "/somewhere/x.png"
    assert list(compose("generate", ["image=[~/x.png]"]).image) == ["/somewhere/x.png"]
    assert compose("generate", ["image=~x.png"]).image == "~x.png"


def test_null_is_no_path_where_one_is_needed(tmp_path, monkeypatch):
    for command, key in (("generate", "image"), ("generate", "out"), ("train", "data")):
        others = [o for o in NEEDED[command] if not o.startswith(f"{key}=")]
        with pytest.raises(MvdiffError, match=f"{key} needs a path, got null"):
            compose(command, [*others, f"{key}=null"])
    assert compose("reconstruct", ["views=x", "out=null"]).out is None
    monkeypatch.chdir(tmp_path)
    (tmp_path / "null").touch()
    assert compose("generate", ["image=null"]).image == "null"


def test_an_unmatched_quote_in_a_list_is_named():
    with pytest.raises(MvdiffError, match="quote"):
        compose("generate", ["image=['a, b.png]"])


@pytest.mark.parametrize("word", ["+foo=1", "+train.stepz=3", "+sizes.depht=2"])
def test_additions_that_nothing_reads_are_rejected(word):
    with pytest.raises(MvdiffError, match="unknown setting"):
        compose("train", ["data=x", word])


def test_additions_that_a_recipe_reads_are_accepted():
    assert compose("generate", ["image=x", "+framing=syncdreamer"]).framing == "syncdreamer"


@pytest.mark.parametrize(
    ("command", "word", "fact"),
    [
        ("generate", "-m", "samples=K"),
        ("render", "--multirun", "mvdiff train -m"),
        ("train", "train.lr=1e-3,1e-4", "mvdiff ablate train.lr=1e-3,1e-4"),
        ("generate", "seed=0,1", "samples=K"),
        ("train", "hydra.run.dir=x", "no effect"),
    ],
)
def test_habits_from_hydra_are_answered_with_what_to_type(command, word, fact):
    with pytest.raises(MvdiffError, match=fact):
        compose(command, [*NEEDED[command], word])


def test_removing_a_part_is_one_sentence():
    with pytest.raises(MvdiffError, match=r"~recipe.*removes"):
        compose("generate", ["image=x", "~recipe"])


@pytest.mark.parametrize(
    "word",
    [
        "train.lr=nan",
        "train.lr=-1e-3",
        "train.lr=.inf",
        "train.betas=[0.9,1.0]",
        "train.condition_dropout.token=1.5",
        "train.timestep_bias=0",
        "train.ema_decay=1.0",
        "train.batch_size=100000000",
        "train.grad_clip=nan",
        "train.augment.hue=nan",
        "rig.count=1000000000",
        "unet.heads=0",
        "unet.groups=-1",
        "max_minutes=nan",
        "seed=100000000000000000000",
        "reconstructor.resolution=100000",
    ],
)
def test_numbers_out_of_range_are_rejected_by_name(word):
    command = "reconstruct" if word.startswith("reconstructor") else "train"
    key = word.partition("=")[0]
    given = ["views=x"] if command == "reconstruct" else ["data=x"]
    with pytest.raises(MvdiffError, match=rf"{key.split('.')[-1].removeprefix('unet_')}") as caught:
        compose(command, [*given, word])
    assert "number" in str(caught.value)


def test_quotes_and_lists_of_hydra_still_work(tmp_path, monkeypatch):
    assert compose("generate", ["image='a b.png'"]).image == "a b.png"
    assert list(compose("generate", ["image=[a.png,'b (1).png']"]).image) == ["a.png", "b (1).png"]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "[a]").write_text("")
    assert compose("generate", ["image=[a]"]).image == "[a]"


def test_python_composes_exactly_as_the_command_line(monkeypatch, capsys):
    seen = []

    class Stop(Exception):
        """Raised when the config is composed."""

    def stop(config):
        seen.append(config)
        raise Stop

    def load(*args, **kwargs):
        with pytest.raises(Stop):
            mvdiff.load(*args, **kwargs)

    monkeypatch.setattr("mvdiff.builders.build_pipeline", stop)
    overrides = ["attention=none", "sampler=dpmpp", "sampler.steps=7", *TOY[:3]]
    load("tiny", overrides=overrides, device="cpu")
    assert main(["generate", "image=none", "device=cpu", *overrides, "--cfg"]) == 0
    printed = OmegaConf.create(capsys.readouterr().out)
    assert OmegaConf.to_container(seen[0]) == OmegaConf.to_container(printed)
    load(checkpoint="/x/y (1).safetensors")
    assert seen[1].weights == "/x/y (1).safetensors"
    load(overrides="attention=none")
    assert seen[2].attention.name == "none"


def test_an_application_that_uses_hydra_itself_is_left_alone():
    from hydra import compose as theirs
    from hydra import initialize_config_module
    from hydra.core.global_hydra import GlobalHydra

    with initialize_config_module("mvdiff.conf", version_base="1.3"):
        mine = GlobalHydra.instance().hydra
        compose("generate", ["image=x"])
        assert GlobalHydra.instance().hydra is mine
        assert theirs("generate", ["image=y"]).image == "y"
        with pytest.raises(MvdiffError):
            compose("generate", ["image=x", "attention=foo"])
        assert GlobalHydra.instance().hydra is mine


PLUGIN = {
    "__init__.py": "from . import attention\n",
    "attention.py": """
        from mvdiff.attention import ATTENTION, ViewAttention
        from torch import nn

        @ATTENTION.register("their-mean")
        class TheirMean(ViewAttention):
            '''Adds what the views have in common.'''

            needs = frozenset({"all_views"})

            def __init__(self, slot, strength=0.0):
                super().__init__()
                self.out = nn.Conv2d(slot.channels, slot.channels, 1)
                self.strength = strength

            def forward(self, x, scene):
                return x + self.strength * x.mean(dim=1, keepdim=True)
        """,
    "conf/attention/their-mean.yaml": """
        # What the views have in common
        name: their-mean
        strength: 0.5
        """,
    "conf/recipe/their-recipe.yaml": """
        # @package _global_
        # Theirs
        defaults:
          - tiny
          - override /attention: their-mean
          - _self_
        """,
}


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """A package outside this repository, in a folder with an unusual name."""
    home = tmp_path / "site (1), packages"
    for name, text in PLUGIN.items():
        file = home / "their_views" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text))
    monkeypatch.syspath_prepend(str(home))
    yield home
    from mvdiff.attention import ATTENTION

    ATTENTION._entries.pop("their-mean", None)
    for module in [m for m in sys.modules if m.startswith("their_views")]:
        del sys.modules[module]


def test_a_variant_of_another_package_composes_builds_and_runs(plugin):
    import torch
    from helpers.tiny_recipe import photos, randomize

    from mvdiff import builders

    chosen = ["plugins=[their_views]", "attention=their-mean"]
    config = compose("generate", ["image=x", *TOY, *chosen, "attention.strength=0.25"])
    assert config.attention == {"name": "their-mean", "strength": 0.25}
    model = randomize(builders.build_model(config)).eval()
    assert model.all_views
    assert all(slot.strength == 0.25 for slot in model.unet.slots.values())
    x = torch.randn(model.latent_shape(1), generator=torch.Generator().manual_seed(0))
    condition = model.condition(photos(1), torch.tensor([20.0]))
    assert torch.isfinite(model(x, torch.tensor([500.0]), condition, batch_views=1)).all()


def test_an_unknown_setting_of_a_plugins_variant_lists_its_settings(plugin):
    chosen = ["plugins=[their_views]", "attention=their-mean"]
    with pytest.raises(ConfigError, match=r"'attention\.strenth'.*Did you mean 'strength'\?"):
        compose("generate", ["image=x", *chosen, "attention.strenth=0.25"])


def test_a_plugin_may_bring_a_recipe_and_its_names_join_the_choices(plugin):
    config = compose("generate", ["image=x", "recipe=their-recipe", "plugins=their_views"])
    assert config.attention.name == "their-mean"
    assert config.recipe_name == "their-recipe"
    with pytest.raises(
        MvdiffError, match=r"unknown attention 'their-men'; choose from .*depthwise, .*none"
    ):
        compose("generate", ["image=x", "plugins=their_views", "attention=their-men"])
    with pytest.raises(MvdiffError, match=r"choose from .*their-mean. Did you mean 'their-mean'"):
        compose("generate", ["image=x", "plugins=their_views", "attention=their-men"])
    assert "their-mean" not in groups()["attention"]
    assert "their-mean" in groups(load_plugins(["their_views"]))["attention"]


def test_the_command_line_lists_a_plugins_variants(plugin, capsys):
    assert main(["list", "plugins=[their_views]"]) == 0
    out = capsys.readouterr().out
    assert "their-mean" in out
    assert "Adds what the views have in common." in out
    assert main(["generate", "--help", "plugins=their_views"]) == 0
    assert "rowwise, their-mean" in " ".join(capsys.readouterr().out.split())


def test_a_plugin_without_yaml_is_chosen_by_name_alone(plugin):
    import shutil

    from mvdiff import builders

    shutil.rmtree(plugin / "their_views" / "conf")
    given = ["image=x", *TOY, "plugins=their_views", "attention=none", "attention.name=their-mean"]
    model = builders.build_model(compose("generate", given))
    assert type(model.unet.slots["mid"]).__name__ == "TheirMean"


@pytest.fixture
def installed(plugin, monkeypatch):
    """The plugin as an installed distribution with an entry point."""
    info = plugin / "their_views-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-views\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[mvdiff.plugins]\ntheirs = their_views\n")
    return plugin


def test_variants_of_installed_plugins_are_among_the_choices(installed):
    with pytest.raises(ConfigError, match=r"choose from .*their-mean.*Did you mean 'their-mean'"):
        compose("generate", ["image=x", "attention=their-men"])
    assert "their_views" not in sys.modules


def test_an_installed_plugin_is_imported_only_when_a_variant_of_it_is_chosen(installed, capsys):
    compose("generate", ["image=x"])
    assert main(["list"]) == 0
    assert main(["generate", "--help"]) == 0
    printed = capsys.readouterr().out
    assert "plugin 'theirs' (not imported): attention=their-mean, recipe=their-recipe" in printed
    assert "rowwise, their-mean" in " ".join(printed.split())
    assert "their_views" not in sys.modules
    assert compose("generate", ["image=x", "attention=their-mean"]).attention.strength == 0.5
    assert "their_views" in sys.modules


def test_an_installed_plugin_is_named_by_its_entry_point(installed):
    config = compose("generate", ["image=x", "plugins=[theirs]", "recipe=their-recipe"])
    assert config.attention.name == "their-mean"
    assert config.recipe_name == "their-recipe"


def test_a_plugin_that_fails_to_import_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "broken_views.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(MvdiffError, match=r"plugin 'broken_views' \(ZeroDivisionError: division"):
        compose("generate", ["image=x", "plugins=[broken_views]"])


def test_composing_needs_no_torch():
    code = (
        "import sys; from mvdiff.config.compose import compose; compose('generate', ['image=x']);"
        "sys.exit('torch' in sys.modules or 'diffusers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_types_of_a_part_are_those_of_its_constructor():
    from mvdiff.config.instantiate import check_arguments

    class Part:
        def __init__(
            self,
            channels: int,
            dims: list[int],
            scale: float = 1.0,
            names: tuple[str, ...] = (),
            closed: bool = False,
            rate: float | None = None,
        ) -> None: ...

    good = {"dims": [1, 2], "scale": 2, "names": ["a"], "closed": True, "rate": None}
    check_arguments("part 'x'", Part, good, given={"channels": 3})
    for key, value in {
        "dims": 5,
        "scale": "big",
        "names": [1],
        "closed": "yes",
        "rate": True,
    }.items():
        with pytest.raises(ConfigError, match=f"part 'x': {key} must be "):
            check_arguments("part 'x'", Part, {**good, key: value}, given={"channels": 3})
    with pytest.raises(ConfigError, match="no setting depth; choose from dims, scale"):
        check_arguments("part 'x'", Part, {"depth": 1}, given={"channels": 3})


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("mvdiff ge", ["generate"]),
        (
            "mvdiff generate sampler=dd",
            [f"sampler={name}" for name in groups()["sampler"] if name.startswith("dd")],
        ),
        ("mvdiff reconstruct watertight=", ["watertight=true", "watertight=false"]),
        ("mvdiff train train.optimizer=", ["train.optimizer=adamw", "train.optimizer=muon"]),
        ("mvdiff generate reconstructor=neus reconstructor.eik", ["reconstructor.eikonal_weight="]),
        ("mvdiff generate image=", []),
        ("mvdiff nothing x", []),
    ],
)
def test_completion(line, words, capsys):
    assert main(["--complete", line]) == 0
    assert capsys.readouterr().out.split() == words


def test_completion_is_installed_where_the_shell_reads_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SHELL", "/bin/bash")
    assert main(["--install-completion"]) == 0
    script = tmp_path / ".local/share/bash-completion/completions/mvdiff"
    assert str(script) in capsys.readouterr().out
    code = (
        f"source {script}; COMP_LINE='mvdiff generate sampler=eul'; COMP_POINT=${{#COMP_LINE}}; "
        "compopt() { :; }; _mvdiff; echo ${COMPREPLY[@]}"
    )
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    done = subprocess.run(
        ["bash", "-c", code], capture_output=True, text=True, timeout=60, env={"PATH": path}
    )
    assert done.stdout.strip() == "euler", done.stderr
    assert main(["--install-completion", "tcsh"]) == 2
    assert "bash, zsh, fish" in capsys.readouterr().err
