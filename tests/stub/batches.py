"""Files and batches: the routes, and the files behind them. Nothing runs in the background: a batch is where the clock
says it is whenever somebody looks."""

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson
from aiohttp import web

from tests.stub.batch import Answered, Batch
from tests.stub.counts import Counts
from tests.stub.problems import JSON, Problem

if TYPE_CHECKING:
    from tests.stub.options import Options

ENDPOINTS = {"/v1/chat/completions", "/chat/completions"}  # Azure's goes without the version
MONTH = 30 * 24 * 3600  # seconds that OpenAI keeps the files of batches


@dataclass
class File:
    """An uploaded file, or one that a batch has written."""

    name: str
    purpose: str
    data: bytes
    id: str = field(default_factory=lambda: f"file-{uuid.uuid4().hex[:24]}")
    created: int = field(default_factory=lambda: int(time.time()))

    def described(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "file",
            "bytes": len(self.data),
            "created_at": self.created,
            "expires_at": self.created + MONTH,
            "filename": self.name,
            "purpose": self.purpose,
            "status": "processed",
            "status_details": None,
        }


class Batches:
    """All files and batches of a stub. answer: the status and body of a chat request with the given body."""

    def __init__(self, options: "Options", counts: Counts, answer: Callable[[Any], Answered]) -> None:
        self.options, self.counts, self.answer = options, counts, answer
        self.files: dict[str, File] = {}
        self.batches: dict[str, Batch] = {}

    async def handle(self, request: web.BaseRequest) -> web.Response:
        """Any request whose path begins with /v1/files or /v1/batches."""
        kind, *rest = request.path.removeprefix("/v1/").split("/")
        match request.method, kind, rest:
            case "POST", "files", []:
                return _json((await self.upload(request)).described())
            case "GET", "files", []:
                files = [file.described() for file in self.files.values()]
                return _json({"object": "list", "data": files, "has_more": False})
            case "GET", "files", [name]:
                return _json(self.file(name).described())
            case "GET", "files", [name, "content"]:
                return web.Response(body=self.file(name).data, headers={"Content-Type": "application/octet-stream"})
            case "DELETE", "files", [name]:
                del self.files[self.file(name).id]
                return _json({"id": name, "object": "file", "deleted": True})
            case "POST", "batches", []:
                return _json(self.create(await request.read()).described())
            case "GET", "batches", []:
                return _json(self.listed(request))
            case "GET", "batches", [name]:
                return _json(self.batch(name).described())
            case "POST", "batches", [name, "cancel"]:
                return _json(self.cancelled(name).described())
        raise Problem(404, f"Invalid URL ({request.method} {request.path})")

    # ---- files ------------------------------------------------------------------------------------------------

    async def upload(self, request: web.BaseRequest) -> File:
        form = await request.post()
        file, purpose = form.get("file"), form.get("purpose")
        if not isinstance(file, web.FileField):
            raise Problem(400, "'file' is a required property", param="file")
        if purpose != "batch":
            raise Problem(400, f"The stub keeps files of purpose 'batch' only, not {purpose!r}.", param="purpose")
        data = file.file.read()
        if len(data) > self.options.batch_bytes:
            raise Problem(400, "File is too large.")
        if not file.filename.endswith(".jsonl"):
            raise Problem(400, "Invalid file format for Batch API. Must be .jsonl")
        return self.keep(File(file.filename, purpose, data))

    def keep(self, file: File) -> File:
        self.files[file.id] = file
        return file

    def file(self, name: str) -> File:
        if name not in self.files:
            raise Problem(404, f"No such File object: {name}", param="id")
        return self.files[name]

    # ---- batches ----------------------------------------------------------------------------------------------

    def create(self, data: bytes) -> Batch:
        try:
            asked = orjson.loads(data)
            source = self.file(asked["input_file_id"])
            endpoint, window = asked["endpoint"], asked["completion_window"]
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise Problem(400, f"Missing or malformed parameter: {error}") from None
        if endpoint not in ENDPOINTS:
            raise Problem(400, f"Invalid value: {endpoint!r}.", param="endpoint")
        if window != "24h":
            raise Problem(400, f"Invalid value: {window!r}. Value must be '24h'.", param="completion_window")
        self.counts.batches += 1
        made = Batch(
            self.options,
            number=self.counts.batches,
            source=source.id,
            data=source.data,
            endpoint=endpoint,
            metadata=asked.get("metadata"),
        )
        made.validate(self.enqueued())
        self.batches[made.id] = made
        return made

    def enqueued(self) -> int:
        """Prompt tokens of all batches that are neither done nor failed."""
        return sum(batch.tokens for batch in self.batches.values() if not self.advanced(batch).ended)

    def batch(self, name: str) -> Batch:
        if name not in self.batches:
            raise Problem(404, f"No batch found with id '{name}'.")
        return self.advanced(self.batches[name])

    def cancelled(self, name: str) -> Batch:
        batch = self.batch(name)
        if batch.ended:
            raise Problem(409, f"Cannot cancel a batch with status '{batch.status}'.")
        batch.cancel()
        return batch

    def advanced(self, batch: Batch) -> Batch:
        """The batch as of now; if that is its end, its files are written."""
        if (written := batch.advance(self.answer)) is not None:
            for role, lines in written.items():
                if lines:
                    name = f"{batch.id}_{role}.jsonl"
                    setattr(batch, f"{role}_file", self.keep(File(name, "batch_output", b"".join(lines))).id)
        return batch

    def listed(self, request: web.BaseRequest) -> dict[str, Any]:
        """A page of batches, the newest first."""
        newest = [self.advanced(batch) for batch in reversed(self.batches.values())]
        after = request.query.get("after")
        if after is not None:
            newest = newest[newest.index(self.batch(after)) + 1 :]
        limit = int(request.query.get("limit", 20))
        page = [batch.described() for batch in newest[:limit]]
        ends = [page[0]["id"], page[-1]["id"]] if page else [None, None]
        more = len(newest) > limit
        return {"object": "list", "data": page, "first_id": ends[0], "last_id": ends[1], "has_more": more}


def _json(value: Any) -> web.Response:
    return web.Response(body=orjson.dumps(value), headers=JSON)
