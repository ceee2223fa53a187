"""`mvdiff COMMAND key=value …`: the command line. Heavy imports wait until a command runs."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
import warnings
from importlib import resources
from typing import Any

from .. import __version__
from ..errors import MvdiffError
from ..utils.oom import is_out_of_memory
from ..utils.signals import Terminated, signals_as_exceptions

COMMANDS = {
    "generate": "one picture → views from all around → a mesh",
    "reconstruct": "views with cameras → a mesh",
    "render": "meshes and procedural shapes → pictures to train on",
    "train": "train a recipe on rendered objects",
    "export": "a training run → a .safetensors file for weights=FILE",
    "convert": "a published checkpoint → a .safetensors file for weights=FILE",
    "evaluate": "PSNR, SSIM, hull IoU of views; Chamfer and IoU of meshes",
    "ablate": "variants × seeds under one budget → a table, plots, a contact sheet",
    "list": "slots, their variants, one line each",
}

EXAMPLES = {
    "generate": [
        "mvdiff generate image=photo.png elevation=20",
        "mvdiff generate image=photos/ samples=4 seed=7 out=results",
        "mvdiff generate image=[front.png,side.png] azimuth=[0,90] elevation=[10,30]",
        "mvdiff generate image=photos/ shard=0/4               (one job of four; each has its own)",
        "mvdiff generate image=photos/ jobs=4 hydra/launcher=joblib hydra.launcher.n_jobs=4",
        "mvdiff generate image=photos/ jobs=8 hydra/launcher=submitit_slurm "
        "hydra.launcher.gpus_per_node=1",
        "mvdiff generate image=photo.png attention=none sampler=dpmpp sampler.steps=20",
        "mvdiff generate recipe=syncdreamer checkpoint=syncdreamer-pretrain.ckpt image=photo.png "
        "elevation=30",
    ],
    "reconstruct": [
        "mvdiff reconstruct views=outputs/photo/sample-0",
        "mvdiff reconstruct views=strip.png",
        "mvdiff reconstruct views=project/sparse/0 images=project/images       (COLMAP)",
        "mvdiff reconstruct views=photos/ rig=ring rig.count=12 rig.elevation=20",
    ],
    "render": ["mvdiff render meshes=models/ out=data", "mvdiff render shapes=3000 out=data"],
    "train": [
        "mvdiff train data=data out=runs/first",
        "mvdiff train data=data attention=none train.steps=5000 train.lr=2e-4",
        "mvdiff train recipe=syncdreamer weights=zero123.safetensors data=training_examples "
        "val_data=held_out",
    ],
    "export": ["mvdiff export run=runs/first out=first.safetensors"],
    "convert": [
        "mvdiff convert in=syncdreamer-pretrain.ckpt out=syncdreamer.safetensors precision=fp16",
        "mvdiff convert in=zero123-xl.ckpt out=zero123.safetensors",
    ],
    "evaluate": [
        "mvdiff evaluate pred=outputs/cup/sample-0 truth=data/cup/target",
        "mvdiff evaluate pred=mesh.glb truth=scan.obj",
    ],
    "ablate": [
        "mvdiff ablate data=data attention=none,depthwise seeds=0,1 budget.steps=2000",
        "mvdiff ablate data=data volume=concat,meanvar train.lr=1e-4,3e-4 budget.seconds=3600",
        "mvdiff ablate data=data budget.steps=2000 variants='{full: {}, alone: {attention: none, "
        "volume: none}}'",
        "mvdiff ablate data=data attention=glob(*) budget.steps=2000 lpips=[vgg16.pth,vgg.pth]",
        "mvdiff ablate data=data variants=variants.yaml train.views=8 budget.cpu_seconds=3600",
        "mvdiff ablate report=ablations/first                 (also while it runs)",
        "mvdiff ablate … hydra/launcher=joblib hydra.launcher.n_jobs=4",
        "mvdiff ablate … hydra/launcher=submitit_slurm hydra.launcher.gpus_per_node=1",
    ],
}


SWEEPING = [
    "Any part or number with several values is swept, in Hydra's grammar:",
    "  attention=none,depthwise  train.lr=1e-4,3e-4  rig.count=range(8,17,8)  attention=glob(*)",
    "Settings that belong together get a name in variants=…, and each of these is combined with",
    "every point of the sweep. Each variant is trained once with every seed.",
    "",
    "All runs have the same budget, data, held-out objects and sampling noise, and the learning",
    "rate's schedule ends with the budget. Attention that looks at other views learns from the",
    "train.views target views of a step, so let all variants have the same.",
    "",
    "The same command goes on after an interruption. With more values or seeds it adds runs;",
    "finished ones are kept. A run that fails is named in the table, the others go on, and the",
    "exit code is 1.",
    "",
    "Launchers are Hydra's: basic runs one after the other; pip install hydra-NAME-launcher for",
    "joblib (several at once here), submitit (Slurm; out= on a disk that all nodes share) and ray",
    "(a cluster).",
]


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns the exit code (0 done, 1 partly, 2 bad input, 130 interrupted)."""
    args = list(sys.argv[1:] if argv is None else argv)
    _prepare_streams()
    try:
        with signals_as_exceptions(), warnings.catch_warnings():
            warnings.showwarning = _show_warning
            code = _dispatch(args)
        if sys.stdout is not None:
            sys.stdout.flush()  # a closed pipe is noticed here, not after the return
        return code
    except BrokenPipeError:  # `mvdiff list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except MvdiffError as error:
        return _fail(str(error))
    except OSError as error:
        where = f" '{error.filename}'" if error.filename else ""
        return _fail(f"I/O error{where}: {error.strerror or error}")
    except (MemoryError, RuntimeError) as error:
        if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            told = str(error).strip().splitlines() or ["no reason given"]
            return _fail(f"torch.compile failed ({told[0]}): use compile=null")
        if not is_out_of_memory(error):
            raise
        return _fail("not enough memory: use batch_views=4, a smaller size or another device")
    except Terminated as signal:
        reason = f"ended by {signal.signal_name}; no partial files were left behind"
        return _fail(reason, signal.exit_code)
    except KeyboardInterrupt:
        return _fail("interrupted; no partial files were left behind", 130)


def _prepare_streams() -> None:
    """Make printing safe: on terminals that lack a character, and where a stream is closed.

    File names that are not UTF-8, and arrows on an ASCII terminal, are written escaped.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by the shell, as in `mvdiff … >&-`
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _dispatch(args: list[str]) -> int:
    if args[:1] == ["help"]:
        args = [*args[1:], "--help"]
    if not args or args[0] in ("-h", "--help"):
        print(_overview())
        return 0
    if args[0] in ("-V", "--version"):
        print(f"mvdiff {__version__}")
        return 0
    command, rest = args[0], args[1:]
    if command not in COMMANDS:
        close = difflib.get_close_matches(command, COMMANDS, n=1)
        hint = f". Did you mean '{close[0]}'?" if close else ""
        raise MvdiffError(f"unknown command '{command}'; choose from {', '.join(COMMANDS)}{hint}")
    if "-h" in rest or "--help" in rest:
        print(_help(command, [word for word in rest if not word.startswith("-")]))
        return 0
    return _run(command, rest)


def _fail(message: str, code: int = 2) -> int:
    """Exactly one line, whatever a library's message held."""
    print(f"mvdiff: {' '.join(message.splitlines())}", file=sys.stderr)
    return code


def _run(command: str, rest: list[str]) -> int:
    from ..config.compose import compose, load_plugins
    from ..config.input_paths import check_input_paths

    where = f"mvdiff.cli.{command}"
    if command == "list":
        unknown = [word for word in rest if not word.startswith("plugins=")]
        if unknown:
            raise MvdiffError(f"mvdiff list takes plugins=[…] at most, got '{unknown[0]}'")
        return importlib.import_module(where).run(load_plugins(rest))
    # composed before torch is imported: wrong settings are told at once
    words = [word for word in rest if word != "--cfg"]
    if command == "ablate":
        from ..ablation.sweep import read_sweep

        asked: Any = read_sweep(words)
        config = asked.config
    elif command == "generate":
        from ..config.launcher import hydra_words

        hydra, words = hydra_words(words)
        asked = config = compose(command, words)
        if hydra or config.jobs is not None:
            from .generate_sharded import Jobs

            where, asked = "mvdiff.cli.generate_sharded", Jobs(config, words, hydra)
    else:
        asked = config = compose(command, words)
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if "--cfg" in rest:
        print(OmegaConf.to_yaml(config), end="")
        return 0
    check_input_paths(command, OmegaConf.to_container(config, throw_on_missing=False))
    try:
        return importlib.import_module(where).run(asked)
    except OmegaConfBaseException as error:  # a setting was deleted, or is no longer what it was
        raise MvdiffError(
            f"the settings do not fit mvdiff {command}: {str(error).splitlines()[0]}"
        ) from error


def _show_warning(message, category, filename, lineno, file=None, line=None) -> None:
    """Our own warnings are for users: one line. Libraries' warnings stay out of the way."""
    from ..utils.warnings import is_ours

    if is_ours(filename):
        print(f"note: {message}", file=sys.stderr)


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {what}" for name, what in COMMANDS.items()]
    return "\n".join(
        [
            f"mvdiff {__version__}: one picture of an object in, consistent views and a mesh out",
            "",
            "usage: mvdiff COMMAND key=value …",
            "",
            *lines,
            "",
            "mvdiff COMMAND --help   settings of a command, with their defaults",
            "mvdiff COMMAND … --cfg  print the whole config instead of running",
            "",
            "Start with:",
            "  mvdiff generate image=photo.png elevation=20",
        ]
    )


def _help(command: str, rest: list[str]) -> str:
    if command == "list":
        return (
            "usage: mvdiff list [plugins=PACKAGE]\n\n"
            "Slots and their variants; choose one with slot=variant."
        )
    from ..config.compose import groups, load_plugins

    conf = resources.files("mvdiff.conf")
    about, settings, slots = _read_yaml_comments((conf / f"{command}.yaml").read_text())
    lines = [f"usage: mvdiff {command} key=value …", "", about, "", "Settings (with defaults):"]
    lines += [f"  {line}" for line in settings]
    if command == "ablate":
        lines += ["  …and every setting of mvdiff train (see its --help)", "", *SWEEPING]
        slots = _read_yaml_comments((conf / "train.yaml").read_text())[2]
    if "recipe" in slots:
        named = [word.removeprefix("recipe=") for word in rest if word.startswith("recipe=")]
        slots["recipe"] = named[-1] if named else slots["recipe"]
        file = conf / "recipe" / f"{slots['recipe']}.yaml"
        recipe = file.read_text() if file.is_file() else ""  # a plugin's is shown by --cfg
        _, more, inner = _read_yaml_comments(recipe)
        slots = {**slots, **inner}
        shown = ("weights:", "checkpoint:", "clip:", "framing:", "fill:", "crop_size:")
        shown = (*shown, "sampler_steps:")
        shown = shown if command == "generate" else ("sampler_",) if command != "ablate" else ()
        lines += [f"  {line}" for line in more if line.startswith(shown)]
        if command == "train":
            lines += ["", f"Of recipe {slots['recipe']}:", *_train_settings(recipe)]
    known = groups(load_plugins(rest))
    if slots:
        lines += ["", "Parts (slot=variant, and slot.setting=value; --cfg shows every setting):"]
        for slot, default in slots.items():
            others = ", ".join(name for name in known[slot] if name != default)
            lines.append((f"  {slot}={default}".ljust(28) + f"or {others}" * bool(others)).rstrip())
    lines += ["", "Examples:", *(f"  {example}" for example in EXAMPLES[command])]
    return "\n".join(lines)


def _train_settings(recipe: str) -> list[str]:
    """The settings in a recipe's section `train:`, as `train.key: value`."""
    section = recipe.partition("\ntrain:")[2].partition("\n")[2]
    own = [line[2:] for line in section.splitlines() if line[:2] == "  " and line[2:3] != " "]
    inner = [line for line in own if not line.startswith("#")]
    return [f"  train.{line}" for line in _read_yaml_comments("\n".join(inner))[1]]


def _read_yaml_comments(text: str) -> tuple[str, list[str], dict[str, str]]:
    """First comment line, the commented settings, and the groups of the defaults list."""
    about, settings, slots = "", [], {}
    for line in text.splitlines():
        if line.startswith("# ") and not about and "@package" not in line:
            about = line[2:]
        elif line.startswith("  - ") and ": " in line:
            slot, _, variant = line[4:].partition(": ")
            slots[slot.lstrip("/")] = variant.strip()
        elif ": " in line and not line.startswith((" ", "#", "defaults")):
            key, _, rest = line.partition(": ")
            value, _, comment = rest.partition("#")
            shown = value.strip().replace("???", "(required)").replace("null", "-")
            settings.append(f"{key + ': ' + shown + ' ':<28}{comment.strip()}".rstrip())
    return about, settings, slots


if __name__ == "__main__":
    sys.exit(main())
