"""What a model sees before a question: the contexts, and how they are kept within a model's length."""

from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

from pmem.backends.base import Message, Prefix
from pmem.errors import ModelError, RecordError
from pmem.evaluation.past import Past, language_of
from pmem.evaluation.photos import Photos
from pmem.prompts import Prompts
from pmem.prompts.replies import user
from pmem.stream.lookup import Lookup
from pmem.tokens import DEFAULT, count_messages

OF_HISTORY = ("full", "memory", "rag")
"""Contexts that show something of a history, and not just of one conversation."""
KEPT = 16
"""Histories at hand, with what has been made of them: 10 MB each at 128k tokens."""
STEP = 512
"""Room for a question's own tokens is set aside in steps, so that all questions on a history cut it alike."""
REPLY = 512
"""Tokens set aside for a reply whose model names no limit."""


class View(NamedTuple):
    """What is shown of histories. top_k: past turns in `rag`; with_system: the message that an imported history began
    with comes first; context_length: tokens of prompt and reply together, as `tokenizer` counts them (None: not
    looked at); truncate: which part of a full history gives way to that ("oldest", "middle"; None: the question
    fails); photos: how images are shown, in snippets too."""

    top_k: int = 10
    with_system: bool = False
    context_length: int | None = None
    truncate: str | None = None
    tokenizer: str = DEFAULT
    photos: Photos = Photos()


class Recorded(Protocol):
    """Where memories are found by their history."""

    async def record(self, key: str, /) -> dict[str, Any]: ...


class Scene(NamedTuple):
    """A question as it is sent: `messages` after those of `prefix`. shared: as in Request; facts: what a result says of
    it, beside the ids."""

    messages: list[Message]
    prefix: Prefix | None = None
    history_id: str | None = None
    language: str | None = None
    facts: dict[str, Any] = {}  # noqa: RUF012 - never written to
    prompts: tuple[str, ...] = ()
    with_system: bool = False
    shared: str | None = None


class Scenes:
    """Sets the scene for questions. histories, memories: where those that they name are found (None: nowhere)."""

    def __init__(
        self,
        view: View,
        prompts: Prompts,
        *,
        histories: Lookup | None,
        memories: Recorded | None,
        reply: int | None,
    ) -> None:
        """reply: the most tokens that a reply may have, if a limit is set."""
        self.view = view
        self._prompts, self.histories, self._memories = prompts, histories, memories
        self._reply = reply or REPLY
        self._pasts: dict[str, Past] = {}  # the latest last
        self._languages: dict[str, str | None] = {}  # of histories that aren't shown

    def over(self, memories: Recorded) -> "Scenes":
        """The same scenes over other memories, and over no histories."""
        return Scenes(self.view, self._prompts, histories=None, memories=memories, reply=self._reply)

    async def scene(self, qa: dict[str, Any], context: str, window: str | None, asked: str) -> Scene:
        """The question `asked` in a context. RecordError: a file lacks what it needs; ModelError: it is too long."""
        if context not in OF_HISTORY:
            before = self.view.photos.shown(qa["snippet"]) if context == "snippet" else []
            return self._within(Scene([*before, *user(asked)], language=await self._language(qa)))
        own_id = qa["histories"][window]["id"]
        past = await self._past(own_id) if self.histories else None
        if context == "full":
            assert past
            return self._full(past, asked)
        if context == "memory":
            assert self._memories
            memory = await self._memories.record(own_id)
            text = self._prompts.render("eval/memory", memory=memory["text"] or "(nothing yet)", asked=asked)
            return self._apart(text, own_id, past, "eval/memory", memory["id"], {"memory_id": memory["id"]})
        assert past
        passages = "\n\n".join(past.index.best(qa["query"], self.view.top_k))
        text = self._prompts.render("eval/rag", passages=passages, asked=asked)
        return self._apart(text, own_id, past, "eval/rag", qa["id"], {})

    async def _language(self, qa: dict[str, Any]) -> str | None:
        """The language of a question whose histories aren't shown; None where no file tells."""
        for own_id in [one["id"] for one in qa["histories"].values()]:
            if self.histories is None:
                break
            if own_id not in self._languages:
                try:
                    self._languages[own_id] = language_of(await self.histories.record(own_id))
                except RecordError:  # the file may hold another window, and nothing else is wanted of it
                    self._languages[own_id] = None
            if language := self._languages[own_id]:
                return language
        return None

    async def _past(self, own_id: str) -> Past:
        """The history, out of those at hand."""
        assert self.histories
        past = self._pasts.pop(own_id, None)
        if past is None:
            raw = await self.histories.messages(own_id)
            record = await self.histories.record(own_id)
            past = self._pasts.pop(own_id, None) or Past(raw, record, self.view.tokenizer, self.view.photos)
        self._pasts[own_id] = past
        while len(self._pasts) > KEPT:
            del self._pasts[next(iter(self._pasts))]
        return past

    def _full(self, past: Past, asked: str) -> Scene:
        view, messages = self.view, user(asked)
        with_system = view.with_system and bool(past.system())
        scene = Scene(messages, None, past.id, past.language, with_system=with_system)
        if view.context_length is None:
            return scene._replace(prefix=past.whole(with_system=with_system))
        own = self._tokens(messages)
        taken = -(-own // STEP) * STEP if view.truncate else own
        room = view.context_length - self._reply - taken
        if view.truncate is None:
            before = self._tokens(past.system()) if with_system else 0
            self._refuse_if_longer(before + sum(past.tokens) + own)
            return scene._replace(prefix=past.whole(with_system=with_system))
        shown = past.cut(room, view.truncate, with_system=with_system)
        self._refuse_if_longer(shown.tokens + own)
        prefix = shown.prefix if shown.tokens else None
        return scene._replace(prefix=prefix, facts={"truncated_tokens": shown.left_out})

    def _apart(
        self, text: str, own_id: str, past: Past | None, prompt: str, shared: str, facts: dict[str, Any]
    ) -> Scene:
        """A scene without the history itself. Its texts begin with what doesn't depend on the question or the order of
        its options, so that what is computed of that serves all of them."""
        system = past.system() if past and self.view.with_system else []
        language = past.language if past else None
        messages = [*system, *user(text)]
        return self._within(Scene(messages, None, own_id, language, facts, (prompt,), bool(system), shared))

    def _within(self, scene: Scene) -> Scene:
        if self.view.context_length is not None:
            self._refuse_if_longer(self._tokens(scene.messages))
        return scene

    def _tokens(self, messages: Iterable[Message]) -> int:
        return count_messages(messages, self.view.tokenizer)

    def _refuse_if_longer(self, prompt: int) -> None:
        """ModelError if prompt and reply have more tokens than the model takes."""
        if self.view.context_length is not None and prompt + self._reply > self.view.context_length:
            raise ModelError(
                f"the prompt has {prompt:,} tokens ({self.view.tokenizer}) and the reply may have {self._reply:,}:"
                f" together more than --context-length {self.view.context_length:,}",
                reason="limit",
            )
