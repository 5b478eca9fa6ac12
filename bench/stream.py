"""validate, filter and assemble, relative to an orjson loop that reads and re-serialises the same bytes.

python bench/stream.py [--records N] [--rounds N] [--json FILE]

validate and filter read qa records of about 2 KB; assemble reads conversations of about 2 KB, 20 of a persona, and
writes histories of 32k tokens without filler, so that it counts the tokens of every message.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import samples
from cpu import PMEM, as_json, paired, table, write_json

LOOP = """
import sys, orjson
loads, dumps, write, newline = orjson.loads, orjson.dumps, sys.stdout.buffer.write, orjson.OPT_APPEND_NEWLINE
for line in sys.stdin.buffer:
    write(dumps(loads(line), option=newline))
"""
STREAMS = {
    "qa": {"pmem validate": [PMEM, "validate"], "pmem filter": [PMEM, "filter"]},
    "conversation": {"pmem assemble": [PMEM, "assemble", "--window", "32k"]},
}
"""Type of the records that are read -> the commands that read them."""

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", help="write the figures there")
    options = parser.parse_args()
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        for kind, commands in STREAMS.items():
            make = samples.questions if kind == "qa" else samples.conversations
            path = samples.write(Path(folder) / f"{kind}.jsonl", make(options.records))
            size = path.stat().st_size / options.records
            print(f"{options.records:,} {kind} records, {size:,.0f} bytes each")
            results = paired([sys.executable, "-c", LOOP], commands, options.rounds, path)
            print(table("the orjson loop", results))
            figures[kind] = {"records": options.records, "bytes": round(size), **as_json("the orjson loop", results)}
    write_json(options.json, figures)
