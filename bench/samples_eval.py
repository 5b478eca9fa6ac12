"""Every benchmark's sample through `pmem import` and `pmem eval`: counts in, out and rejected.

python bench/samples_eval.py [--smollm2 N] [--data FOLDER] [--json FILE]

Against the stub server (tests/stub) every question is asked after its full history; with --smollm2 N, also the first N
of each by `local:smollm2` in its window of 8,192 tokens, where turns in the middle give way. Ends with an error if
anything that goes in neither comes out nor is rejected. The samples are looked for in ../shared/data.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from cpu import PMEM, write_json

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
SAMPLES = {  # name: (format, files, further options)
    "PersonaMem v1, 32k": ("personamem-v1", ["personamem_v1_32k"], []),
    "LongMemEval, evidence turns": ("longmemeval", ["longmemeval/evidence_turns_150.jsonl"], []),
    "LongMemEval, questions alone": ("longmemeval", ["longmemeval/questions_150.json"], []),
    "LoCoMo": ("locomo", ["locomo/locomo10_3conv.json"], []),
    "PrefEval": ("prefeval", ["prefeval"], []),
    "PrefEval, 10 turns between": ("prefeval", ["prefeval"], ["--filler", "filler.jsonl", "--turns", "10"]),
}
ROOM = "6800"
"""Tokens of prompt and reply as o200k_base counts them: SmolLM2 counts more, and takes 8,192 of its own."""
COUNT = re.compile(r"([\d,]+) (in|out|rejected)\b")


class Samples:
    """Imports and asks, in a folder of its own."""

    def __init__(self, data: Path, folder: Path) -> None:
        self._data, self._folder = data, folder

    def pmem(self, *arguments: str) -> dict[str, int]:
        """A command's counts of records, which must add up: what goes in comes out or is rejected."""
        env = {**os.environ, "OPENAI_API_KEY": "none"}
        ran = subprocess.run([PMEM, *arguments], cwd=self._folder, env=env, capture_output=True, text=True)
        assert ran.returncode in (0, 3), ran.stderr[-2000:]
        last = ran.stderr.strip().splitlines()[-1]
        counts = {name: int(number.replace(",", "")) for number, name in COUNT.findall(last.partition(";")[0])}
        counts.setdefault("rejected", 0)
        assert counts["in"] == counts["out"] + counts["rejected"], last
        return counts

    def filler(self) -> None:
        """Dialogues to put between preference and question."""
        problems = str(self._data / "gsm8k" / "train_first2500.jsonl")
        self.pmem("import", "filler", problems, "--limit", "200", "-o", "filler.jsonl")

    def imported(self, layout: str, files: list[str], more: list[str]) -> dict[str, int]:
        """Import a sample into q.jsonl and h.jsonl."""
        paths = [str(self._data / name) for name in files]
        written = ["-o", "q.jsonl", "--histories", "h.jsonl", "--rejects", "rejects.jsonl"]
        return self.pmem("import", layout, *paths, *more, *written)

    def asked(self, *model: str) -> dict[str, int]:
        """Ask what has been imported: with options as multiple choice, else open-ended; without a history if none."""
        open_ended = b'"options":null' in (self._folder / "q.jsonl").read_bytes()
        judged = ["--mode", "open", "--votes", "1"] if open_ended else []
        histories = ["--histories", "h.jsonl"] if (self._folder / "h.jsonl").stat().st_size else ["--context", "none"]
        return self.pmem("eval", "q.jsonl", *histories, *judged, *model, "-o", "r.jsonl", "--rejects", "failed.jsonl")

    def judge(self, *model: str) -> list[str]:
        """Options that name a judge, where one is needed."""
        open_ended = b'"options":null' in (self._folder / "q.jsonl").read_bytes()
        return list(model) if open_ended else []


def measured(samples: Samples, url: str, few: int) -> list[dict[str, Any]]:
    """A line for each sample."""
    rows = []
    samples.filler()
    for name, (layout, files, more) in SAMPLES.items():
        row: dict[str, Any] = {"sample": name, **samples.imported(layout, files, more)}
        judge = samples.judge("--judge-model", "openai:judge", "--judge-base-url", url)
        row["stub"] = samples.asked("-m", "openai:stub", "--base-url", url, *judge, "--cache", "stub.sqlite")
        assert row["stub"] == {"in": row["out"], "out": row["out"], "rejected": 0}, row
        if few:
            size = ["--max-tokens", "32", "--context-length", ROOM]
            cut = ["--truncate", "middle"] if "questions alone" not in name else []
            judge = samples.judge("--judge-model", "local:smollm2")
            row["smollm2"] = samples.asked(
                "-m", "local:smollm2", *judge, *size, *cut, "--limit", str(few), "--cache", "local.sqlite"
            )
            assert row["smollm2"] == {"in": few, "out": few, "rejected": 0}, row
        print(row, flush=True)
        rows.append(row)
    return rows


def main() -> None:
    from tests.stub import running

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smollm2", type=int, default=0, metavar="N")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--json")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, running() as stub:
        rows = measured(Samples(given.data.resolve(), Path(folder)), stub.url, given.smollm2)
    if given.json:
        write_json(given.json, {"samples": rows})


if __name__ == "__main__":
    main()
