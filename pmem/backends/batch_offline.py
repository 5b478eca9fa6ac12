"""`--batch-out` and `--batch-in`: calls written to a file for somebody else to make, and files of what came of them."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from typing import IO, Any, NamedTuple

from pmem.backends.base import Backend, Completion, Likelihood, Request, Unavailable
from pmem.backends.batch_lines import CHAT, Chat, Result, completion, request_line, result
from pmem.check import plain
from pmem.errors import BackendError, Deferred, InputError


class CallFile:
    """A file of calls, each of them once. write: takes a whole line."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write
        self._keys: set[bytes] = set()

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, chat: Chat, request: Request, url: str) -> None:
        """Write a call, unless it is there already."""
        if request.key not in self._keys:
            self._write(b"".join(request_line(chat, request, url)))
            self._keys.add(request.key)


class _Place(NamedTuple):
    """Where a result stands, and whether it is a reply."""

    file: int
    begin: int
    length: int
    reply: bool


class Replies:
    """What came of calls, found by their keys in files of results; a reply counts before a failure, the first before
    others. InputError: a file can't be read."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._places: dict[bytes, _Place] = {}
        self._files: list[IO[bytes]] = []
        self._strange = 0
        self._fault = ""
        self._idle: set[bytes] = set()
        for path in paths:
            try:
                self._read(path)
            except OSError as fault:
                raise InputError(f"{path}: can't be read: {fault.strerror}") from None

    def _read(self, path: str) -> None:
        file: IO[bytes] = open(path, "rb")  # noqa: SIM115 - read from as calls come up
        if not file.seekable():
            copy = tempfile.TemporaryFile()  # noqa: SIM115
            shutil.copyfileobj(file, copy)
            copy.seek(0)
            file = copy
        self._files.append(file)
        begin = 0
        for line in file:
            if (answered := result(line)) is not None:
                self._note(answered, _Place(file.fileno(), begin, len(line), _is_reply(answered)))
            elif not line.isspace():
                self._strange += 1
            begin += len(line)

    def _note(self, answered: Result, place: _Place) -> None:
        known = self._places.get(answered.key)
        if known is None or (place.reply and not known.reply):
            self._places[answered.key] = place
        if not place.reply and not self._fault:
            self._fault = plain(_message(answered), 200)

    def unless(self, stored: Callable[[bytes], Any]) -> None:
        """Look which keys have no stored reply: those that no call comes up for are to be told."""
        self._idle = {key for key, place in self._places.items() if place.reply and stored(key) is None}

    def get(self, key: bytes) -> Result | None:
        """What came of a call."""
        if (place := self._places.get(key)) is None:
            return None
        self._idle.discard(key)
        return result(os.pread(place.file, place.length, place.begin))

    def found(self) -> str:
        """What stands in the files."""
        replies = sum(place.reply for place in self._places.values())
        parts = [f"replies: {replies:,}"]
        if failed := len(self._places) - replies:
            parts.append(f"failed calls: {failed:,} (such as: {self._fault})")
        if self._strange:
            parts.append(f"lines that are no results of pmem's calls: {self._strange:,}")
        return "; ".join(parts)

    def unused(self) -> str:
        """What nobody asked for, in the end."""
        return f"--batch-in: replies to no call of this run: {len(self._idle):,}" if self._idle else ""


def _message(answered: Result) -> str:
    """Why a call failed, as the server put it."""
    said = answered.error or answered.response.get("body")
    while isinstance(said, dict):
        said = said.get("error") or said.get("message") or str(said)
    return str(said)


def _is_reply(answered: Result) -> bool:
    return answered.response.get("status_code") == 200 and not answered.error


class PutOffBackend:
    """In the place of a backend whose calls are written to a file: each ends as Deferred."""

    cacheable = True

    def __init__(self, chat: Chat, calls: CallFile, url: str = CHAT) -> None:
        self._chat, self._calls, self._url = chat, calls, url

    def identify(self) -> dict[str, Any]:
        """As of the other backend: a reply is the same, whoever asks for it."""
        return self._chat.identify()

    async def complete(self, request: Request) -> Completion:
        """Write the call."""
        self._calls.add(self._chat, request, self._url)
        raise Deferred

    async def likelihood(self, request: Request, texts: list[str]) -> list[Likelihood]:
        """As of the other backend."""
        return await self._chat.likelihood(request, texts)

    async def close(self) -> None:
        """As of the other backend."""
        await self._chat.close()


class AnsweredBackend:
    """Before a backend: calls with a reply in a file are answered from there. One that a server refused for good is a
    ModelError; one that failed otherwise, or has no reply, goes on to `rest`."""

    cacheable = True

    def __init__(self, chat: Chat, replies: Replies, rest: Backend) -> None:
        self._chat, self._replies, self._rest = chat, replies, rest

    def identify(self) -> dict[str, Any]:
        """As of the other backend."""
        return self._rest.identify()

    async def complete(self, request: Request) -> Completion:
        """The reply from a file, or the other backend's."""
        if (answered := self._replies.get(request.key)) is not None:
            try:
                return completion(self._chat, answered, request)
            except (Unavailable, BackendError):  # made anew it may come to something, or with another server
                pass
        return await self._rest.complete(request)

    async def likelihood(self, request: Request, texts: list[str]) -> list[Likelihood]:
        """As of the other backend."""
        return await self._rest.likelihood(request, texts)

    async def close(self) -> None:
        """As of the other backend."""
        await self._rest.close()
