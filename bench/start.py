"""Start-up: CPU of `pmem --help` and of a stage with nothing to do, relative to importing click and orjson.

python bench/start.py [--rounds N] [--json FILE]
"""

import argparse
import sys

from cpu import PMEM, as_json, paired, table, write_json

BASE = [sys.executable, "-c", "import click, orjson"]
COMMANDS = {
    "pmem --help": [PMEM, "--help"],
    "pmem filter </dev/null": [PMEM, "filter"],
    "pmem filter --help": [PMEM, "filter", "--help"],
    "pmem validate </dev/null": [PMEM, "validate"],
    "pmem personas --help": [PMEM, "personas", "--help"],
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", help="write the figures there")
    options = parser.parse_args()
    base = "python -c 'import click, orjson'"
    results = paired(BASE, COMMANDS, options.rounds)
    print(table(base, results))
    write_json(options.json, as_json(base, results))
