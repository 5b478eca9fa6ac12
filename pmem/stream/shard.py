"""One of several parts of an input, for runs that share it: whole groups, in order, so that outputs can be joined."""

import re
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import click

from pmem.stream.made import entries_of


class Shard(NamedTuple):
    """The `number`th of `of` parts, from 1."""

    number: int
    of: int

    def holds(self, place: int, total: int) -> bool:
        """Whether it holds what begins with the record at a place (from 0) among so many: parts of equal length, but
        for groups, which go where their first record goes."""
        return place * self.of // total == self.number - 1


class ShardType(click.ParamType[Shard]):
    """NUMBER/OF on the command line."""

    name = "shard"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Shard:
        if isinstance(value, Shard):
            return value
        found = re.fullmatch(r"(\d+)/(\d+)", value)
        shard = Shard(*map(int, found.groups())) if found else None
        if shard is None or not 1 <= shard.number <= shard.of:
            self.fail(f"{value!r}: expected K/N, the Kth of N parts, such as 1/8.", param, ctx)
        return shard


async def of_shard(batches: AsyncIterator[list[Any]], shard: Shard, total: int) -> AsyncIterator[tuple[list[Any], int]]:
    """Of batches of items (entries, or groups of them), a shard's items, and how many entries the others hold."""
    place = 0
    async for batch in batches:
        kept = []
        left_out = 0
        for item in batch:
            size = len(entries_of(item))
            if shard.holds(place, total):
                kept.append(item)
            else:
                left_out += size
            place += size
        yield kept, left_out
