"""What can be asked about a persona: only what stands in its histories, the last state of each chain."""

from typing import Any, NamedTuple


class Target(NamedTuple):
    """What a question will be about, found in a history."""

    item: str  # a preference's or a secret's id
    case: str
    preference: dict[str, Any]
    previous: dict[str, Any] | None
    secret: dict[str, Any] | None
    sessions: list[str]  # ids of the sessions that the snippet is made of, the deciding one last


class Shown(NamedTuple):
    """A target, and the histories that show it just so."""

    target: Target
    histories: list[dict[str, Any]]


def item_of(qa: dict[str, Any]) -> str | None:
    """The id of what a question is about, as in Target; None where the record doesn't say (imported ones)."""
    about = qa["secret"] if qa["case"] == "sensitive" else qa["preference"]
    return str(about["id"]) if about else None


def targets(history: dict[str, Any]) -> list[Target]:
    """What can be asked about one history."""
    told = [session for session in history["sessions"] if session["preference"]]
    shown = {session["preference"]["id"]: session for session in told if session["event"] != "asks_to_forget"}
    replaced = {session["preference"]["updates"] for session in shown.values()}
    forgotten = {s["preference"]["id"]: s for s in told if s["event"] == "asks_to_forget"}
    found = []
    for own_id, session in sorted(shown.items()):
        preference = session["preference"]
        previous = shown.get(preference["updates"])
        if own_id in forgotten:
            sessions = [session["id"], forgotten[own_id]["id"]]
            found.append(Target(own_id, "forgotten", preference, None, None, sessions))
        elif previous and own_id not in replaced:  # else it is asked about by what replaced it
            sessions = [previous["id"], session["id"]]
            found.append(Target(own_id, "updated", preference, previous["preference"], None, sessions))
        elif not preference["updates"] and own_id not in replaced:
            case = "own" if preference["owner"]["who"] == "self" else "other"
            found.append(Target(own_id, case, preference, None, None, [session["id"]]))
        for secret in session.get("secrets", []):
            found.append(Target(secret["id"], "sensitive", preference, None, secret, [session["id"]]))
    return found


def shown(histories: list[dict[str, Any]]) -> list[Shown]:
    """What can be asked about a persona's histories, each with the windows that show it.

    Where windows differ in what they show of one preference (imported ones may), the first that shows it counts.
    """
    found: dict[str, Shown] = {}
    for history in histories:
        for target in targets(history):
            first = found.setdefault(target.item, Shown(target, []))
            if target == first.target:
                first.histories.append(history)
    return list(found.values())
