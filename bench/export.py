"""`pmem import chatgpt` of a large export: does memory grow with what is said, or with the file?

python bench/export.py [--chats N] [--json FILE]

Every chat has 16 messages, the user's of 80 and the assistant's of 200 random words, and as much around them as real
exports have (1,500 bytes of metadata for each answer). `peak` is the most resident memory of pmem; that of one chat is
the tokenizer's, for the most part.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import orjson
import samples
from cpu import PMEM, write_json
from machine import heading, machine
from watched import watched

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.chat_exports import Tree


def export(path: Path, chats: int) -> None:
    """Write a conversations.json."""
    book = [samples.words(200, samples.random.Random(number)) for number in range(400)]
    with path.open("wb") as file:
        for number in range(chats):
            one = Tree(number, f"Chat {number}", f"2025-{number % 12 + 1:02}-{number % 28 + 1:02}T10:00")
            for turn in range(8):
                said = book[(number * 7 + turn) % len(book)]
                one.say("user", f"Chat {number}, {turn}. {said[: len(said) * 2 // 5]}")
                one.say("assistant", f"Chat {number}, {turn}. {said}", metadata={"model_slug": "y" * 1500})
            file.write((b"[", b",")[number > 0] + orjson.dumps(one.item))
        file.write(b"]")


def measured(folder: Path, chats: int) -> dict[str, Any]:
    """Sizes in MB, memory in MiB, CPU in seconds."""
    source, made = folder / "conversations.json", folder / "histories.jsonl"
    export(source, chats)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.Popen([PMEM, "import", "chatgpt", str(source), "-q", "-o", str(made)])
    peak = watched(process)[-1].peak
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert process.returncode == 0
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    sizes = {"export_mb": source.stat().st_size / 1e6, "history_mb": made.stat().st_size / 1e6}
    return {"chats": chats, **sizes, "peak_mib": peak, "cpu_s": used}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chats", type=int, default=8000)
    parser.add_argument("--json")
    options = parser.parse_args()
    print(heading(machine("orjson")))
    rows = []
    for chats in (1, options.chats):
        with tempfile.TemporaryDirectory() as folder:
            rows.append(measured(Path(folder), chats))
        print("  ".join(f"{name} {value:,.0f}" for name, value in rows[-1].items()))
    write_json(options.json, {"results": rows})


if __name__ == "__main__":
    main()
