"""What it costs to decode in a process of its own: the same clips decoded directly, and through DecoderProcess.

    python benchmarks/isolation.py SOURCE [--rounds 9]

One decoder, rounds alternate, the ratio is the median over the rounds. Clips that can't be decoded are left out.
"""

import argparse
import statistics
import time

import numpy as np

from alt_ray.errors import DecodeError
from alt_ray.video.decode import decode_video
from alt_ray.video.isolation import DecoderProcess
from alt_ray.video.manifest import read_source
from alt_ray.video.sampling import ClipSpec


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("source")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    spec = ClipSpec()
    out_VTHW3 = np.zeros(spec.shape, np.uint8)

    uris = []
    for uri in read_source(options.source).table["uri"].to_pylist():
        try:
            decode_video(uri, None, None, spec, out_VTHW3)
        except DecodeError:
            continue
        uris.append(uri)

    direct_s, isolated_s = [], []
    with DecoderProcess(spec) as decoder:
        decoder.decode(uris[0])
        for _ in range(options.rounds):
            begun = time.perf_counter()
            for uri in uris:
                decode_video(uri, None, None, spec, out_VTHW3)
            direct_s.append(time.perf_counter() - begun)
            begun = time.perf_counter()
            for uri in uris:
                out_VTHW3[:] = decoder.decode(uri)[0]
            isolated_s.append(time.perf_counter() - begun)
    ratios = [isolated / direct for isolated, direct in zip(isolated_s, direct_s, strict=True)]
    print(f"{len(uris)} clips, 8 frames of 224 pixels, one decoder, {options.rounds} rounds")
    print(
        f"direct {len(uris) / statistics.median(direct_s):.1f} videos/s, isolated {len(uris) / statistics.median(isolated_s):.1f}"
    )
    print(f"isolated / direct time = {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")


if __name__ == "__main__":
    main()
