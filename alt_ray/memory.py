"""How much memory this process has taken. Knows nothing of what for."""

import resource
from pathlib import Path


def peak_memory_mib() -> int:
    """The most memory that this process has held, without that of the process which started it (as ru_maxrss has it)."""
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) // 1024
    except (OSError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
