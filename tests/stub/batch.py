"""One batch: its states, what makes it fail, and the lines of its result files."""

import time
import uuid
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from tests.stub import faults

if TYPE_CHECKING:
    from tests.stub.options import Options

BATCH_FAULTS = (
    "500",  # a request gets status 500
    "garbage",  # a request's output line is no JSON
    "lost",  # a request has no line in either file
    "failed",  # the batch fails at validation
    "expired",  # the batch expires with half of its requests done
)
DAY = 24 * 3600
VALIDATED, WORKED = 0.1, 0.9  # fractions of a batch's time after which it is validated, and its requests are answered
EXPIRED = "This request could not be executed before the completion window expired."


class Answered(NamedTuple):
    """What a chat request with some body gets. hash: of what determines the reply."""

    status: int
    body: dict[str, Any]
    hash: str = ""


class Batch:
    """From its creation on; `advance` moves it to where it is now."""

    def __init__(
        self, options: "Options", *, number: int, source: str, data: bytes, endpoint: str, metadata: Any
    ) -> None:
        self.options, self.number = options, number
        self.source, self.endpoint, self.metadata = source, endpoint, metadata
        self.id = f"batch_{uuid.uuid4().hex}"
        self.status = "validating"
        self.times = {"created": time.time()}
        self.output_file: str | None = None
        self.error_file: str | None = None
        self.lines = data.splitlines()
        self.requests: list[dict[str, Any]] = []
        self.faults: list[dict[str, Any]] = []
        self.completed = self.failed = self.tokens = 0

    @property
    def ended(self) -> bool:
        return self.status in ("completed", "failed", "expired", "cancelled")

    def validate(self, enqueued: int) -> None:
        """Read the input file; what is wrong with it shows once the validation is over."""
        options = self.options
        if self.drawn("failed", 0):
            self.fault("invalid_request", "The stub fails this batch on purpose.")
        if len(self.lines) > options.batch_lines:
            self.fault("too_many_tasks", f"The batch holds more than {options.batch_lines} requests.")
        if not self.lines:
            self.fault("empty_batch", "The input file holds no requests.")
        seen: set[str] = set()
        for number, line in enumerate(self.lines, 1):
            self.read(number, line, seen)
        self.tokens = sum(len(line) for line in self.lines) // 4
        if options.batch_tokens is not None and enqueued + self.tokens > options.batch_tokens:
            self.fault(
                "token_limit_exceeded",
                f"Enqueued token limit reached for this model. Limit: {options.batch_tokens:,} enqueued tokens. "
                "Please try again once some in_progress batches have been completed.",
            )

    def read(self, number: int, line: bytes, seen: set[str]) -> None:
        try:
            request = orjson.loads(line)
            custom_id, method, url = request["custom_id"], request["method"], request["url"]
            model = request["body"]["model"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return self.fault("invalid_json_line", "This line is no request.", number)
        if custom_id in seen:
            self.fault("duplicate_custom_id", f"The custom_id {custom_id!r} is used twice.", number)
        if method != "POST" or url != self.endpoint:
            self.fault("url_mismatch", f"This line is not for POST {self.endpoint}.", number)
        if self.requests and model != self.requests[0]["body"]["model"]:
            self.fault("model_mismatch", "A batch is for one model.", number)
        seen.add(custom_id)
        self.requests.append(request)
        return None

    def fault(self, code: str, message: str, line: int | None = None) -> None:
        self.faults.append({"code": code, "message": message, "param": None, "line": line})

    def drawn(self, name: str, of: int | str) -> bool:
        """Whether a fault is to happen to this batch, or to a request of it."""
        options = self.options
        if options.batch_fault_first:
            return next(iter(options.batch_fault), None) == name and self.number <= options.batch_fault_first
        return faults.draw(f"batch {name}", options.seed, f"{of}", self.number) < options.batch_fault.get(name, 0)

    # ---- time -------------------------------------------------------------------------------------------------

    def passed(self) -> float:
        """How much of its time has passed, 1: all of it."""
        seconds = time.time() - self.times["created"]
        return seconds / self.options.batch_seconds if self.options.batch_seconds else 1.0

    def cancel(self) -> None:
        self.enter("cancelling")

    def enter(self, status: str) -> None:
        self.status = status
        self.times[status] = time.time()

    def advance(self, answer: Callable[[Any], Answered]) -> dict[str, list[bytes]] | None:
        """Go on to where the clock says; at the end the lines of the files `output` and `error`."""
        passed = self.passed()
        if self.ended:
            return None
        if self.status == "cancelling":
            self.enter("cancelled")
            return self.results(answer, share=min(1.0, passed), reason="batch_cancelled")
        if self.status == "validating" and passed >= VALIDATED:
            self.enter("failed" if self.faults else "in_progress")
        if self.status == "in_progress":
            self.completed = int(len(self.requests) * min(1.0, passed / WORKED))
            if passed >= WORKED:
                self.enter("finalizing")
        if self.status == "finalizing" and passed >= 1:
            expired = self.drawn("expired", 0)
            self.enter("expired" if expired else "completed")
            return self.results(answer, share=0.5 if expired else 1.0, reason="batch_expired")
        return None

    def results(self, answer: Callable[[Any], Answered], *, share: float, reason: str) -> dict[str, list[bytes]]:
        """Answer that share of the requests; the lines of both files come in any order."""
        rng = Random(f"{self.options.seed} {self.id}")
        rng.shuffle(self.requests)
        written: dict[str, list[bytes]] = {"output": [], "error": []}
        done = round(share * len(self.requests))
        for request in self.requests[:done]:
            role, line = self.line(request, answer(request["body"]))
            written[role].append(line)
        for request in self.requests[done:]:
            error = {"code": reason, "message": EXPIRED}
            written["error"].append(_line(request["custom_id"], None, error))
        self.completed, self.failed = len(written["output"]), len(written["error"])
        return written

    def line(self, request: dict[str, Any], answered: Answered) -> tuple[str, bytes]:
        status, body, hash = answered
        if status == 200 and self.drawn("500", hash):
            status, body = 500, {"error": {"message": "The server had an error.", "type": "server_error"}}
        response = {"status_code": status, "request_id": uuid.uuid4().hex, "body": body}
        line = _line(request["custom_id"], response, None)
        if self.drawn("garbage", hash):
            line = line[: len(line) // 2] + b"\n"
        if self.drawn("lost", hash):
            line = b""
        return "output" if status == 200 else "error", line

    def described(self) -> dict[str, Any]:
        at = {f"{name}_at": int(value) for name, value in self.times.items() if name != "validating"}
        return {
            "id": self.id,
            "object": "batch",
            "endpoint": self.endpoint,
            "errors": {"object": "list", "data": self.faults} if self.status == "failed" else None,
            "input_file_id": self.source,
            "completion_window": "24h",
            "status": self.status,
            "output_file_id": self.output_file,
            "error_file_id": self.error_file,
            "expires_at": int(self.times["created"]) + DAY,
            "request_counts": {
                "total": len(self.requests),
                "completed": self.completed,
                "failed": self.failed,
            },
            "metadata": self.metadata,
            **at,
        }


def _line(custom_id: str, response: dict[str, Any] | None, error: dict[str, Any] | None) -> bytes:
    line = {"id": f"batch_req_{uuid.uuid4().hex}", "custom_id": custom_id, "response": response, "error": error}
    return orjson.dumps(line) + b"\n"
