"""The command `alt-ray`: finds the subcommand, runs it, turns errors into exit statuses.

Everything heavy is imported inside the command that needs it, so that --help takes a fraction of a second. Knows nothing of how
a job works.
"""

import dataclasses
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from alt_ray import bundled
from alt_ray.arguments import arguments_of, parse, parsed, with_config
from alt_ray.config import CostOptions, DemoOptions, DoctorOptions, LabelOptions
from alt_ray.config_features import EncodeOptions, RelabelOptions
from alt_ray.config_train import EvaluateOptions, TrainJobOptions
from alt_ray.errors import AltRayError, UsageError

OK, FAILED, WRONG_USAGE = 0, 1, 2

# What Ray would say on standard output, which is for results: of each worker that it ends when a job is stopped, and pages of
# each machine that is lost. We say that in a line (engine.machines).
UNSAID = "killed by `ray.kill`|infinite retries remaining|Raylet is terminated|has been marked dead|has died"

DEFAULT_TAKEN = (
    f"recipe {bundled.DEFAULT_RECIPE}, the default since no {{}} was named: a tiny model of a drawn world; "
    "real videos need a real encoder"
)


def _label(argv: Sequence[str], program: str) -> int:
    arguments, is_default = arguments_of(LabelOptions, argv)
    options = parsed(LabelOptions, arguments, program)
    from alt_ray.engine.label import label
    from alt_ray.engine.startup import Startup

    say = _speaker(options.output.quiet)
    say(_first_line("label", options, is_default))
    summary = label(options, startup=Startup.of_process())
    say(
        f"{summary.inputs} inputs: {summary.labelled} labelled, {summary.failed} failed, {summary.already_done} already done. "
        f"Results: {options.out}"
    )
    return _status(summary, options)


def _encode(argv: Sequence[str], program: str) -> int:
    arguments, is_default = arguments_of(EncodeOptions, argv)
    options = parsed(EncodeOptions, arguments, program)
    from alt_ray.engine.encode import encode
    from alt_ray.engine.startup import Startup

    say = _speaker(options.output.quiet)
    say(_first_line("encode", options, is_default))
    summary = encode(options, startup=Startup.of_process())
    say(
        f"{summary.inputs} inputs: {summary.labelled} encoded, {summary.failed} failed, {summary.already_done} already done; "
        f"{summary.bytes_per_clip / 1e6:.3g} MB a clip. Features: {options.out}"
    )
    return _status(summary, options)


def _relabel(argv: Sequence[str], program: str) -> int:
    options = parse(RelabelOptions, argv, program)
    from alt_ray.engine.relabel import relabel
    from alt_ray.engine.startup import Startup

    say = _speaker(options.output.quiet)
    adapter = options.adapter
    if adapter is None:
        from alt_ray.features.store import encoder_of_store

        is_pocket = encoder_of_store(options.source) == bundled.POCKET
        adapter = "the adapter pocket, since the features are of its encoder" if is_pocket else "none"
    say(f"alt-ray relabel: {'no adapter: frozen CLIP, zero-shot' if adapter == 'none' else adapter}")
    summary = relabel(options, startup=Startup.of_process())
    say(
        f"{summary.inputs} inputs: {summary.labelled} labelled, {summary.failed} failed, {summary.already_done} already done. "
        f"Results: {options.out}"
    )
    return _status(summary, options)


def _train(argv: Sequence[str], program: str) -> int:
    arguments, is_default = arguments_of(
        TrainJobOptions, argv, has_default=_may_be_pocket(TrainJobOptions, argv, program)
    )
    options = parsed(TrainJobOptions, arguments, program)
    from alt_ray.train_commands import train

    say = _speaker(options.output.quiet)
    say(
        f"alt-ray train: {DEFAULT_TAKEN.format('--recipe')}" if is_default else f"alt-ray train: {options.model.method}"
    )
    status = train(options)
    say(f"Run: {options.out}")
    return status


def _evaluate(argv: Sequence[str], program: str) -> int:
    options = parse(EvaluateOptions, argv, program)
    from alt_ray.train_commands import evaluate

    say = _speaker(options.output.quiet)
    say(
        f"alt-ray evaluate: {'the adapter pocket, that ships' if options.adapter == bundled.POCKET else options.adapter}"
    )
    return evaluate(options)


def _tune(argv: Sequence[str], program: str) -> int:
    from alt_ray.config_tune import TuneOptions

    sources = parsed(TuneOptions, with_config(TuneOptions, list(argv)), program).sources
    from alt_ray.features.store import encoder_of_store

    is_pocket = all(encoder_of_store(source) in (None, bundled.POCKET) for source in sources)
    arguments, is_default = arguments_of(TuneOptions, argv, has_default=is_pocket)
    options = parsed(TuneOptions, arguments, program)
    from alt_ray.tune_commands import tune

    say = _speaker(options.output.quiet)
    what = f"sweep of {options.sweep}" if options.sweep else f"{options.search} search"
    say(f"alt-ray tune: {DEFAULT_TAKEN.format('--recipe')}" if is_default else f"alt-ray tune: {what}")
    status = tune(options)
    say(f"Search: {options.out}")
    return status


def _track(argv: Sequence[str], program: str) -> int:
    from alt_ray.tracking_commands import TrackOptions, track

    return track(parse(TrackOptions, argv, program))


def _may_be_pocket(kind: type[Any], argv: Sequence[str], program: str) -> bool:
    """Whether the pocket recipe may be the default for a source: not for features of another encoder."""
    source = parsed(kind, with_config(kind, list(argv)), program).source
    from alt_ray.features.store import encoder_of_store

    encoder = encoder_of_store(source)
    return encoder in (None, bundled.POCKET)


def _first_line(command: str, options: Any, is_default: bool) -> str:
    """What a job works with, said before anything else."""
    model = options.adapter or options.encoder.encoder
    if options.encoder.pretrained == "none" and not options.adapter:
        model = f"{model} with random weights: the {'labels' if command == 'label' else 'regions'} will mean nothing"
    if is_default:
        return f"alt-ray {command}: {DEFAULT_TAKEN.format('--encoder or --adapter')}"
    return f"alt-ray {command}: recipe {options.recipe} ({model})" if options.recipe else f"alt-ray {command}: {model}"


def _status(summary: Any, options: Any) -> int:
    """Print the summary where JSON was asked for, and return the exit status by the share that failed."""
    if options.output.json:
        print(json.dumps(dataclasses.asdict(summary)))
    problem = summary.too_many_failed(options.inputs.max_failed, options.out)
    if problem is not None:
        print(f"error: {problem}", file=sys.stderr)
        return FAILED
    return OK


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
    "label": ("label videos, one row of labels or of failure for each", _label),
    "encode": ("store the region features of videos, for training and labelling again and again", _encode),
    "relabel": ("label stored regions: other labels, corpus or adapter, no video opened", _relabel),
    "train": ("train adapters on stored regions, by a protocol of the field, and test them", _train),
    "evaluate": ("test a trained adapter on stored regions, by a protocol of the field", _evaluate),
    "tune": ("search alignment temperature and merge ratio for the best accuracy at a cost", _tune),
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
