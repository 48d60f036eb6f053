"""The small commands that need no Ray job: cost and doctor. Each prints what a person wants to read, or one line of JSON."""

import json
import os
import platform
import shutil
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from alt_ray import __version__, bundled
from alt_ray.config import CostOptions, DoctorOptions
from alt_ray.errors import CheckpointError
from alt_ray.models.configs import AdapterConfig
from alt_ray.models.cost import VisionShape, read_model_config
from alt_ray.models.cost import cost as model_cost
from alt_ray.video.sampling import DEFAULT_FRAMES

_PACKAGES = ("torch", "torchvision", "open_clip_torch", "ray", "av", "pyarrow", "numpy", "fsspec")


def cost(options: CostOptions) -> int:
    """Print what a model costs, by default the pocket's. Nothing is loaded: the figures follow from its configuration."""
    encoder = options.encoder or bundled.POCKET
    config = read_model_config(encoder)
    model = _Shape(AdapterConfig.for_model(config)) if options.encoder else _trained_pocket()
    merge_r = model.merge_r if options.merge_r is None and options.merge_ratio is None else options.merge_r or 0
    shape = VisionShape.from_config(config)
    report = model_cost(
        config,
        merge_r,
        merge_ratio=options.merge_ratio or 0.0,
        schedule=options.merge_schedule or "constant",
        adapter=model.adapter if options.adapter else None,
        num_frames=model.num_frames if options.frames is None else options.frames,
        num_views=options.views,
        num_entities=options.entities,
        region_features=options.region_features or model.region_features,
    )
    rows = [
        (
            "encoder per frame",
            f"{_gflops(report.gflops_per_frame)}, {report.tokens_out} of {shape.num_patches + 1} tokens left",
        ),
        ("adapter per view", _gflops(report.gflops_adapter)),
        ("alignment per view", f"{_gflops(report.gflops_alignment)}, {options.entities} entities"),
        ("in all, per view", f"{_gflops(report.gflops_per_view)}, {report.num_frames} frames"),
        ("in all, per video", f"{_gflops(report.gflops_per_video)}, {options.views} views"),
        ("parameters", ", ".join(f"{n / 1e6:.1f} M {name}" for name, n in report.parameters.items())),
    ]
    out = sys.stderr if options.json else sys.stdout
    each = (merge_r,) if isinstance(merge_r, int) else merge_r
    merging = options.merge_ratio or ",".join(map(str, each if len(set(each)) > 1 else each[:1]))
    print(f"{encoder}, merging {merging}; one multiply-add counts as one", file=out)
    for name, value in rows:
        print(f"  {name:20} {value}", file=out)
    if options.json:
        print(json.dumps(asdict(report)))
    return 0


def _gflops(number: float) -> str:
    return f"{number:.{2 if number >= 1 else 3}f} GFLOPs"


@dataclass(frozen=True)
class _Shape:
    """What a cost depends on beside the encoder's config, where no option says it."""

    adapter: AdapterConfig
    merge_r: int | tuple[int, ...] = 0
    region_features: str = "final"
    num_frames: int = DEFAULT_FRAMES


def _trained_pocket() -> _Shape:
    """The pocket as its adapter was trained, read without torch. Raises CheckpointError if its files are missing."""
    folder = bundled.adapter_folder(bundled.POCKET)
    assert folder is not None
    file = folder / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except OSError as exc:
        raise CheckpointError(f"{file}, which ships with this package, can't be read: {exc}") from exc
    return _Shape(
        AdapterConfig(**config["adapter"]),
        tuple(config["encoder"]["merge_schedule"]),
        config["encoder"]["region_features"],
        int(config["sampling"].get("frames", DEFAULT_FRAMES)),
    )


def doctor(options: DoctorOptions) -> int:
    """Print what this machine has for a job, and what is missing."""
    found = _examine()
    if options.json:
        print(json.dumps(found))
        return 0
    for name, value in found.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {entry}" for key, entry in value.items())
        print(f"  {name:12} {value}")
    return 0


def _examine() -> dict[str, Any]:
    memory = shutil.disk_usage("/dev/shm") if os.path.isdir("/dev/shm") else None  # noqa: PTH112
    return {
        "alt_ray": __version__,
        "python": f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        "packages": {name: _version(name) for name in _PACKAGES},
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory": _memory(),
        "shared": f"{memory.free / 2**30:.1f} GiB free in /dev/shm, where Ray keeps decoded clips"
        if memory
        else "no /dev/shm",
        "gpu": _gpu(),
        "ray": _ray(),
        "ffmpeg": _ffmpeg(),
        "weights": _weights(),
        "recipe": _recipe(),
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def _memory() -> str:
    gib = 2**30
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / gib
    available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES") / gib
    return f"{total:.1f} GiB, {available:.1f} free"


def _gpu() -> str:
    import torch

    if not torch.cuda.is_available():
        return "none: the encoder runs on CPUs"
    names = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return ", ".join(f"{p.name} ({p.total_memory / 2**30:.0f} GiB)" for p in names)


def _ray() -> str:
    address = os.environ.get("RAY_ADDRESS")
    return f"RAY_ADDRESS={address}" if address else "no RAY_ADDRESS: jobs start a Ray of their own on this machine"


def _ffmpeg() -> str:
    import av

    codecs = [name for name in ("h264", "hevc", "vp9", "av1", "libdav1d", "mpeg4") if name in av.codecs_available]
    return f"in PyAV {av.__version__}; decodes {', '.join(codecs)} and {len(av.codecs_available)} more"


def _recipe() -> str:
    missing = ", ".join(map(str, bundled.missing_files()))
    return f"{bundled.DEFAULT_RECIPE} by default; " + (f"missing: {missing}" if missing else "its files are here")


def _weights() -> str:
    """Whether open_clip's weights can be had: from the hub, or only from files."""
    from urllib.error import URLError
    from urllib.request import Request, urlopen

    hub = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    try:
        urlopen(Request(hub, method="HEAD"), timeout=3).close()
    except (URLError, OSError, ValueError) as exc:
        return f"{hub} can't be reached ({getattr(exc, 'reason', exc)}): give a file, --pretrained FILE.safetensors"
    return f"{hub} can be reached: --pretrained TAG downloads them"
