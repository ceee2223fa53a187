"""`mvdiff COMMAND key=value …`: the command line. Heavy imports wait until a command runs."""

from __future__ import annotations

import difflib
import importlib
import sys
import warnings
from importlib import resources

from . import __version__
from .errors import MvdiffError

COMMANDS = {
    "generate": "one picture → views from all around → a mesh",
    "reconstruct": "views with cameras → a mesh",
    "render": "meshes and procedural shapes → pictures to train on",
    "train": "train a recipe on rendered objects",
    "export": "a training run → a .safetensors file for weights=FILE",
    "evaluate": "PSNR, SSIM, hull IoU of views; Chamfer and IoU of meshes",
    "list": "slots, their variants, one line each",
}

EXAMPLES = {
    "generate": [
        "mvdiff generate image=photo.png elevation=20",
        "mvdiff generate image=photos/ samples=4 seed=7 out=results",
        "mvdiff generate image=photo.png attention=none sampler=dpmpp sampler.steps=20",
    ],
    "reconstruct": [
        "mvdiff reconstruct views=outputs/photo/sample-0",
        "mvdiff reconstruct views=strip.png",
    ],
    "render": ["mvdiff render meshes=models/ out=data", "mvdiff render shapes=3000 out=data"],
    "train": ["mvdiff train data=data out=runs/first", "mvdiff train data=data attention=none"],
    "export": ["mvdiff export run=runs/first out=first.safetensors"],
    "evaluate": [
        "mvdiff evaluate pred=outputs/cup/sample-0 truth=data/cup/target",
        "mvdiff evaluate pred=mesh.glb truth=scan.obj",
    ],
}


def main(argv: list[str] | None = None) -> int:
    """Run a command; returns the exit code (0 done, 1 partly, 2 bad input, 130 interrupted)."""
    args = list(sys.argv[1:] if argv is None else argv)
    if not args or args[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0
    if args[0] in ("-V", "--version"):
        print(f"mvdiff {__version__}")
        return 0
    warnings.showwarning = _show_warning
    command, rest = args[0], args[1:]
    try:
        if command not in COMMANDS:
            close = difflib.get_close_matches(command, COMMANDS, n=1)
            hint = f" Did you mean '{close[0]}'?" if close else ""
            raise MvdiffError(
                f"unknown command '{command}'; choose from {', '.join(COMMANDS)}.{hint}"
            )
        if "-h" in rest or "--help" in rest:
            print(_help(command))
            return 0
        return _run(command, rest)
    except MvdiffError as error:
        print(f"mvdiff: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("mvdiff: interrupted; files that have their final name are whole", file=sys.stderr)
        return 130


def _run(command: str, rest: list[str]) -> int:
    module = importlib.import_module(f"mvdiff.commands.{command}")
    if command == "list":
        if rest:
            raise MvdiffError(f"mvdiff list takes no arguments, got '{rest[0]}'")
        return module.run()
    show = "--cfg" in rest
    from .config import compose

    config = compose(command, [word for word in rest if word != "--cfg"])
    if show:
        from omegaconf import OmegaConf

        print(OmegaConf.to_yaml(config), end="")
        return 0
    return module.run(config)


def _show_warning(message, category, filename, lineno, file=None, line=None) -> None:
    """Our own warnings are for users: one line. Libraries' warnings stay out of the way."""
    if "mvdiff" in str(filename):
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


def _help(command: str) -> str:
    if command == "list":
        return "usage: mvdiff list\n\nSlots and their variants; choose one with slot=variant."
    from .config import groups

    conf = resources.files("mvdiff.conf")
    about, settings, slots = _read_yaml_comments((conf / f"{command}.yaml").read_text())
    lines = [f"usage: mvdiff {command} key=value …", "", about, "", "Settings (with defaults):"]
    lines += [f"  {line}" for line in settings]
    if "recipe" in slots:
        recipe = (conf / "recipe" / f"{slots['recipe']}.yaml").read_text()
        _, more, inner = _read_yaml_comments(recipe)
        slots = {**slots, **inner}
        lines += [f"  {line}" for line in more if line.startswith(("weights:", "fill:"))]
    known = groups()
    if slots:
        lines += ["", "Parts (key=variant, and key.setting=value; see --cfg for every setting):"]
        for slot, default in slots.items():
            lines.append(f"  {slot}={default}".ljust(28) + "of " + ", ".join(known[slot]))
    lines += ["", "Examples:", *(f"  {example}" for example in EXAMPLES[command])]
    return "\n".join(lines)


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
            settings.append(f"{key + ': ' + shown:<28}{comment.strip()}")
    return about, settings, slots


if __name__ == "__main__":
    sys.exit(main())
