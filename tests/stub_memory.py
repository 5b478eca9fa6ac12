"""A reply hook for the stub server (`--reply`): writes a memory as a model would that knows what to look for.

It reads what `pmem memdump` sends, and nothing else: the memory as it is, the messages with their numbers and who says
them. So what a test finds in the memory went all the way.
"""

import re
from typing import Any

from tests.stub.replies import text_of

SEEN = (
    ("coeliac", "About", "Is coeliac: no wheat, rye or barley"),
    ("grams", "How they like to be answered", "Wants recipes in grams"),
    ("Wohnung in Leipzig", "About", "Lives in a flat in Leipzig"),
    ("ich duze", "How they like to be answered", "Writes informally, also to the property managers"),
    ("my-beagle-pippa", "People", "Has a beagle called Pippa"),
    ("my chemistry class", "Work and study", "Teaches chemistry, among others class 10b"),
    ("half marathon", "Tastes and habits", "Trains for a half marathon"),
    ("taken up swimming", "Tastes and habits", "Swims, since a bad knee put an end to running"),
    ("sleep badly", "Health and wellbeing", "Sleeps badly since the divorce"),
    ("Please forget about the divorce", "Not to be remembered", "divorce / separation"),
    ("red from green", "Health and wellbeing", "Can't tell red from green"),
)
"""What a message of the user's may say: where that belongs, and how it reads."""
OVER = {"Swims, since a bad knee put an end to running": "Trains for a half marathon"}
"""What takes the place of what."""
MESSAGE = re.compile(r"^\[(\d+)\] (User|Assistant)(?: \(goes on\))?: ", re.MULTILINE)
ENTRY = re.compile(r"^## (.*)$|^- (.*)$", re.MULTILINE)


def reply(body: dict[str, Any]) -> str | None:
    """The memory; None for any other request, which leaves it to the stub."""
    prompt = text_of(body["messages"][-1])
    if "<chats>" not in prompt:
        return None
    before, chats = prompt.rpartition("<memory>")[2].split("<chats>")
    sections: dict[str, dict[str, str]] = {}
    section = ""
    for heading, entry in ENTRY.findall(before):
        section = heading or section
        if entry:
            sections.setdefault(section, {})[entry] = ""
    pieces = MESSAGE.split(chats)
    for number, speaker, said in zip(pieces[1::3], pieces[2::3], pieces[3::3], strict=True):
        for cue, where, statement in SEEN:
            if speaker == "User" and cue in said:
                sections.setdefault(where, {})[statement] = f" [{number}]"
                for entries in sections.values():
                    entries.pop(OVER.get(statement, ""), None)
    blocks = [[f"## {name}", *(f"- {entry}{at}" for entry, at in found.items())] for name, found in sections.items()]
    return "\n".join(line for block in blocks for line in block)
