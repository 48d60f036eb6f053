"""Action labels for large video archives: "Align before Adapt" (CVPR 2024) on Ray.

`load_encoder` and `load` are the Python API. They are imported on first use, so that `import alt_ray` (and
`alt-ray --help`) stays free of torch.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alt_ray.api import load
    from alt_ray.models.encoder import load_encoder

__version__ = "0.1.0"
__all__ = ["__version__", "load", "load_encoder"]


def __getattr__(name: str) -> Any:
    if name == "load_encoder":
        from alt_ray.models.encoder import load_encoder

        return load_encoder
    if name == "load":
        from alt_ray.api import load

        return load
    raise AttributeError(f"module 'alt_ray' has no attribute {name!r}")
