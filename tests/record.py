"""Write recorded answers: `python -m tests.record FILE WANTED [ANSWERS.json]`.

Run a command with `-m recorded:FILE`, `--rejects` and PMEM_WANTED=WANTED: every call without a valid answer is put
into WANTED with its prompt. Then either give the answers (a JSON object: call id -> reply, text or JSON), or, without
ANSWERS, accept the stale answers in WANTED for the changed prompts: only after reading them against the new prompts.
FILE is written sorted by call id.
"""

import sys
from pathlib import Path
from typing import Any

import orjson


def lines_of(path: Path) -> list[dict[str, Any]]:
    """The JSON lines of a file; none, where there is no file."""
    return [orjson.loads(line) for line in path.read_bytes().splitlines() if line.strip()] if path.exists() else []


def merge(file: Path, wanted: Path, answers: dict[str, Any] | None) -> tuple[int, list[str]]:
    """Put answers for wanted calls into the file; (how many, calls that still lack one)."""
    recorded = {line["call"]: line for line in lines_of(file)}
    added = 0
    missing = []
    for line in lines_of(wanted):
        call = line["call"]
        reply = line["stale"] if answers is None else answers.get(call)
        if reply is None:
            missing.append(call)
            continue
        recorded[call] = {"call": call, "prompt": line["prompt"], "reply": reply}
        added += 1
    text = b"".join(orjson.dumps(recorded[call], option=orjson.OPT_APPEND_NEWLINE) for call in sorted(recorded))
    file.write_bytes(text)
    return added, sorted(set(missing))


def main(file: str, wanted: str, answers: str | None = None) -> None:
    """Merge, and say what is missing."""
    given = orjson.loads(Path(answers).read_bytes()) if answers else None
    added, missing = merge(Path(file), Path(wanted), given)
    print(f"{added} answers recorded, {len(missing)} calls without one", *missing, sep="\n  ")
    Path(wanted).unlink(missing_ok=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
