"""From what a user typed to checked options: flags, a YAML file, a recipe, in this order of rank. Knows no command.

Recipes count as flags that come first, then those of --config FILE, then what was typed: the last of a name wins.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import tyro

from alt_ray import bundled
from alt_ray.config import LabelOptions
from alt_ray.config_features import EncodeOptions, RelabelOptions
from alt_ray.config_train import EvaluateOptions, TrainJobOptions
from alt_ray.config_tune import TuneOptions
from alt_ray.errors import UsageError
from alt_ray.yamlfile import flags_of_yaml

_Options = TypeVar("_Options")

# Flags stand flat (--merge-r, not --encoder.merge-r), switches have no --no- twin, and SOURCE needs no name.
_STYLE = (tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff, tyro.conf.OmitSubcommandPrefixes)


def parse(kind: type[_Options], argv: Sequence[str], program: str) -> _Options:
    """Make the options `kind` from flags; those of a recipe count as flags that come first, then those of --config FILE."""
    return parsed(kind, arguments_of(kind, argv)[0], program)


def parsed(kind: type[_Options], arguments: Sequence[str], program: str) -> _Options:
    """Make the options of complete flags."""
    return tyro.cli(kind, args=arguments, prog=program, config=_STYLE)


def arguments_of(kind: type[Any], argv: Sequence[str], *, has_default: bool = True) -> tuple[list[str], bool]:
    """Return all flags, of which the last of a name counts, and whether the recipe among them is there by default."""
    given = with_config(kind, list(argv))
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


def with_config(kind: type[Any], argv: list[str]) -> list[str]:
    for index, argument in enumerate(argv):
        name, is_joined, file = argument.partition("=")
        if name == "--config":
            if not is_joined and index + 1 == len(argv):
                raise UsageError("--config needs a YAML file")
            flags = flags_of_yaml(file if is_joined else argv[index + 1], kind, _with_settings)
            # A flag with several values takes all that follow: SOURCE must not stand right behind it.
            first = next(place for place, given in enumerate(argv) if given.startswith("-"))
            return [*argv[:first], *flags, *argv[first:]]
    return argv


def _with_settings() -> tuple[type[Any], ...]:
    """The options that one YAML file may hold together."""
    return (LabelOptions, EncodeOptions, RelabelOptions, TrainJobOptions, EvaluateOptions, TuneOptions)
