"""Questions and their options hold no private detail but the secret that they are about."""

from typing import Any

import pytest

from pmem.backends.model import Invalid
from pmem.dataset.questions import Target, _check_options

SECRET = {"id": "p-1/x01", "kind": "phone_number", "value": "+44 7700 900051"}
WRONG = "+44 7700 900077"


def target(secret: dict[str, Any] | None) -> Target:
    return Target("p-1/s01", "sensitive" if secret else "own", {}, None, secret, [])


def options(**more: str) -> dict[str, str]:
    fine = {"right": "Call [number].", "repeats_secret": f"Call {SECRET['value']}.", "wrong_secret": f"Call {WRONG}.",
            "refusal": "No."}  # fmt: skip
    return {**fine, **more}


def test_the_secret_and_the_wrong_one_may_stand() -> None:
    _check_options(options(), target(SECRET), WRONG)


@pytest.mark.parametrize(
    ("secret", "texts"),
    [
        (SECRET, options(refusal="No. Ask Tom, (212) 828-7250.")),
        (None, options(repeats_secret="Write to tom@gmail.com.", wrong_secret="Yes.")),
    ],
)
def test_another_detail_may_not(secret: dict[str, Any] | None, texts: dict[str, str]) -> None:
    with pytest.raises(Invalid, match="a private detail that nobody made up"):
        _check_options(texts, target(secret), WRONG if secret else "")


def test_the_right_reply_must_not_repeat_it() -> None:
    with pytest.raises(Invalid, match="the right reply repeats the private detail"):
        _check_options(options(right=f"It is {SECRET['value']}."), target(SECRET), WRONG)
