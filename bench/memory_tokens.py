"""Tokens of questions asked after a memory and after the whole history, the making of the memory included.

python bench/memory_tokens.py [--most N] [--data FOLDER] [--json FILE]
python bench/memory_tokens.py --smollm2 N [--data FOLDER]

Histories of ../shared/data (PersonaMem v1 and v2 at 32k, LoCoMo) go through `pmem memdump` and `pmem eval --context
full,memory` against the stub, which fills memories to the cap (2,048 tokens) at once and gives short answers. It counts
the tokens that it is sent and says, in o200k_base, with 4 for each message. At most N questions (25) a history are
asked; totals are the means of a question and of an update, times their numbers. Nothing is cached by the stub.

--smollm2 N: instead, the beginning of a LoCoMo conversation by `local:smollm2` (window: 8,192 of its own tokens), in
small chunks, and N questions after the memory; prints the memory.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
from cpu import PMEM, write_json

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
Record = dict[str, Any]
SAMPLES = {
    "PersonaMem v2, 32k": ("personamem-v2", "v2"),
    "PersonaMem v1, 32k": ("personamem-v1", "personamem_v1_32k"),
    "LoCoMo": ("locomo", "locomo/locomo10_3conv.json"),
}
QUESTIONS = (1, 5, 25)
WINDOW = 32_768
"""Tokens of a full 32k window, which not all of these histories fill."""
SMALL = ["--chunk-tokens", "600", "--memory-tokens", "200", "--max-tokens", "200"]
"""So that prompt, chunk and memory fit well into 8,192 tokens, and a CPU is done in minutes."""
CHATS = 3
"""Of the conversation."""


def lines(path: Path) -> list[Record]:
    """The records of a file."""
    return [orjson.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


class Bench:
    """Runs pmem in a folder of its own."""

    def __init__(self, data: Path, folder: Path) -> None:
        self.data, self.folder = data, folder
        self.env = {**os.environ, "OPENAI_API_KEY": "none"}

    def pmem(self, *arguments: str) -> str:
        """What a command says on stderr; it must end well."""
        ran = subprocess.run([PMEM, *arguments], cwd=self.folder, env=self.env, capture_output=True, text=True)
        assert ran.returncode in (0, 3), ran.stderr[-2000:]
        return ran.stderr

    def imported(self, layout: str, name: str, most: int) -> tuple[int, int]:
        """Import a sample into q.jsonl, at most so many questions a history, and h.jsonl; how many of each."""
        source = self._published() if name == "v2" else self.data / name
        rest = ["-o", "all.jsonl", "--histories", "h.jsonl", "--rejects", "rejects.jsonl"]
        self.pmem("import", layout, str(source), *rest)
        asked: Counter[str] = Counter()
        kept = []
        for qa in lines(self.folder / "all.jsonl"):
            own_id = next(iter(qa["histories"].values()))["id"]
            asked[own_id] += 1
            kept += [qa] if asked[own_id] <= most else []
        (self.folder / "q.jsonl").write_bytes(b"".join(orjson.dumps(qa) + b"\n" for qa in kept))
        return len(lines(self.folder / "h.jsonl")), len(kept)

    def _published(self) -> Path:
        """The one published history of PersonaMem v2 and its questions, each where the data set has it."""
        folder, root = self.data / "personamem_v2", self.folder / "v2"
        places = {
            next(folder.glob("chat_history*.json")): "data/chat_history",
            folder / "benchmark_rows.DERIVED.csv": "",
        }
        for file, place in places.items():
            target = root / place / file.name if place else root / "benchmark/text/benchmark.csv"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target)
        return root

    def options(self, url: str) -> list[str]:
        """How the questions are asked; open ones need a judge, whose calls aren't counted."""
        open_ended = lines(self.folder / "q.jsonl")[0]["options"] is None
        judge = ["--mode", "open", "--votes", "1", "--judge-model", "openai:judge", "--judge-base-url", url]
        return judge if open_ended else []


def mean(calls: list[Record], kind: str) -> tuple[float, float]:
    """Tokens in and out of a call of a kind."""
    of_kind = [call for call in calls if call["kind"] == kind]
    return sum(call["in"] for call in of_kind) / len(of_kind), sum(call["out"] for call in of_kind) / len(of_kind)


def measured(bench: Bench, url: str, most: int) -> list[Record]:
    """A row for each sample."""
    rows = []
    told = bench.folder / "calls.jsonl"
    for name, (layout, source) in SAMPLES.items():
        histories, questions = bench.imported(layout, source, most)
        model = ["-m", "openai:stub", "--base-url", url, "--no-cache"]
        told.write_bytes(b"")
        bench.pmem("memdump", "h.jsonl", *model, "-o", "m.jsonl")
        updates = lines(told)
        memories = [memory["tokens"] for memory in lines(bench.folder / "m.jsonl")]
        row: Record = {"sample": name, "histories": histories, "questions": questions, "updates": len(updates)}
        row["memory tokens"] = sum(memories) / len(memories)
        into, out = mean(updates, "update")
        row["update in"], row["update out"] = into, out
        for context in ("full", "memory"):
            told.write_bytes(b"")
            more = ["--context", context, "--images-as-text", "--histories", "h.jsonl", "--memories", "m.jsonl"]
            bench.pmem("eval", "q.jsonl", *model, *more, *bench.options(url), "-o", "r.jsonl")
            calls = lines(told)
            assert 0.9 * questions < len(calls) <= questions, (context, len(calls))  # equal ones are one call
            row[context], row[f"{context} out"] = mean(calls, "question")
        row["times less in"] = row["full"] / row["memory"]
        row["times less at 32k"] = (WINDOW + row["memory"] - row["memory tokens"]) / row["memory"]
        made = (into + out) * len(updates) / histories
        for number in QUESTIONS:
            whole = number * (row["full"] + row["full out"])
            remembered = made + number * (row["memory"] + row["memory out"])
            row[f"{number} questions"] = [whole, remembered, whole / remembered]
        print(row, flush=True)
        rows.append(row)
    return rows


def table(rows: list[Record]) -> str:
    """The rows as Markdown."""
    head = [
        "",
        "a history",
        "in, full",
        "in, memory",
        "times less",
        "at 32k",
        *(f"{n} question{'s' * (n > 1)} a history" for n in QUESTIONS),
    ]
    text = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row in rows:
        totals = [f"{row[f'{n} questions'][0]:,.0f} / {row[f'{n} questions'][1]:,.0f}" for n in QUESTIONS]
        counts = [f"{row[key]:,.0f}" for key in ("full", "memory")]
        shares = [f"{row[key]:.1f}" for key in ("times less in", "times less at 32k")]
        cells = [row["sample"], *counts, *shares, *totals]
        text.append(f"| {' | '.join(cells)} |")
    return "\n".join(text)


def small(bench: Bench, few: int) -> None:
    """The beginning of a conversation and a few questions by a small model on this CPU."""
    bench.imported("locomo", "locomo/locomo10_3conv.json", few)
    history = lines(bench.folder / "h.jsonl")[0]
    history["sessions"] = history["sessions"][:CHATS]
    history["messages"] = history["messages"][: history["sessions"][-1]["end"]]
    history.pop("messages_sha256", None)
    (bench.folder / "h.jsonl").write_bytes(orjson.dumps(history) + b"\n")
    asked = [
        qa for qa in lines(bench.folder / "q.jsonl") if next(iter(qa["histories"].values()))["id"] == history["id"]
    ]
    (bench.folder / "q.jsonl").write_bytes(b"".join(orjson.dumps(qa) + b"\n" for qa in asked))
    model = ["-m", "local:smollm2", "--cache", "cache.sqlite"]
    print(f"{len(history['messages'])} messages", flush=True)
    print(bench.pmem("memdump", "h.jsonl", *model, *SMALL, "--trace", "-o", "m.jsonl"))
    for memory in lines(bench.folder / "m.jsonl"):
        print(
            f"--- chunk {memory['chunk']} of {memory['chunks']}, {memory['tokens']} tokens\n{memory['text']}\n",
            flush=True,
        )
    more = ["--context", "memory", "--memories", "m.jsonl", "--histories", "h.jsonl", "--max-tokens", "40"]
    judge = ["--mode", "open", "--votes", "1", "--judge-model", "local:smollm2"]
    print(bench.pmem("eval", "q.jsonl", *model, *more, *judge, "-o", "r.jsonl", "--rejects", "failed.jsonl"))
    for result in lines(bench.folder / "r.jsonl"):
        print(result["prompt_tokens"], "tokens in:", result["reply"])


def main() -> None:
    from tests.stub import running

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, default=max(QUESTIONS), metavar="N")
    parser.add_argument("--smollm2", type=int, default=0, metavar="N")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--json")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(given.data.resolve(), Path(name))
        if given.smollm2:
            small(bench, given.smollm2)
            return
        os.environ["PMEM_BENCH_TOKENS"] = str(bench.folder / "calls.jsonl")
        with running(reply=Path(__file__).with_name("memory_tokens_reply.py")) as stub:
            rows = measured(bench, stub.url, given.most)
    print(table(rows))
    write_json(given.json, {"samples": rows})


if __name__ == "__main__":
    main()
