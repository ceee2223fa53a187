"""`mvdiff COMMAND key=value …`: the command line. Heavy imports wait until a command runs."""

from __future__ import annotations

import difflib
import os
import sys
import warnings
from collections.abc import Sequence

from .. import __version__
from ..errors import ConfigError, MvdiffError
from ..utils.oom import is_out_of_memory
from ..utils.signals import Terminated, signals_as_exceptions
from .commands import COMMANDS


def main(argv: Sequence[str] | None = None) -> int:
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
        return _exit_with(str(error))
    except OSError as error:
        where = f" '{error.filename}'" if error.filename else ""
        return _exit_with(f"I/O error{where}: {error.strerror or error}")
    except (MemoryError, RuntimeError) as error:
        if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            lines = str(error).strip().splitlines() or ["no reason given"]
            return _exit_with(f"torch.compile failed ({lines[0]}): use compile=null")
        if not is_out_of_memory(error):
            raise
        return _exit_with("not enough memory: use batch_views=4, a smaller size or another device")
    except Terminated as signal:
        reason = f"ended by {signal.signal_name}; no partial files were left behind"
        return _exit_with(reason, signal.exit_code)
    except KeyboardInterrupt:
        return _exit_with("interrupted; no partial files were left behind", 130)


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
    from .help import command_help, main_help

    if args[:1] == ["help"]:
        args = [*args[1:], "--help"]
    if not args or args[0] in ("-h", "--help"):
        print(main_help(COMMANDS))
        return 0
    if args[0] in ("-V", "--version"):
        print(f"mvdiff {__version__}")
        return 0
    if args[0] in ("--install-completion", "--show-completion", "--complete"):
        from .completion import run_completion

        return run_completion(args[0], args[1:])
    name, overrides = args[0], args[1:]
    if name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f". Did you mean '{close[0]}'?" if close else ""
        raise ConfigError(f"unknown command '{name}'; choose from {', '.join(COMMANDS)}{hint}")
    if "-h" in overrides or "--help" in overrides:
        print(command_help(COMMANDS[name], [o for o in overrides if not o.startswith("-")]))
        return 0
    return _run(COMMANDS[name], overrides)


def _run(command: Command, overrides: Sequence[str]) -> int:
    """Compose, check the inputs, run. Wrong settings are reported before torch is imported."""
    show = "--cfg" in overrides
    words = [word for word in overrides if word != "--cfg"]
    if show and "job" in words:  # Hydra's own spelling is `--cfg job`
        words.remove("job")
    if command.config is None:
        return command.run(words)
    config, job = command.prepare(words)
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from ..config.input_paths import check_input_paths

    if show:
        print(OmegaConf.to_yaml(config), end="")
        return 0
    check_input_paths(command.name, OmegaConf.to_container(config, throw_on_missing=False))
    try:
        return job()
    except OmegaConfBaseException as error:  # a plugin's setting is not what its part reads
        raise ConfigError(
            f"the settings do not fit mvdiff {command.name}: {str(error).splitlines()[0]}"
        ) from error


def _exit_with(message: str, code: int = 2) -> int:
    """Print exactly one line, whatever a library's message contains."""
    print(f"mvdiff: {' '.join(message.splitlines())}", file=sys.stderr)
    return code


def _show_warning(message, category, filename, lineno, file=None, line=None) -> None:
    """Our own warnings are for users: one line. Libraries' warnings stay out of the way."""
    from ..utils.warnings import is_ours

    if is_ours(filename):
        print(f"note: {message}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
