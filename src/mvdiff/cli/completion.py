"""Shell completion: `mvdiff --install-completion`, and the words that the shells ask for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ..config.groups import groups, installed_plugins, plugins_of
from ..config.settings import settings_of
from ..errors import ConfigError
from ..utils.files import atomic
from .commands import COMMANDS
from .help import chosen_variants, inner_defaults, load_variant

#: shell → (where completions are read from, the function that asks `mvdiff --complete`)
SCRIPTS = {
    "bash": (
        "~/.local/share/bash-completion/completions/mvdiff",
        """\
_mvdiff() {
    local line=${COMP_LINE:0:$COMP_POINT}
    local word=${line##* }
    local IFS=$'\\n'
    COMPREPLY=($(mvdiff --complete "$line" 2>/dev/null))
    # readline replaces only what follows the last of its word breaks
    local head=${word%"${word##*[=:]}"}
    COMPREPLY=("${COMPREPLY[@]#"$head"}")
    [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *= ]] && compopt -o nospace
    if [[ ${#COMPREPLY[@]} -eq 0 && $word == *=* ]]; then
        COMPREPLY=($(compgen -f -- "${word#*=}"))
        compopt -o filenames
    fi
}
complete -F _mvdiff mvdiff
""",
    ),
    "zsh": (
        "~/.zfunc/_mvdiff",
        """\
#compdef mvdiff
local -a candidates
candidates=("${(@f)$(mvdiff --complete "$LBUFFER" 2>/dev/null)}")
if [[ -n "$candidates" ]]; then
    compadd -S '' -- $candidates
else
    compset -P '*='
    _files
fi
""",
    ),
    "fish": (
        "~/.config/fish/completions/mvdiff.fish",
        "complete -c mvdiff -a '(mvdiff --complete (commandline -cp) 2>/dev/null)'\n",
    ),
}


def run_completion(option: str, words: Sequence[str]) -> int:
    """Carry out --complete LINE, --show-completion [SHELL] or --install-completion [SHELL]."""
    if option == "--complete":
        print("\n".join(complete(words[0] if words else "mvdiff ")))
        return 0
    shell = words[0] if words else Path(os.environ.get("SHELL", "bash")).name
    if shell not in SCRIPTS:
        raise ConfigError(
            f"no completion for the shell '{shell}'; choose from {', '.join(SCRIPTS)}, as in "
            f"mvdiff {option} bash"
        )
    target, script = SCRIPTS[shell]
    if option == "--show-completion":
        print(script, end="")
        return 0
    path = Path(target).expanduser()
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as temporary:
        temporary.write_text(script, encoding="utf-8")
    hint = "; add `fpath+=~/.zfunc; autoload -Uz compinit; compinit` to ~/.zshrc" * (shell == "zsh")
    print(f"wrote {path}: it works in new shells{hint}")
    return 0


def complete(line: str) -> list[str]:
    """The words that may stand at the end of a command line, such as "mvdiff generate samp".

    Commands; settings and parts, ending in "="; variants, choices and truth values after it.
    Paths are left to the shell ([]).

    Example:
        >>> complete("mvdiff reconstruct water")
        ['watertight=']
        >>> complete("mvdiff generate sampler=dd")
        ['sampler=ddim', 'sampler=ddim_syncdreamer', 'sampler=ddpm']
    """
    words = line.split(" ")[1:]
    words = [word for word in words[:-1] if word] + words[-1:]
    if len(words) <= 1:
        return [name for name in COMMANDS if name.startswith("".join(words))]
    name, last = words[0], words[-1]
    command = COMMANDS.get(name)
    if command is None or command.config is None:
        return []
    variants = groups([*plugins_of(words[1:-1]), *installed_plugins().values()])
    key, separator, _ = last.partition("=")
    if separator:
        choices = variants.get(key, [])
        for entry in settings_of(command.config):
            if entry.name == key:
                choices = ["true", "false"] if entry.hint is bool else entry.choices
        return [f"{key}={choice}" for choice in choices if f"{key}={choice}".startswith(last)]
    parts = chosen_variants(command.config, words[1:])
    if "recipe" in parts:
        recipe = load_variant("recipe", parts["recipe"])
        parts |= inner_defaults(recipe)
    names = [*parts, *(entry.name for entry in settings_of(command.config))]
    for part, default in parts.items():
        chosen = next((w.partition("=")[2] for w in words if w.startswith(f"{part}=")), default)
        content = load_variant(part, str(chosen)) if part != "recipe" else {}
        names += [f"{part}.{setting}" for setting in content if setting not in ("name", "defaults")]
    return [f"{name}=" for name in names if name.startswith(last)]
