"""What results are broken down by."""

from typing import Any


def labels_of(qa: dict[str, Any], window: str | None, language: str | None) -> dict[str, str]:
    """Labels of a result; the data set's own come along. window, language: of the history, if one was used."""
    labels = {"language": language} if language else {}
    labels |= qa.get("labels", {})
    preference = qa["preference"]
    if preference:
        labels |= {"kind": preference["kind"]} if preference["kind"] else {}
        labels["owner"] = preference["owner"]["who"]
    if qa["case"]:
        labels |= {"case": qa["case"], "updated": "yes" if qa["case"] == "updated" else "no"}
        labels["sensitive"] = "yes" if qa["case"] == "sensitive" else "no"
    if qa["scenario"]:
        labels["scenario"] = qa["scenario"]
    place = qa["histories"].get(window) if window else None
    if place and place["distance_tokens"] is not None:
        size = (place["relevant_tokens"] or 0) + (place["filler_tokens"] or 0)
        labels["distance_quartile"] = str(min(4, 1 + int(4 * place["distance_tokens"] / max(size, 1))))
    return dict(sorted(labels.items()))
