"""A real model before and after training: SmolLM2-135M-Instruct on PrefEval, trained on some topics, asked on others.

.venv/bin/python bench/prefeval.py [--data DIR] [--work DIR] [--model NAME] [--dtype bfloat16]
    [--longest TOKENS] [--asked N] [--sft STEPS] [--grpo STEPS] [--prompts N]

Choice-based and persona-driven questions (`pmem import prefeval`) of three topics are trained on, those of two others
asked: before, after `pmem sft` on gold targets, after `pmem grpo` from there; by reply and by likelihood of the
options' texts; `pmem eval --summary` gives accuracy with intervals. Every step is a pmem command, shown before it runs.
Stopped and started again with the same --work, the script goes on where it was: what is done is there, training goes
on from its last checkpoint, and eval from its cache. The last line's options make less of it, for a CPU: only questions
with histories that short, that many asked of each form, fewer steps.
"""

import argparse
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import orjson

FORMS = ("choice-based", "persona-driven")
ASKED = ("travel_restaurant", "entertain_shows")
"""Topics that nothing is trained on."""


class Bench:
    """The commands, in a folder of their own."""

    def __init__(self, work: Path, options: argparse.Namespace) -> None:
        self.work, self.options = work, options

    def pmem(self, *words: str, to: str = "", metrics: str = "") -> None:
        """Run a command, unless what it makes is there. metrics: where its stdout goes."""
        if to and (self.work / to).exists():
            return
        command = [*words, *(["-o", to] if to else [])]
        print("$ pmem", shlex.join(command), f"> {metrics}" if metrics else "", flush=True)
        begun = time.perf_counter()
        environment = {**os.environ, "PMEM_EVAL_CACHE": str(self.work / "cache.db")}
        out = (self.work / metrics).open("wb") if metrics else None
        subprocess.run([sys.executable, "-m", "pmem", *command], cwd=self.work, env=environment, stdout=out, check=True)
        print(f"  {time.perf_counter() - begun:.0f} s", flush=True)

    def data(self, source: Path) -> None:
        """train.jsonl, test.jsonl, histories.jsonl."""
        folders = [source / "implicit_preference" / form for form in FORMS]
        files = [str(path) for folder in folders for path in sorted(folder.glob("*.json"))]
        self.pmem("import", "prefeval", *files, "--histories", "histories.jsonl", to="questions.jsonl")
        sizes = {}
        for line in (self.work / "histories.jsonl").read_bytes().splitlines():
            history = orjson.loads(line)
            sizes[history["id"]] = history["tokens"]
        parts: dict[str, list[bytes]] = {"train": [], **{form: [] for form in FORMS}}
        for line in (self.work / "questions.jsonl").read_bytes().splitlines():
            qa = orjson.loads(line)
            size = max(sizes[place["id"]] for place in qa["histories"].values())
            if qa["options"] and size <= self.options.longest:
                parts[qa["labels"]["form"] if qa["topic"] in ASKED else "train"].append(line)
        test = [line for form in FORMS for line in spread(parts[form], self.options.asked)]
        for name, lines in (("train", parts["train"]), ("test", test)):
            (self.work / f"{name}.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
            print(f"{name}: {len(lines)} questions", flush=True)

    def trained(self) -> None:
        """The models `started` and `rewarded`."""
        shared = ["--histories", "histories.jsonl", "--mix", "mcq=1", "--dtype", self.options.dtype]
        shared += ["--tokens-at-once", "4096"]
        sft = ["--steps", str(self.options.sft), "--batch-size", "16", "--learning-rate", "5e-5"]
        self.pmem("sft", "train.jsonl", "-m", f"local:{self.options.model}", *shared, *sft, "--save-every", "5",
                  to="started", metrics="sft.jsonl")  # fmt: skip
        sizes = {"--steps": self.options.grpo, "--batch-size": self.options.prompts, "--group": 8}
        grpo = [str(word) for pair in sizes.items() for word in pair]
        grpo += ["--learning-rate", "1e-5"]
        self.pmem("grpo", "train.jsonl", "-m", "local:started", *shared, *grpo, "--max-tokens", "96",
                  "--save-every", "2", to="rewarded", metrics="grpo.jsonl")  # fmt: skip

    def asked(self, name: str, model: str) -> None:
        """Results of a model on the other topics."""
        shared = ["test.jsonl", "--histories", "histories.jsonl", "-m", f"local:{model}", "--dtype", self.options.dtype]
        ways = {"reply": ["--max-tokens", "96"], "likelihood": ["--scoring", "likelihood"]}
        for way, more in ways.items():
            self.pmem("eval", *shared, *more, to=f"{name}-{way}.jsonl")


def spread(lines: list[bytes], count: int) -> list[bytes]:
    """At most so many of them, from the first to the last."""
    count = min(count, len(lines))
    return [lines[number * len(lines) // count] for number in range(count)]


def main() -> None:
    """Do it all, print the summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = Path(__file__).resolve().parents[1]
    parser.add_argument("--data", type=Path, default=root.parent / "shared" / "data" / "prefeval")
    parser.add_argument("--work", type=Path, default=Path("prefeval-work"))
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--longest", type=int, default=1 << 20)
    parser.add_argument("--asked", type=int, default=1 << 20)
    parser.add_argument("--sft", type=int, default=60)
    parser.add_argument("--grpo", type=int, default=40)
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--dtype", default="bfloat16")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    bench = Bench(options.work, options)
    bench.data(options.data.resolve())
    bench.asked("before", options.model)
    bench.trained()
    bench.asked("sft", "started")
    bench.asked("grpo", "rewarded")
    results = [f"{name}-{way}.jsonl" for way in ("reply", "likelihood") for name in ("before", "sft", "grpo")]
    bench.pmem("eval", "--summary", *results, "--by", "form")


if __name__ == "__main__":
    main()
