"""HTML pages in one file, with nothing from elsewhere, in which no text of a record can run."""

import base64
import hashlib
import re
from pathlib import Path
from typing import Any

import orjson

HEAD = Path(__file__).with_name("head.html")
BASE = Path(__file__).with_name("base.css")
FIELD = re.compile(r"\{\{(\w+)\}\}")


def standalone(folder: Path, data: Any, *, base: bool = False, **fields: str) -> str:
    """The folder's page.html, behind the head that all pages have, filled in. Its page.css and page.js are the only
    style and script that may run.

    data: for the script, as JSON; base: whether base.css, which pages to look through share, comes before its style;
    fields: HTML, in which texts have been escaped; `heading` is the page's title, too.
    """
    html, style, script = ((folder / f"page.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js"))
    style = BASE.read_text(encoding="utf-8") + style if base else style
    policy = f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; base-uri 'none'"
    filled = {**fields, "policy": policy, "style": style, "script": script, "data": _embedded(data)}
    page = HEAD.read_text(encoding="utf-8") + html
    return FIELD.sub(lambda match: filled[match[1]], page)  # in one pass: what a field holds is never looked at again


def _hash(text: str) -> str:
    """What a content security policy calls a script or style by."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _embedded(data: Any) -> str:
    """JSON that can stand inside a script element: whatever a text holds, no tag ends or begins in it."""
    text = orjson.dumps(data).decode()
    for mark in "<>&\u2028\u2029":
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    return text
