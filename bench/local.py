"""local: against vllm: on the same CPU, and what the attention cache that local: keeps is worth.

.venv-vllm/bin/python bench/local.py [--rounds N] [--json FILE]      (bash shell/test.sh vllm makes the environment)

SmolLM2-135M in bfloat16 through both backends, as `-m local:smollm2` and `-m vllm:smollm2` run it. Tokens per second
of replies of up to 24 tokens, greedy, at 1, 16 and 64 calls at once, and at 16 with a JSON Schema: each round asks
both the same prompts, one after the other. Then the seconds of a question on a history of about 2,000 tokens: on one
that was asked about before, whose attention cache is kept, and on a new one. vLLM's processes are stopped meanwhile:
they would go on looking for work. Both compute on one core: vLLM keeps another one for its own bookkeeping, and
several threads of torch would mostly wait for each other where a core is busy. Takes about three minutes a round.
"""

import argparse
import asyncio
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

import psutil
from histories import history
from machine import heading, machine

from pmem.backends.base import Backend, Completion, Prefix, Request
from pmem.backends.local import LocalBackend
from pmem.backends.vllm import VLLMBackend

MAX_TOKENS = 24
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 40}, "story": {"type": "string"}},
    "required": ["name", "story"],
    "additionalProperties": False,
}
SETTINGS: dict[str, tuple[int, dict[str, Any] | None]] = {
    "1 call": (1, None),
    "16 at once": (16, None),
    "64 at once": (64, None),
    "16 with a schema": (16, SCHEMA),
}
TURNS = 76  # of a history: about 2,000 tokens


async def speed(backend: Backend, round_number: int, calls: int, schema: dict[str, Any] | None) -> float:
    """Tokens of replies per second."""

    def request(n: int) -> Request:
        ask = f"Tell a long story of the sailor number {round_number * 100 + n} and the sea, with names."
        return Request([{"role": "user", "content": ask}], schema=schema, max_tokens=MAX_TOKENS, temperature=0.0)

    begun = time.perf_counter()
    replies: list[Completion] = await asyncio.gather(*(backend.complete(request(n)) for n in range(calls)))
    return sum(reply.usage.completion for reply in replies) / (time.perf_counter() - begun)


def pause(processes: list[psutil.Process], *, go_on: bool) -> None:
    """Stop these processes, or let them go on."""
    for process in processes:
        process.resume() if go_on else process.suspend()


async def compare(rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Tokens per second of local: and vllm:, by setting, round by round."""
    local, vllm = LocalBackend("smollm2", dtype="bfloat16"), VLLMBackend("smollm2", dtype="bfloat16", context=2048)
    await speed(local, 9, 2, None)
    await speed(vllm, 9, 2, SCHEMA)
    engine = psutil.Process().children(recursive=True)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in SETTINGS}
    try:
        for number in range(rounds):
            for name, (calls, schema) in SETTINGS.items():
                pause(engine, go_on=False)
                first = await speed(local, number, calls, schema)
                pause(engine, go_on=True)
                found[name].append((first, await speed(vllm, number, calls, schema)))
    finally:
        pause(engine, go_on=True)
        await vllm.close()
        await local.close()
    return found


async def reuse(rounds: int) -> list[tuple[float, float]]:
    """Seconds of a question on a new history, and of the next on the same one."""
    backend = LocalBackend("smollm2", dtype="bfloat16")

    async def question(prefix: Prefix, text: str) -> float:
        begun = time.perf_counter()
        await backend.complete(Request([{"role": "user", "content": text}], prefix, max_tokens=1, temperature=0.0))
        return time.perf_counter() - begun

    await question(history("all", TURNS), "Where was I?")
    found = []
    for number in range(rounds):
        prefix = history(f"n{number}", TURNS)
        found.append((await question(prefix, "What did I buy?"), await question(prefix, "How much was it?")))
    await backend.close()
    return found


def spread(pairs: list[tuple[float, float]], *, inverse: bool = False) -> dict[str, float]:
    """Median, lowest and highest of second to first (inverse: of first to second), and the medians of both."""
    ratios = [a / b if inverse else b / a for a, b in pairs]
    first, second = (statistics.median(side) for side in zip(*pairs, strict=True))
    low, high = min(ratios), max(ratios)
    return {"first": first, "second": second, "ratio": statistics.median(ratios), "low": low, "high": high}


def main() -> None:
    """Print the tables, write the JSON."""
    import torch

    torch.set_num_threads(1)
    os.environ["VLLM_CPU_OMP_THREADS_BIND"] = "0"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    where = machine("vllm-cpu", "torch", "transformers")
    print(heading(where))
    kept = spread(asyncio.run(reuse(options.rounds + 2)), inverse=True)
    speeds = {name: spread(pairs) for name, pairs in asyncio.run(compare(options.rounds)).items()}
    print(f"{'tokens per second':<18} {'local:':>8} {'vllm:':>8}   vllm: to local:, median (lowest to highest)")
    for name, row in speeds.items():
        shown = f"{row['first']:>8.1f} {row['second']:>8.1f}"
        print(f"{name:<18} {shown}   {row['ratio']:.2f} ({row['low']:.2f} to {row['high']:.2f})")
    print("a question on a history of about 2,000 tokens, local:")
    print(f"  new history {kept['first']:.2f} s, kept attention cache {kept['second']:.3f} s:", end=" ")
    print(f"{kept['ratio']:.1f} times faster ({kept['low']:.1f} to {kept['high']:.1f})")
    if options.json:
        report = {"machine": where, "tokens_per_second": speeds, "kept_cache_seconds": kept}
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
