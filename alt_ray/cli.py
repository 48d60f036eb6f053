"""The command `alt-ray`: finds the subcommand, runs it, turns errors into exit statuses.

Everything heavy is imported inside the command that needs it, so that --help takes a fraction of a second. Knows nothing of how
a job works.
"""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from alt_ray.arguments import parse
from alt_ray.cli_jobs import (
    DEFAULT_TAKEN,
    FAILED,
    OK,
    WRONG_USAGE,
    encode_command,
    evaluate_command,
    label_command,
    relabel_command,
    train_command,
    tune_command,
)
from alt_ray.config import CostOptions, DemoOptions, DoctorOptions
from alt_ray.errors import AltRayError, UsageError

# What Ray would say on standard output, which is for results: of each worker that it ends when a job is stopped, of many that
# it starts, and pages of each machine that is lost. We say that in a line (engine.machines).
UNSAID = (
    "killed by `ray.kill`|infinite retries remaining|Raylet is terminated|has been marked dead|has died|"
    "PYTHON worker processes have been started"
)


def _track(argv: Sequence[str], program: str) -> int:
    from alt_ray.tracking_commands import TrackOptions, track

    return track(parse(TrackOptions, argv, program))


def _cost(argv: Sequence[str], program: str) -> int:
    options = parse(CostOptions, argv, program)
    from alt_ray.commands import cost

    if options.encoder is None:
        line = f"alt-ray cost: {DEFAULT_TAKEN.format('--encoder')}"
        print(line, file=sys.stderr if options.json else sys.stdout)
    return cost(options)


def _doctor(argv: Sequence[str], program: str) -> int:
    options = parse(DoctorOptions, argv, program)
    from alt_ray.commands import doctor

    return doctor(options)


def _demo(argv: Sequence[str], program: str) -> int:
    options = parse(DemoOptions, argv, program)
    from alt_ray.demo import demo

    return demo(options)


def _submit(argv: Sequence[str], program: str) -> int:
    from alt_ray.submit_command import submit

    return submit(argv, program)


def _corpus(argv: Sequence[str], program: str) -> int:
    from alt_ray import config_corpus as kinds

    actions: dict[str, tuple[type[Any], str]] = {
        "build": (kinds.CorpusBuildOptions, "make a corpus from labels"),
        "check": (kinds.CorpusCheckOptions, "say what is wrong with a corpus"),
        "show": (kinds.CorpusShowOptions, "the entities of a label"),
        "stats": (kinds.CorpusStatsOptions, "counts, and how well labels are covered"),
    }
    if not argv or argv[0] not in actions:
        usage = [
            f"usage: {program} ACTION [options]",
            "",
            *(f"  {name:6} {what}" for name, (_, what) in actions.items()),
        ]
        if argv and argv[0] in ("-h", "--help"):
            print("\n".join(usage))
            return OK
        raise UsageError("\n".join([f"no action {argv[0]!r}" if argv else "no action", "", *usage]))
    options = parse(actions[argv[0]][0], argv[1:], f"{program} {argv[0]}")
    from alt_ray import corpus_commands

    return getattr(corpus_commands, f"corpus_{argv[0]}")(options)


COMMANDS: dict[str, tuple[str, Callable[[Sequence[str], str], int]]] = {
    "label": ("label videos, one row of labels or of failure for each", label_command),
    "encode": ("store the region features of videos, for training and labelling again and again", encode_command),
    "relabel": ("label stored regions: other labels, corpus or adapter, no video opened", relabel_command),
    "train": ("train adapters on stored regions, by a protocol of the field, and test them", train_command),
    "evaluate": ("test a trained adapter on stored regions, by a protocol of the field", evaluate_command),
    "tune": ("search alignment temperature and merge ratio for the best accuracy at a cost", tune_command),
    "submit": ("run one of these as a job on a Ray cluster elsewhere, and follow it", _submit),
    "track": ("recorded runs; send what a tracking server missed (--replay)", _track),
    "demo": ("draw 60 small videos, label them, and show what the model saw, offline", _demo),
    "corpus": ("build, check and show the entities that regions are aligned with", _corpus),
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
        from alt_ray.versions import version_line

        print(version_line())
        sys.exit(OK)
    name = arguments[0]
    if name not in COMMANDS:
        print(f"error: no command {name!r}\n\n{_overview()}", file=sys.stderr)
        sys.exit(WRONG_USAGE)
    run_command(name, arguments[1:], f"alt-ray {name}")


def run_command(name: str, argv: Sequence[str], program: str) -> NoReturn:
    """Run one command under the name `program` and exit with its status."""
    # Threads that wait for each other sleep. By default they spin, and where others use the same cores, a step of a small
    # training took 15 to 20 times as long on two threads (docs/decisions/features.md). Read when torch loads; workers inherit it.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", UNSAID)  # read when Ray is imported
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
    except BrokenPipeError:  # whoever read the output had enough of it, as `| head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)
    except KeyboardInterrupt:
        print("stopped; what was finished is kept, and the same command goes on from there", file=sys.stderr)
        sys.exit(FAILED)


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
