"""The command `alt-ray`: finds the subcommand, makes its options from flags and YAML, and turns errors into exit statuses.

Everything heavy is imported inside the command that needs it, so that --help takes a fraction of a second. Knows nothing of how
a job works.
"""

import dataclasses
import json
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

import tyro

from alt_ray import __version__
from alt_ray.config import CostOptions, DemoOptions, DoctorOptions, LabelOptions
from alt_ray.errors import AltRayError, UsageError
from alt_ray.yamlfile import flags_of_yaml

OK, FAILED, WRONG_USAGE = 0, 1, 2
_Options = TypeVar("_Options")

# Flags stand flat (--merge-r, not --encoder.merge-r), switches have no --no- twin, and SOURCE needs no name.
_STYLE = (tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff, tyro.conf.OmitSubcommandPrefixes)


def _label(argv: Sequence[str], program: str) -> int:
    options = parse(LabelOptions, argv, program)
    from alt_ray.engine.label import label

    say = _speaker(options.output.quiet)
    if options.encoder.pretrained == "none" and not options.adapter:
        say(f"alt-ray label: {options.encoder.encoder} with random weights: the labels will mean nothing")
    else:
        say(f"alt-ray label: {options.adapter or options.encoder.encoder}")
    summary = label(options)
    say(
        f"{summary.inputs} inputs: {summary.labelled} labelled, {summary.failed} failed, {summary.already_done} already done. "
        f"Results: {options.out}"
    )
    if options.output.json:
        print(json.dumps(dataclasses.asdict(summary)))
    if summary.failed > options.inputs.max_failed * summary.inputs:
        print(
            f"error: {summary.failed} of {summary.inputs} inputs failed, more than --max-failed {options.inputs.max_failed:g} "
            f"allows; {options.out}/failures says why",
            file=sys.stderr,
        )
        return FAILED
    return OK


def _cost(argv: Sequence[str], program: str) -> int:
    options = parse(CostOptions, argv, program)
    from alt_ray.commands import cost

    return cost(options)


def _doctor(argv: Sequence[str], program: str) -> int:
    options = parse(DoctorOptions, argv, program)
    from alt_ray.commands import doctor

    return doctor(options)


def _demo(argv: Sequence[str], program: str) -> int:
    options = parse(DemoOptions, argv, program)
    from alt_ray.demo import demo

    return demo(options)


COMMANDS: dict[str, tuple[str, Callable[[Sequence[str], str], int]]] = {
    "label": ("label videos, one row of labels or of failure for each", _label),
    "demo": ("make a dozen small videos and label them, offline", _demo),
    "cost": ("what a model costs per frame, view and video, without running it", _cost),
    "doctor": ("what this machine has, and what is missing", _doctor),
}


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run `alt-ray ARGV` and exit: 0 done, 1 failed, 2 wrong usage."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_overview())
        sys.exit(OK if arguments else WRONG_USAGE)
    if arguments[0] == "--version":
        print(f"alt-ray {__version__}")
        sys.exit(OK)
    name = arguments[0]
    if name not in COMMANDS:
        print(f"error: no command {name!r}\n\n{_overview()}", file=sys.stderr)
        sys.exit(WRONG_USAGE)
    run_command(name, arguments[1:], f"alt-ray {name}")


def run_command(name: str, argv: Sequence[str], program: str) -> NoReturn:
    """Run one command under the name `program` and exit with its status."""
    # SIGTERM is how clusters and schedulers say stop: like ctrl-C, it commits what is finished.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        sys.exit(COMMANDS[name][1](argv, program))
    except UsageError as exc:
        print(f"error: {exc}", file=sys.stderr)
        sys.exit(WRONG_USAGE)
    except AltRayError as exc:
        print(f"error: {exc}", file=sys.stderr)
        sys.exit(FAILED)
    except KeyboardInterrupt:
        print("stopped; what was finished is kept, and the same command goes on from there", file=sys.stderr)
        sys.exit(FAILED)


def parse(kind: type[_Options], argv: Sequence[str], program: str) -> _Options:
    """Make the options `kind` from flags; the keys of --config FILE count as flags that come before the others."""
    arguments = _with_config(kind, list(argv))
    return tyro.cli(kind, args=arguments, prog=program, config=_STYLE)


def _with_config(kind: type[Any], argv: list[str]) -> list[str]:
    for index, argument in enumerate(argv):
        name, is_joined, file = argument.partition("=")
        if name == "--config":
            if not is_joined and index + 1 == len(argv):
                raise UsageError("--config needs a YAML file")
            return [*flags_of_yaml(file if is_joined else argv[index + 1], kind), *argv]
    return argv


def _speaker(quiet: bool) -> Callable[[str], None]:
    return (lambda text: None) if quiet else (lambda text: print(text, file=sys.stderr))


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def _overview() -> str:
    lines = [f"  {name:8} {what}" for name, (what, _) in COMMANDS.items()]
    return "\n".join(
        [
            "alt-ray: action labels for video archives, on Ray",
            "",
            "usage: alt-ray COMMAND [options]     alt-ray COMMAND --help lists the options",
            "",
            *lines,
        ]
    )


if __name__ == "__main__":
    main()
