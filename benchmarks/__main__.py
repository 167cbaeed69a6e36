"""`make bench`: all benchmarks of this folder that run on a CPU, one after the other; each prints one table."""

from __future__ import annotations

import subprocess
import sys

MODULES = ("startup", "data_path", "lightning_overhead", "steps")


def main() -> int:
    """Each in its own process, so that none measures what another one left behind."""
    codes = [subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False).returncode for name in MODULES]
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
