"""Start-up: CPU of `pmem --help` and of a stage with nothing to do, relative to importing click and orjson.

python bench/start.py [ROUNDS]
"""

import sys

from cpu import PMEM, paired, table

BASE = [sys.executable, "-c", "import click, orjson"]
COMMANDS = {
    "pmem --help": [PMEM, "--help"],
    "pmem filter </dev/null": [PMEM, "filter"],
    "pmem filter --help": [PMEM, "filter", "--help"],
    "pmem validate </dev/null": [PMEM, "validate"],
    "pmem personas --help": [PMEM, "personas", "--help"],
}

if __name__ == "__main__":
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    print(table("python -c 'import click, orjson'", paired(BASE, COMMANDS, rounds)))
