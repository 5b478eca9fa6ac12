"""Dialogues put together from drawn phrases."""

from typing import Any

from pmem.draws import Draw
from pmem.lists import load

THANKS = 0.3
"""Share of dialogues that end with thanks."""


class Words:
    """Phrases by what they say, of which each use draws one."""

    def __init__(self, phrases: dict[str, Any], draw: Draw) -> None:
        self.phrases, self.draw = phrases, draw

    def say(self, what: str, facts: dict[str, Any]) -> str:
        """One way of saying it, with the facts filled in."""
        phrase: str = self.draw.pick(self.phrases[what])
        return phrase.format_map(facts)


class Dialogue:
    """The messages so far, and the words for more."""

    def __init__(self, words: Words) -> None:
        self.words = words
        self.messages: list[dict[str, Any]] = []

    def turn(self, user: str, assistant: str) -> None:
        """One more turn."""
        self.messages += [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]

    def exchange(self, what: str, facts: dict[str, Any]) -> None:
        """A follow-up question and its reply."""
        both = Words(self.words.phrases[what], self.words.draw)
        self.turn(both.say("ask", facts), both.say("reply", facts))

    def maybe_thanks(self, draw: Draw) -> None:
        """Some dialogues end with thanks."""
        if draw.chance(THANKS):
            self.words = Words(load("filler"), draw)
            self.exchange("thanks", {})
