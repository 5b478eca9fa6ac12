"""What a benchmark ran on: for the head of its table and for its JSON."""

import datetime
import os
import platform
from importlib import metadata
from pathlib import Path


def machine(*packages: str) -> dict[str, str]:
    """Date, processor, cores, load before the start, Python, and the packages' versions."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "date": datetime.date.today().isoformat(),
        "processor": models[0] if models else platform.processor() or platform.machine(),
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "load": f"{os.getloadavg()[0]:.1f}",
        "python": platform.python_version(),
        **{package: metadata.version(package) for package in packages},
    }


def heading(found: dict[str, str]) -> str:
    """The same as a line."""
    return ", ".join(f"{name} {value}" for name, value in found.items())
