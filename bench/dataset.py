"""A whole data set by `shell/dataset.sh`, written by an author that plants faults: 1,000 personas, 25,000 questions.

python bench/dataset.py [--personas N] [--kills N] [--jobs N] [--filler FILE] [--keep FOLDER] [--json FILE]

The server is author_server.py, on the second core where there is one: seven of ten questions fall, unevenly over kinds
and cases, and it plants conflicts, repetitions, preferences that are blurted out, private details that look real,
artefacts and queries that give the answer away. Checked at the end: every quota is met; nothing planted is left; the
histories hold what they promise (tests/check_histories.py, which shares no code with pmem); with --kills, that the
script was killed so often at random moments, and no more requests were made twice than were in flight then. Printed:
wall time, CPU, CPU of a call and peak memory for each command. Exit status 1 if a check fails.
"""

import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import author
import orjson
from cpu import PMEM, write_json

ROOT = Path(__file__).parent.parent
KEY = "sk-bench-0123456789-never-to-be-seen"
PREFERENCES = "stereotypical=6,anti_stereotypical=6,neutral=6,health=2,therapy=2"
QUOTAS = {"updated": 2_200, "forgotten": 2_000, "other": 3_800, "sensitive": 2_000}
OWN = {"stereotypical": 4_300, "anti_stereotypical": 4_300, "neutral": 4_300, "health": 900, "therapy": 1_200}
"""Questions wanted for 1,000 personas: of each case, and of the case `own` by kind; 25,000 in all."""
TIMED = f"""#!{sys.executable} -S
import os, sys, time
began, child = time.time(), os.posix_spawn({PMEM!r}, [{PMEM!r}, *sys.argv[1:]], os.environ)
_, status, used = os.wait4(child, 0)
with open(os.environ["TIMES"], "a") as file:
    print(sys.argv[1], time.time() - began, used.ru_utime + used.ru_stime, used.ru_maxrss // 1024, file=file)
sys.exit(os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 1)
"""
CALLS = re.compile(r"^pmem (\w+): .*?([\d,]+) calls? to openai:stub", re.MULTILINE)


class Run:
    """One data set in the making."""

    def __init__(self, folder: Path, personas: int, jobs: int, filler: Path | None, url: str) -> None:
        self.out, self.personas, self.url, self.filler = folder / "out", personas, url, filler
        self.times, self.stderr, self.quotas = folder / "times", folder / "stderr", folder / "quotas.toml"
        self.times.touch()
        self.quotas.write_text(self._quotas())
        lines = folder / "lines.jsonl"
        lines.write_text("".join(f'{{"persona": "A beekeeper who keeps {n} hives"}}\n' for n in range(personas)))
        wrapper = folder / "bin" / "pmem"
        wrapper.parent.mkdir()
        wrapper.write_text(TIMED)
        wrapper.chmod(0o755)
        self.command = ["bash", str(ROOT / "shell" / "dataset.sh"), "openai:stub", str(personas), str(lines)]
        self.environment = os.environ | {
            **{"PATH": f"{wrapper.parent}:{os.environ['PATH']}", "TIMES": str(self.times), "OPENAI_API_KEY": KEY},
            **{"OUT": str(self.out), "YES": "1", "BASE_URL": url, "JOBS": str(jobs), "VOTES": "2", "ATTEMPTS": "15"},
            **{"PREFERENCES": PREFERENCES, "QUOTAS": str(self.quotas), "WINDOWS": "32k 128k"},
            **{"XDG_CACHE_HOME": str(folder / "cache"), "FILLER": str(filler) if filler else ""},
        }

    def _wanted(self) -> dict[str, int]:
        """Questions wanted of each case, and of own/KIND, for so many personas."""
        wanted = QUOTAS | {f"own/{kind}": number for kind, number in OWN.items()}
        return {name: number * self.personas // 1000 for name, number in wanted.items()}

    def _quotas(self) -> str:
        wanted = self._wanted()
        cases = [f"{name} = {number}" for name, number in wanted.items() if "/" not in name]
        own = [f"{name.removeprefix('own/')} = {number}" for name, number in wanted.items() if "/" in name]
        parts = [f"total = {sum(wanted.values())}", "per_preference = 2", "[case]", *cases, "[own]", *own]
        return "\n".join(parts) + "\n"

    def start(self) -> "subprocess.Popen[bytes]":
        """The script, in a process group of its own."""
        with self.stderr.open("ab") as stderr:
            return subprocess.Popen(
                self.command, env=self.environment, stdout=stderr, stderr=stderr, start_new_session=True
            )

    def killed(self, kills: int) -> int:
        """Kill the script and all that it started so often, each time after some more calls; how often it was."""
        wait = 40 * self.personas
        for number in range(kills):
            until = self.requests() + random.randrange(wait // 4, wait)
            script = self.start()
            while script.poll() is None and self.requests() < until:
                time.sleep(0.2)
            if script.poll() is not None:
                return number
            os.killpg(script.pid, signal.SIGKILL)
            script.wait()
        return kills

    def counts(self) -> dict[str, int]:
        """What the server was asked."""
        with urllib.request.urlopen(self.url.replace("/v1", "/stub/counts")) as reply:
            counts: dict[str, int] = orjson.loads(reply.read())
            return counts

    def requests(self) -> int:
        return self.counts()["requests"]

    def records(self, name: str) -> Iterator[dict[str, Any]]:
        """The records of a file that was made."""
        with (self.out / f"{name}.jsonl").open("rb") as file:
            yield from map(orjson.loads, file)

    # ---- what must hold ---------------------------------------------------------------------------------------

    def faults(self) -> list[str]:
        """What is wrong with what was made."""
        return [*self._unmet(), *self._planted(), *self._histories()]

    def _unmet(self) -> Iterator[str]:
        kept: Counter[str] = Counter()
        for qa in self.records("kept"):
            kept[f"own/{qa['preference']['kind']}" if qa["case"] == "own" else qa["case"]] += 1
        for name, number in self._wanted().items():
            if kept[name] != number:
                yield f"quota of {name}: {kept[name]:,} of {number:,}"

    def _planted(self) -> Iterator[str]:
        found: Counter[str] = Counter()
        for persona in self.records("personas"):
            texts = [preference["text"] for preference in persona["preferences"]]
            found["preferences that conflict"] += sum(text.startswith(author.CONFLICT) for text in texts)
            found["preferences that repeat another"] += sum(text.startswith(author.REPEATED) for text in texts)
            found["preferences word for word"] += len(texts) - len(set(texts))
        for conversation in self.records("conversations"):
            said = " ".join(m["content"] for m in conversation["messages"] if m["role"] == "user")
            answered = " ".join(m["content"] for m in conversation["messages"] if m["role"] == "assistant")
            found["preferences stated"] += author.OUTRIGHT in said or author.ROUNDABOUT in said
            found["private details that look real"] += any(detail in said for detail in author.REAL_LOOKING)
            found["secrets repeated"] += any(secret["value"] in answered for secret in conversation["secrets"])
        for qa in self.records("kept"):
            found["artefacts"] += any(author.ARTEFACT.strip() in option for option in qa["options"])
            phrase = author.PHRASE.search(qa["preference"]["text"]) if qa["case"] != "sensitive" else None
            found["queries that give the answer away"] += bool(phrase and phrase[0] in qa["query"])
        yield from (f"planted and not caught: {number} {what}" for what, number in found.items() if number)

    def _histories(self) -> Iterator[str]:
        check = [sys.executable, str(ROOT / "tests" / "check_histories.py")]
        check += [str(self.out / f"{name}.jsonl") for name in ("conversations", "histories")]
        check += [str(self.filler)] if self.filler else []
        done = subprocess.run(check, capture_output=True, text=True)
        if done.returncode:
            yield f"histories: {done.stdout[-500:]}{done.stderr[-500:]}"

    def table(self) -> list[dict[str, Any]]:
        """A row for each command: runs, wall and CPU seconds, peak MiB, calls."""
        rows: dict[str, dict[str, Any]] = {}
        for line in self.times.read_text().splitlines():
            name, wall, cpu, peak = line.split()
            row = rows.setdefault(name, {"command": name, "runs": 0, "wall": 0.0, "cpu": 0.0, "peak": 0, "calls": 0})
            row["runs"] += 1
            row["wall"] += float(wall)
            row["cpu"] += float(cpu)
            row["peak"] = max(row["peak"], int(peak))
        for name, calls in CALLS.findall(self.stderr.read_text()):
            rows[name]["calls"] += int(calls.replace(",", ""))
        return list(rows.values())


def shown(rows: list[dict[str, Any]]) -> str:
    """The table as text."""
    lines = [f"{'':<10} {'runs':>4} {'wall s':>8} {'CPU s':>8} {'MiB':>5} {'calls':>10} {'ms CPU/call':>11}"]
    for row in rows:
        each = f"{1000 * row['cpu'] / row['calls']:.3f}" if row["calls"] else ""
        lines.append(
            f"{row['command']:<10} {row['runs']:>4} {row['wall']:>8.1f} {row['cpu']:>8.1f} {row['peak']:>5}"
            f" {row['calls']:>10,} {each:>11}"
        )
    return "\n".join(lines)


def main() -> int:
    """Read the options and run; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--personas", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=64)
    parser.add_argument("--filler", type=Path, help="filler records (pmem import filler)")
    parser.add_argument("--keep", type=Path, help="leave all files in this folder")
    parser.add_argument("--json", help="write the figures there")
    given = parser.parse_args()
    folder = given.keep or Path(tempfile.mkdtemp())
    folder.mkdir(exist_ok=True)
    server = subprocess.Popen([sys.executable, str(ROOT / "bench" / "author_server.py")], stdout=subprocess.PIPE)
    try:
        assert server.stdout
        url = server.stdout.readline().decode().removeprefix("listening on ").strip()
        run = Run(folder, given.personas, given.jobs, given.filler, url)
        began = time.perf_counter()
        kills = run.killed(given.kills)
        status = run.start().wait()
        wall, counts = time.perf_counter() - began, run.counts()
        faults = [f"the script ended with status {status}"] if status else []
        faults += run.faults()
        most = 2 * given.jobs * kills  # -j calls, and the replies that were not committed yet
        if counts["repeats"] > most:
            faults.append(f"{counts['repeats']} requests were made twice, more than the {most} of {kills} kills")
        rows = run.table()
        print(shown(rows))
        print(f"{wall:,.0f} s, {counts['requests']:,} requests, {counts['repeats']} of them twice, {kills} kills")
        write_json(given.json, {"wall": wall, "counts": counts, "kills": kills, "commands": rows, "faults": faults})
        print("\n".join(faults) or "all quotas met, nothing planted is left, histories as promised")
        return bool(faults)
    finally:
        server.terminate()
        if not given.keep:
            shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main())
