"""What it costs to decode in a process of its own: the same clips decoded directly, and through DecoderProcess.

    python benchmarks/isolation.py SOURCE [--rounds 9]

The isolated way is that of a decoder worker: the next clip is decoded while this one is copied. Both ways are timed clip by
clip, and the best of the rounds counts, so that what else the machine does drops out. Clips that can't be decoded are left out.
"""

import argparse
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

    direct_s, isolated_s = np.full(len(uris), np.inf), np.full(len(uris), np.inf)
    with DecoderProcess(spec) as decoder:
        for _ in range(options.rounds):
            for i, uri in enumerate(uris):
                begun = time.perf_counter()
                decode_video(uri, None, None, spec, out_VTHW3)
                direct_s[i] = min(direct_s[i], time.perf_counter() - begun)
            decoder.decode(uris[0])
            decoder.submit(uris[0])
            begun = time.perf_counter()
            for i in range(len(uris)):
                if i + 1 < len(uris):
                    decoder.submit(uris[i + 1])
                out_VTHW3[:] = decoder.result()[0]
                isolated_s[i], begun = min(isolated_s[i], time.perf_counter() - begun), time.perf_counter()
    print(f"{len(uris)} clips, 8 frames of 224 pixels, one decoder, best of {options.rounds} rounds for each clip")
    print(f"direct {1 / direct_s.mean():.1f} videos/s, isolated {1 / isolated_s.mean():.1f}")
    print(f"isolated / direct time = {isolated_s.sum() / direct_s.sum():.3f}")


if __name__ == "__main__":
    main()
