"""Errors as OpenAI's servers word them, and what a chat completion request must be."""

from typing import Any

import orjson
from aiohttp import web

JSON = {"Content-Type": "application/json"}


class Problem(Exception):
    """A request that gets an error instead of a reply."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.headers = status, headers or {}
        self.error = {"message": message, "type": type, "param": param, "code": code}

    def response(self) -> web.Response:
        body = orjson.dumps({"error": self.error})
        return web.Response(status=self.status, body=body, headers={**JSON, **self.headers})


def parsed(data: bytes) -> dict[str, Any]:
    """The request's body from its bytes, its parts that the stub reads checked for their types."""
    try:
        body = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise Problem(400, f"We could not parse the JSON body of your request: {error}") from None
    return checked(body)


def checked(body: Any) -> dict[str, Any]:
    """A request's body, if it can be one."""
    if not isinstance(body, dict):
        raise Problem(400, "The JSON body of your request is not an object.")
    if not isinstance(body.get("model"), str):
        raise Problem(400, "you must provide a model parameter", param="model")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Problem(400, "Invalid 'messages': expected an array of at least one message.", param="messages")
    for at, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise Problem(400, f"Missing required parameter: 'messages[{at}].role'.", param=f"messages[{at}].role")
        if not isinstance(message.get("content"), str | list | None):
            raise Problem(400, f"Invalid type for 'messages[{at}].content'.", param=f"messages[{at}].content")
    seed = body.get("seed")
    if seed is not None and not (isinstance(seed, int) and -(2**63) <= seed < 2**63):
        raise Problem(400, "Invalid 'seed': expected an integer of at most 64 bits with its sign.", param="seed")
    if body.get("stream") or body.get("n") not in (None, 1):
        raise Problem(400, "The stub supports neither 'stream' nor 'n' above 1.", param="stream")
    _check_format(body.get("response_format"))
    return body


def _check_format(wanted: Any) -> None:
    if wanted is None:
        return
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if kind not in ("text", "json_object", "json_schema"):
        raise Problem(400, f"Invalid value: 'response_format.type' {kind!r}.", param="response_format.type")
    if kind == "json_schema":
        given = wanted.get("json_schema")
        for part, types in (("name", str), ("schema", dict)):
            if not isinstance(given, dict) or not isinstance(given.get(part), types):
                where = f"response_format.json_schema.{part}"
                raise Problem(400, f"Missing required parameter: '{where}'.", param=where)


def unknown_model(name: str) -> Problem:
    return Problem(404, f"The model `{name}` does not exist or you do not have access to it.", code="model_not_found")


def wrong_key() -> Problem:
    return Problem(401, "Incorrect API key provided.", code="invalid_api_key")


def too_long(tokens: int, context: int) -> Problem:
    return Problem(
        400,
        f"This model's maximum context length is {context} tokens. However, your messages resulted in {tokens} "
        "tokens. Please reduce the length of the messages.",
        code="context_length_exceeded",
        param="messages",
    )


def no_json_schema() -> Problem:
    return Problem(
        400,
        "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model.",
        param="response_format",
    )
