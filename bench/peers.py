"""One client asks a server the same questions as pmem does; the CPU time and wall time that it takes are printed.

python peers.py CLIENT URL FOLDER COUNT JOBS

FOLDER holds what `client.py` wrote: questions.jsonl, each {"text": str, "history": int or null}, and histories.jsonl,
each the text of a history, whose messages are slices of it. Every client gets the messages of a call as a list of dicts
that is built for that call, and is called in the way that its documentation recommends for many calls at once.
Start-up is left out: JOBS calls (curator: a whole small data set) warm it up before the clock starts; the time is that
of the process, all threads. The output is a line of JSON: cpu and wall in seconds, count, version.

Beside `raw` (aiohttp and orjson) stand two of its kind that get a history otherwise: `raw-kept` keeps the list of its
messages over all calls, `raw-parsed` parses a line of JSON for each.
"""

import asyncio
import contextlib
import importlib.metadata
import io
import itertools
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import orjson

Message = dict[str, str]
Call = Callable[[int], Awaitable[str]]
Drive = Callable[[Call], Awaitable[None]]

MODEL = "gpt-4o-mini"  # a name that every client knows the price and the tokenizer of
KEY = "sk-bench"
MESSAGES = 290  # of a history
PACKAGES = {
    "raw": "aiohttp",
    "raw-kept": "aiohttp",
    "raw-parsed": "aiohttp",
    "openai": "openai",
    "openai-aiohttp": "openai",
    "distilabel": "distilabel",
    "curator": "bespokelabs-curator",
    "inspect-ai": "inspect-ai",
    "litellm": "litellm",
}
"""Client -> the distribution that it needs."""


class Prompts:
    """The messages of each call."""

    def __init__(self, folder: Path, count: int, way: str) -> None:
        with (folder / "questions.jsonl").open("rb") as file:
            self.questions = [orjson.loads(line) for line in itertools.islice(file, count)]
        needed = max(question["history"] or 0 for question in self.questions) + 1
        with (folder / "histories.jsonl").open("rb") as file:
            self.texts = [orjson.loads(line) for line in itertools.islice(file, needed)]
        self.kept = [self.sliced(n) for n in range(len(self.texts))] if way == "raw-kept" else []
        self.lines = [orjson.dumps(self.sliced(n)) for n in range(len(self.texts))] if way == "raw-parsed" else []

    def sliced(self, history: int) -> list[Message]:
        """A history's messages, cut from its text."""
        text = self.texts[history]
        size = len(text) // MESSAGES
        return [
            {"role": "assistant" if n % 2 else "user", "content": text[n * size : (n + 1) * size]}
            for n in range(MESSAGES)
        ]

    def messages(self, number: int) -> list[Message]:
        """All messages of a call."""
        question = self.questions[number % len(self.questions)]
        own = {"role": "user", "content": question["text"]}
        history = question["history"]
        if history is None:
            return [own]
        if self.kept:
            return [*self.kept[history], own]
        return [*(orjson.loads(self.lines[history]) if self.lines else self.sliced(history)), own]


async def raw(url: str, prompts: Prompts, drive: Drive, jobs: int) -> None:
    """The reference: as little as a client can do."""
    import aiohttp

    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=headers) as session:

        async def call(number: int) -> str:
            body = orjson.dumps({"model": MODEL, "messages": prompts.messages(number)})
            async with session.post(f"{url}/chat/completions", data=body) as reply:
                answer = orjson.loads(await reply.read())
            return str(answer["choices"][0]["message"]["content"])

        await drive(call)


async def openai(url: str, prompts: Prompts, drive: Drive, jobs: int, *, aiohttp: bool = False) -> None:
    """AsyncOpenAI, with httpx as it comes, or with the transport of openai[aiohttp]."""
    from openai import AsyncOpenAI, DefaultAioHttpClient

    transport = {"http_client": DefaultAioHttpClient()} if aiohttp else {}
    async with AsyncOpenAI(api_key=KEY, base_url=url, **transport) as client:

        async def call(number: int) -> str:
            reply = await client.chat.completions.create(model=MODEL, messages=prompts.messages(number))
            return str(reply.choices[0].message.content)

        await drive(call)


async def openai_aiohttp(url: str, prompts: Prompts, drive: Drive, jobs: int) -> None:
    await openai(url, prompts, drive, jobs, aiohttp=True)


async def distilabel(url: str, prompts: Prompts, drive: Drive, jobs: int) -> None:
    """OpenAILLM.agenerate: what a pipeline's step awaits for each row."""
    from distilabel.models import OpenAILLM

    model = OpenAILLM(model=MODEL, base_url=url, api_key=KEY)
    model.load()

    async def call(number: int) -> str:
        reply = await model.agenerate(input=prompts.messages(number))
        return str(reply["generations"][0])

    await drive(call)


async def inspect_ai(url: str, prompts: Prompts, drive: Drive, jobs: int) -> None:
    """Model.generate: what a solver awaits for each sample."""
    from inspect_ai.model import (
        ChatMessageAssistant,
        ChatMessageUser,
        GenerateConfig,
        get_model,
    )

    model = get_model(f"openai/{MODEL}", base_url=url, api_key=KEY, config=GenerateConfig(max_connections=jobs))
    kinds = {"user": ChatMessageUser, "assistant": ChatMessageAssistant}

    async def call(number: int) -> str:
        asked = [kinds[one["role"]](content=one["content"]) for one in prompts.messages(number)]
        return str((await model.generate(asked)).completion)

    await drive(call)


async def litellm(url: str, prompts: Prompts, drive: Drive, jobs: int) -> None:
    """litellm.acompletion."""
    import litellm as client

    async def call(number: int) -> str:
        reply = await client.acompletion(
            model=f"openai/{MODEL}", messages=prompts.messages(number), api_base=url, api_key=KEY
        )
        return str(reply.choices[0].message.content)

    await drive(call)


def curator(url: str, prompts: Prompts, count: int, jobs: int) -> tuple[float, float]:
    """A curator.LLM over a data set: the time for `count` rows more than a small set has. No row is in its cache."""
    import litellm  # its dependency

    tokenizers = Path(litellm.__file__).parent / "litellm_core_utils" / "tokenizers"
    os.environ.setdefault("TIKTOKEN_CACHE_DIR", str(tokenizers))  # the vocabulary that it would download
    from bespokelabs import curator as client

    folder = os.environ["CURATOR_CACHE_DIR"]

    class Asked(client.LLM):  # type: ignore[misc]
        def prompt(self, row: dict[str, int]) -> list[Message]:
            return prompts.messages(row["number"])

        def parse(self, row: dict[str, int], reply: str) -> dict[str, str]:
            return {"reply": reply}

    many = 10**9
    limits = {"max_requests_per_minute": many, "max_tokens_per_minute": many, "max_concurrent_requests": jobs}
    asked = Asked(model_name=MODEL, backend="openai", backend_params={"base_url": url, "api_key": KEY, **limits})

    def timed(rows: int, name: str) -> tuple[float, float]:
        cpu, wall = time.process_time(), time.perf_counter()
        found = asked([{"number": n} for n in range(rows)], working_dir=f"{folder}/{name}")
        assert all("Answer: B" in row["reply"] for row in found.dataset)
        return time.process_time() - cpu, time.perf_counter() - wall

    timed(jobs, "first")  # pays for what is imported late
    small = timed(jobs, "small")
    large = timed(jobs + count, "large")
    return large[0] - small[0], large[1] - small[1]


CLIENTS = {
    "raw": raw,
    "raw-kept": raw,
    "raw-parsed": raw,
    "openai": openai,
    "openai-aiohttp": openai_aiohttp,
    "distilabel": distilabel,
    "inspect-ai": inspect_ai,
    "litellm": litellm,
}


async def timed(name: str, url: str, prompts: Prompts, count: int, jobs: int) -> tuple[float, float]:
    """CPU and wall seconds of `count` calls, `jobs` at a time."""
    spent = (0.0, 0.0)

    async def drive(call: Call) -> None:
        nonlocal spent
        numbers = iter(range(count))

        async def work() -> None:
            for number in numbers:
                reply = await call(number)
                assert "Answer: B" in reply, reply

        await asyncio.gather(*(call(number) for number in range(jobs)))
        cpu, wall = time.process_time(), time.perf_counter()
        await asyncio.gather(*(work() for _ in range(jobs)))
        spent = time.process_time() - cpu, time.perf_counter() - wall

    await CLIENTS[name](url, prompts, drive, jobs)
    return spent


def main(name: str, url: str, folder: Path, count: int, jobs: int) -> None:
    """Print the figures; what a client says besides is thrown away."""
    prompts = Prompts(folder, count, name)
    with contextlib.redirect_stdout(io.StringIO()):
        if name == "curator":
            cpu, wall = curator(url, prompts, count, jobs)
        else:
            cpu, wall = asyncio.run(timed(name, url, prompts, count, jobs))
    version = importlib.metadata.version(PACKAGES[name])
    sys.stdout.buffer.write(orjson.dumps({"cpu": cpu, "wall": wall, "count": count, "version": version}) + b"\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
