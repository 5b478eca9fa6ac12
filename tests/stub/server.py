"""The HTTP side: routes, and a chat completion from its request to its last byte."""

import asyncio
import hashlib
import os
import traceback
from random import Random
from typing import Any

import orjson
from aiohttp import web

from tests.stub import arguments, faults, problems, replies
from tests.stub.allowance import Allowance
from tests.stub.batch import Answered
from tests.stub.batches import Batches
from tests.stub.counts import Call, Counts
from tests.stub.options import Options, parse
from tests.stub.problems import JSON, Problem

CREATED = 1_767_225_600  # 2026-01-01
IDENTITY = ("model", "messages", "response_format", "temperature", "seed", "max_tokens", "max_completion_tokens")


class Server:
    """Answers every request that reaches the port."""

    def __init__(self, options: Options) -> None:
        self.log: int | None = None
        self.configure(options)

    def configure(self, options: Options) -> None:
        """Start anew with these options (all but the port)."""
        if self.log is not None:
            os.close(self.log)
            self.log = None
        if options.log is not None:
            self.log = os.open(options.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self.options = options
        self.hook = replies.load_hook(options.reply)
        self.counts = Counts()
        self.batches = Batches(options, self.counts, self.batched)
        self.allowance = Allowance(options.rps, options.rps_tells) if options.rps else None

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            match request.method, request.path:
                case "POST", "/v1/chat/completions":
                    return await self.chat(request)
                case "POST", "/v1/embeddings":
                    return self.embeddings(await request.read(), request)
                case "GET", "/v1/models":
                    return self.models(request)
                case "GET", "/stub/counts":
                    return web.Response(body=orjson.dumps(self.counts.summary()), headers=JSON)
                case "POST", "/stub/reset":
                    return await self.reset(request)
                case _, path if path.startswith(("/v1/files", "/v1/batches")):
                    self.check_key(request)
                    return await self.batches.handle(request)
            raise Problem(404, f"Invalid URL ({request.method} {request.path})")
        except Problem as problem:
            return problem.response()

    def models(self, request: web.BaseRequest) -> web.Response:
        self.check_key(request)
        models = [
            {"id": name, "object": "model", "created": CREATED, "owned_by": "stub"}
            for name in self.options.models or ["stub"]
        ]
        return web.Response(body=orjson.dumps({"object": "list", "data": models}), headers=JSON)

    def embeddings(self, given: bytes, request: web.BaseRequest) -> web.Response:
        self.check_key(request)
        try:
            body = orjson.loads(given)
            texts = [body["input"]] if isinstance(body["input"], str) else list(body["input"])
            vectors = [replies.embedding(str(text), int(body.get("dimensions") or 64)) for text in texts]
        except (ValueError, KeyError, TypeError):
            raise Problem(400, "expected input: a text or several") from None
        data = [{"object": "embedding", "index": n, "embedding": vector} for n, vector in enumerate(vectors)]
        usage = {"prompt_tokens": 0, "total_tokens": 0}
        answer = {"object": "list", "data": data, "model": body.get("model"), "usage": usage}
        return web.Response(body=orjson.dumps(answer), headers=JSON)

    async def reset(self, request: web.BaseRequest) -> web.Response:
        """Counts to zero; with a JSON object of options in the body, those instead of the present ones."""
        given = await request.read()
        try:
            self.configure(parse(arguments(orjson.loads(given))) if given else self.options)
        except SystemExit:  # argparse has said why on stderr
            raise Problem(400, f"The stub cannot take the options {given.decode()}") from None
        return web.Response(body=b"{}", headers=JSON)

    async def chat(self, request: web.BaseRequest) -> web.StreamResponse:
        call, counts = Call(), self.counts
        counts.arrive()
        try:
            return await self.completed(request, call, counts)
        except Problem as problem:
            counts.note(call, problem.status, self.log)
            raise
        except asyncio.CancelledError:  # the client has gone, or we stop
            if not call.noted:
                call.fault = call.fault or "gone"
                counts.note(call, 0, self.log)
            raise
        finally:
            counts.in_flight -= 1

    async def completed(self, request: web.BaseRequest, call: Call, counts: Counts) -> web.StreamResponse:
        options = self.options
        self.check_key(request)
        body = problems.parsed(await request.read())
        counts.identify(call, fingerprint(body), body["messages"][0])
        tokens = replies.prompt_tokens(body["messages"])
        self.check(body, tokens)
        if self.allowance:
            self.allowance.take()
        call.fault, call.said = faults.drawn(options, call.hash, call.n)
        if options.stall_if and options.stall_if in replies.text_of(body["messages"][-1]):
            call.fault = "stall"
        await self.pause(call)
        if response := faults.instead(call.fault, request, options):
            counts.note(call, response.status, self.log)
            return response
        completion = self.completion(body, call, tokens)
        faults.alter(call.said, completion)
        faults.alter(call.fault, completion)
        data = orjson.dumps(completion)
        if call.fault == "reset":
            counts.note(call, 0, self.log)
        else:
            counts.note(call, 200, self.log, completion["usage"])
        return await faults.deliver(call.fault, request, data, options)

    def batched(self, body: Any) -> Answered:
        """The answer to a chat request in a batch."""
        call, counts = Call(), self.counts
        counts.arrive()
        counts.batch_requests += 1
        try:
            body = problems.checked(body)
            counts.identify(call, fingerprint(body), body["messages"][0])
            tokens = replies.prompt_tokens(body["messages"])
            self.check(body, tokens)
            fault, call.said = faults.drawn(self.options, call.hash, call.n)
            call.fault = fault if fault in faults.CONTENT else None
            completion = self.completion(body, call, tokens)
            faults.alter(call.said, completion)
            faults.alter(call.fault, completion)
            counts.note(call, 200, self.log, completion["usage"])
            return Answered(200, completion, call.hash)
        except Problem as problem:
            counts.note(call, problem.status, self.log)
            return Answered(problem.status, {"error": problem.error}, call.hash)
        finally:
            counts.in_flight -= 1

    async def pause(self, call: Call) -> None:
        options = self.options
        wait = options.latency / 1000
        if options.jitter:
            wait += options.jitter / 1000 * faults.draw("jitter", options.seed, call.hash, call.n)
        if call.fault == "stall":
            wait += options.stall
        if wait:
            await asyncio.sleep(wait)

    def check_key(self, request: web.BaseRequest) -> None:
        if self.options.key is not None and request.headers.get("Authorization") != f"Bearer {self.options.key}":
            raise problems.wrong_key()

    def check(self, body: dict[str, Any], tokens: int) -> None:
        options = self.options
        if options.models and body["model"] not in options.models:
            raise problems.unknown_model(body["model"])
        if not options.json_schema and (body.get("response_format") or {}).get("type") == "json_schema":
            raise problems.no_json_schema()
        if options.context is not None and tokens > options.context:
            raise problems.too_long(tokens, options.context)

    def completion(self, body: dict[str, Any], call: Call, tokens: int) -> dict[str, Any]:
        bad = call.said == "badschema"
        content = None if bad else self.hooked(body)
        if content is None:
            rng = Random(int(call.hash[:16], 16))
            content = replies.content(body, rng, first=self.options.first, bad=bad)
        message = {"role": "assistant", "content": content, "refusal": None}
        written = len(content) // 4 + 1
        return {
            "id": f"chatcmpl-{call.hash[:24]}",
            "object": "chat.completion",
            "created": CREATED,
            "model": body["model"],
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
            "usage": {
                "prompt_tokens": tokens,
                "completion_tokens": written,
                "total_tokens": tokens + written,
                "prompt_tokens_details": {"cached_tokens": cached(tokens)},
            },
        }

    def hooked(self, body: dict[str, Any]) -> str | None:
        try:
            return None if self.hook is None else self.hook(body)
        except Exception as error:
            traceback.print_exc()
            raise Problem(500, f"the stub's --reply failed: {error!r}", type="server_error") from None


def fingerprint(body: dict[str, Any]) -> str:
    """Of what determines the reply; a part that is null counts as left out."""
    return hashlib.sha256(
        orjson.dumps({name: body.get(name) for name in IDENTITY}, option=orjson.OPT_SORT_KEYS)
    ).hexdigest()


def cached(tokens: int) -> int:
    """As with OpenAI nothing below 1,024 tokens and then multiples of 128, but always about half of the prompt:
    replies don't depend on what came before."""
    return tokens // 2 // 128 * 128 if tokens >= 1024 else 0
