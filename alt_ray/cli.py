"""The command `alt-ray`: finds the subcommand, makes its options of flags, YAML and recipes, turns errors into exit statuses.

Everything heavy is imported inside the command that needs it, so that --help takes a fraction of a second. Knows nothing of how
a job works.
"""

import dataclasses
import json
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

import tyro

from alt_ray import __version__, bundled
from alt_ray.config import CostOptions, DemoOptions, DoctorOptions, LabelOptions
from alt_ray.config_features import EncodeOptions, RelabelOptions
from alt_ray.config_train import EvaluateOptions, TrainJobOptions
from alt_ray.errors import AltRayError, UsageError
from alt_ray.yamlfile import flags_of_yaml

OK, FAILED, WRONG_USAGE = 0, 1, 2
_Options = TypeVar("_Options")

DEFAULT_TAKEN = (
    f"recipe {bundled.DEFAULT_RECIPE}, the default since no {{}} was named: a tiny model of a drawn world; "
    "real videos need a real encoder"
)

# Flags stand flat (--merge-r, not --encoder.merge-r), switches have no --no- twin, and SOURCE needs no name.
_STYLE = (tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff, tyro.conf.OmitSubcommandPrefixes)


def _label(argv: Sequence[str], program: str) -> int:
    arguments, is_default = _arguments(LabelOptions, argv)
    options = _parsed(LabelOptions, arguments, program)
    from alt_ray.engine.label import label

    say = _speaker(options.output.quiet)
    say(_first_line("label", options, is_default))
    summary = label(options)
    say(
        f"{summary.inputs} inputs: {summary.labelled} labelled, {summary.failed} failed, {summary.already_done} already done. "
        f"Results: {options.out}"
    )
    return _status(summary, options)


def _encode(argv: Sequence[str], program: str) -> int:
    arguments, is_default = _arguments(EncodeOptions, argv)
    options = _parsed(EncodeOptions, arguments, program)
    from alt_ray.engine.encode import encode

    say = _speaker(options.output.quiet)
    say(_first_line("encode", options, is_default))
    summary = encode(options)
    say(
        f"{summary.inputs} inputs: {summary.labelled} encoded, {summary.failed} failed, {summary.already_done} already done; "
        f"{summary.bytes_per_clip / 1e6:.3g} MB a clip. Features: {options.out}"
    )
    return _status(summary, options)


def _relabel(argv: Sequence[str], program: str) -> int:
    options = parse(RelabelOptions, argv, program)
    from alt_ray.engine.relabel import relabel

    say = _speaker(options.output.quiet)
    say(f"alt-ray relabel: {options.adapter or 'no adapter: frozen CLIP, zero-shot'}")
    summary = relabel(options)
    say(
        f"{summary.inputs} inputs: {summary.labelled} labelled, {summary.failed} failed, {summary.already_done} already done. "
        f"Results: {options.out}"
    )
    return _status(summary, options)


def _train(argv: Sequence[str], program: str) -> int:
    arguments, is_default = _arguments(
        TrainJobOptions, argv, has_default=_may_be_pocket(TrainJobOptions, argv, program)
    )
    options = _parsed(TrainJobOptions, arguments, program)
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


def _track(argv: Sequence[str], program: str) -> int:
    from alt_ray.tracking_commands import TrackOptions, track

    return track(parse(TrackOptions, argv, program))


def _may_be_pocket(kind: type[Any], argv: Sequence[str], program: str) -> bool:
    """Whether the pocket recipe may be the default for a source: not for features of another encoder."""
    source = _parsed(kind, _with_config(kind, list(argv)), program).source
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
    """Make the options `kind` from flags; those of a recipe count as flags that come first, then those of --config FILE."""
    return _parsed(kind, _arguments(kind, argv)[0], program)


def _parsed(kind: type[_Options], arguments: Sequence[str], program: str) -> _Options:
    return tyro.cli(kind, args=arguments, prog=program, config=_STYLE)


def _arguments(kind: type[Any], argv: Sequence[str], *, has_default: bool = True) -> tuple[list[str], bool]:
    """Return all flags, of which the last of a name counts, and whether the recipe among them is there by default."""
    given = _with_config(kind, list(argv))
    if not any(field.name == "recipe" for field in dataclasses.fields(kind)):
        return given, False
    named = _named(given)
    is_default = has_default and not {"recipe", "encoder", "adapter"} & set(named)
    recipe = bundled.DEFAULT_RECIPE if is_default else named.get("recipe")
    if recipe is None:
        return given, False
    if is_default and "pretrained" in named:
        raise UsageError("--pretrained names weights; name the --encoder that they are for as well")
    settings = flags_of_yaml(str(bundled.recipe_file(recipe)), kind, _with_settings)
    _refuse_two_models(recipe, _named(settings), named)
    if "merge_r" in _named(settings) and "merge_ratio" in named:
        settings += ["--merge-r", "None"]  # two names of one thing: the recipe's gives way, too
    return [*settings, "--recipe", recipe, *given], is_default


def _refuse_two_models(recipe: str, settings: Mapping[str, str | None], named: Mapping[str, str | None]) -> None:
    """An adapter has an encoder of its own: what a recipe says of one must not mix with what was named of the other."""
    if "adapter" in settings and "encoder" in named and "adapter" not in named:
        raise UsageError(
            f"the recipe {recipe} brings the adapter {settings['adapter']}, which has an encoder of its own; leave out "
            f"--recipe to label with --encoder {named['encoder']}, zero-shot, or leave out --encoder"
        )
    if "encoder" in settings and "adapter" in named:
        raise UsageError(
            f"the recipe {recipe} brings the encoder {settings['encoder']}, and --adapter {named['adapter']} has one of its "
            "own; leave out --recipe or --adapter"
        )


def _named(flags: Sequence[str]) -> dict[str, str | None]:
    """The options named by flags, by their names without dashes; the last value counts."""
    named: dict[str, str | None] = {}
    for flag, following in zip(flags, [*flags[1:], None], strict=True):
        if flag.startswith("--"):
            name, is_joined, value = flag[2:].partition("=")
            named[name.replace("-", "_")] = value if is_joined else following
    return named


def _with_config(kind: type[Any], argv: list[str]) -> list[str]:
    for index, argument in enumerate(argv):
        name, is_joined, file = argument.partition("=")
        if name == "--config":
            if not is_joined and index + 1 == len(argv):
                raise UsageError("--config needs a YAML file")
            return [*flags_of_yaml(file if is_joined else argv[index + 1], kind, _with_settings), *argv]
    return argv


def _with_settings() -> tuple[type[Any], ...]:
    """The options that one YAML file may hold together."""
    return (LabelOptions, EncodeOptions, RelabelOptions, TrainJobOptions, EvaluateOptions)


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
