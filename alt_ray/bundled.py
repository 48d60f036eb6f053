"""What ships inside the package, by name, as paths: the pocket model and the recipes. Knows nothing of what the files hold.

    pocket/weights/model.json                 config of the pocket's CLIP (the encoder "pocket")
    pocket/weights/pocket_clip.safetensors    its weights (pretrained "pocket")
    pocket/weights/adapter/                   the adapter trained on it (a checkpoint folder; adapter "pocket")
    recipes/*.yaml                            recipes; in a checkout they stand in jobs/configs/

The code of a job travels without the weights (jobpackage.py; TRAVELLED says so): those of the alt_ray that is installed where it
arrives serve it. A name whose weights are nowhere then raises UsageError.

A name counts only if it is exactly that, as a str: `./pocket`, `pocket/` and Path("pocket") are the user's own files.
"""

import functools
import sys
from collections.abc import Iterator
from pathlib import Path

from alt_ray.errors import UsageError

POCKET = "pocket"
DEFAULT_RECIPE = "pocket"
TRAVELLED = "TRAVELLED"


def encoder_config(model: object) -> Path | None:
    """Return the model config that ships under this name, or None."""
    return _weights() / "model.json" if model == POCKET else None


def encoder_weights(pretrained: object) -> Path | None:
    """Return the weights that ship under this name, or None."""
    return _weights() / "pocket_clip.safetensors" if pretrained == POCKET else None


def own_weights(model: object) -> str | None:
    """Return the name of the weights that ship with a model, or None: most models have none of their own."""
    return POCKET if model == POCKET else None


def adapter_folder(adapter: object) -> Path | None:
    """Return the checkpoint folder that ships under this name, or None."""
    return _weights() / "adapter" if adapter == POCKET else None


def recipe_names() -> tuple[str, ...]:
    """Return the names of all recipes, sorted. Raises UsageError if this installation lacks them."""
    names = tuple(sorted(file.stem for file in _recipes().glob("*.yaml")))
    if not names:
        raise UsageError(f"the recipes are missing; expected them in {_recipes()}")
    return names


def recipe_file(name: str) -> Path:
    """Return the YAML file of a recipe. Raises UsageError that names those there are."""
    names = recipe_names()
    if name not in names:
        raise UsageError(
            f"no recipe {name!r}; there are {', '.join(names)}, and a file of your own is given by --config FILE"
        )
    return _recipes() / f"{name}.yaml"


def missing_files() -> tuple[Path, ...]:
    """Return what the default recipe needs and this installation lacks; empty if all is well."""
    weights = _weights()
    adapter = weights / "adapter"
    needed = (
        _recipes() / f"{DEFAULT_RECIPE}.yaml",
        weights / "model.json",
        weights / "pocket_clip.safetensors",
        adapter / "config.json",
        adapter / "adapter.safetensors",
    )
    return tuple(file for file in needed if not file.is_file())


@functools.cache
def _weights() -> Path:
    own = Path(__file__).parent / "pocket" / "weights"
    if own.is_dir() or not (Path(__file__).parent / TRAVELLED).exists():
        return own
    for root in _installed():
        if (folder := root / "alt_ray" / "pocket" / "weights").is_dir():
            return folder
    raise UsageError(
        "the weights of the pocket did not travel with this job, and no alt_ray that is installed here has them: install alt_ray "
        "on the cluster, submit with --with-pocket, or name a real encoder"
    )


def _installed() -> Iterator[Path]:
    """Where another alt_ray may lie: beside other packages, or where a checkout was installed from (pip install -e)."""
    yield from map(Path, sys.path)
    import json
    from importlib.metadata import distributions
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    for distribution in distributions(name="alt_ray"):
        origin = json.loads(distribution.read_text("direct_url.json") or "{}").get("url", "")
        if origin.startswith("file:"):
            yield Path(url2pathname(urlsplit(origin).path))


def _recipes() -> Path:
    package = Path(__file__).parent
    wheel = package / "recipes"
    checkout = package.parent / "jobs" / "configs"  # also as the working_dir of a Ray job
    return checkout if checkout.is_dir() and not wheel.is_dir() else wheel
