"""Plays `vllm run-batch` with the stub as its model: `python -m tests.run_batch URL -i CALLS -o REPLIES --model NAME`."""

import argparse
import http.client
from pathlib import Path
from typing import Any

import orjson

from tests.command import lines, records


def answered(url: str, calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A result for each call, as vLLM 0.32 writes them: where it refuses one, without a body, but with an error."""
    results = []
    connection = http.client.HTTPConnection(url.split("/")[2], timeout=10)
    for call in calls:
        assert (call["method"], call["url"]) == ("POST", "/v1/chat/completions")
        connection.request("POST", call["url"], orjson.dumps(call["body"]))
        reply = connection.getresponse()
        body = orjson.loads(reply.read())
        good = reply.status == 200
        response = {"status_code": reply.status, "request_id": "vllm-batch-0", "body": body if good else None}
        error = None if good else body
        results.append({"id": "vllm-0", "custom_id": call["custom_id"], "response": response, "error": error})
    connection.close()
    return results


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("command", choices=["run-batch"])
    parser.add_argument("-i", type=Path, required=True)
    parser.add_argument("-o", type=Path, required=True)
    parser.add_argument("--model", required=True)
    given = parser.parse_args()
    given.o.write_bytes(lines(answered(given.url, records(given.i.read_bytes()))))
