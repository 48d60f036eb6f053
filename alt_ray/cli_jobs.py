"""The commands that run on Ray, as the command line has them: options in, the first and the last line said, exit status out.

Each job is imported within its command, so that --help takes a fraction of a second. Knows nothing of how a job works.
"""

import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

from alt_ray import bundled
from alt_ray.arguments import arguments_of, parse, parsed, with_config
from alt_ray.config import LabelOptions
from alt_ray.config_features import EncodeOptions, RelabelOptions
from alt_ray.config_train import EvaluateOptions, TrainJobOptions

OK, FAILED, WRONG_USAGE = 0, 1, 2

DEFAULT_TAKEN = (
    f"recipe {bundled.DEFAULT_RECIPE}, the default since no {{}} was named: a tiny model of a drawn world; "
    "real videos need a real encoder"
)


def label_command(argv: Sequence[str], program: str) -> int:
    options = _over_videos("label", LabelOptions, argv, program)
    from alt_ray.engine.label import label
    from alt_ray.engine.startup import Startup

    summary = label(options, startup=Startup.of_process())
    _speaker(options.output.quiet)(f"{_balance(summary, 'labelled')}. Results: {options.out}")
    return _status(summary, options)


def encode_command(argv: Sequence[str], program: str) -> int:
    options = _over_videos("encode", EncodeOptions, argv, program)
    from alt_ray.engine.encode import encode
    from alt_ray.engine.startup import Startup

    summary = encode(options, startup=Startup.of_process())
    size = f"{summary.bytes_per_clip / 1e6:.3g} MB a clip"
    _speaker(options.output.quiet)(f"{_balance(summary, 'encoded')}; {size}. Features: {options.out}")
    return _status(summary, options)


def relabel_command(argv: Sequence[str], program: str) -> int:
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
    say(f"{_balance(summary, 'labelled')}. Results: {options.out}")
    return _status(summary, options)


def train_command(argv: Sequence[str], program: str) -> int:
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


def evaluate_command(argv: Sequence[str], program: str) -> int:
    options = parse(EvaluateOptions, argv, program)
    from alt_ray.train_commands import evaluate

    say = _speaker(options.output.quiet)
    say(
        f"alt-ray evaluate: {'the adapter pocket, that ships' if options.adapter == bundled.POCKET else options.adapter}"
    )
    return evaluate(options)


def tune_command(argv: Sequence[str], program: str) -> int:
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


def _over_videos(command: str, kind: type[Any], argv: Sequence[str], program: str) -> Any:
    """The options of a job over videos, which are said in its first line."""
    arguments, is_default = arguments_of(kind, argv)
    options = parsed(kind, arguments, program)
    _speaker(options.output.quiet)(_first_line(command, options, is_default))
    return options


def _balance(summary: Any, done: str) -> str:
    return f"{summary.inputs} inputs: {summary.labelled} {done}, {summary.failed} failed, {summary.already_done} already done"


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


def _speaker(quiet: bool) -> Callable[[str], None]:
    return (lambda text: None) if quiet else (lambda text: print(text, file=sys.stderr))
