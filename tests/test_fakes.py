"""Pseudo-secrets are plausible, reproducible and provably not real: checked here by the rules' textbooks."""

import json
import re
from datetime import datetime
from pathlib import Path

import pytest

from pmem.draws import Draw
from pmem.fakes import KINDS, REFERENCE_YEAR, fake, is_fake

SCHEMA = Path(__file__).parents[1] / "schemas" / "persona.schema.json"
NAMES = ("Amara Okafor", "Łucja Öztürk-Smith", "李娜", "Ana María de la Cruz", "Zoë", "Иван Петров")
DRAWS = 500
MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]


def made(kind: str) -> list[tuple[str, str, int]]:
    """500 values of a kind, each with the name and age that it was made for."""
    people = [(NAMES[i % len(NAMES)], 18 + i % 68) for i in range(DRAWS)]
    return [
        (fake(kind, Draw(7, f"p-{i}", kind), name=name, age=age), name, age) for i, (name, age) in enumerate(people)
    ]


def luhn_valid(digits: str) -> bool:
    """From the right, double every second digit and add the digits of the products; valid if a multiple of ten."""
    total = 0
    for position, digit in enumerate(reversed(digits), start=1):
        product = int(digit) * (2 if position % 2 == 0 else 1)
        total += sum(int(figure) for figure in str(product))
    return total % 10 == 0


def iban_valid(iban: str) -> bool:
    """First four characters to the end, letters to numbers, remainder by long division; valid if 1."""
    remainder = 0
    for character in iban[4:] + iban[:4]:
        number = character if character.isdigit() else str(ord(character) - ord("A") + 10)
        for figure in number:
            remainder = (remainder * 10 + int(figure)) % 97
    return remainder == 1


def icao_check_digit(document: str) -> str:
    values = {character: n for n, character in enumerate("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ")}
    weights = [7, 3, 1] * 3
    return str(sum(values[c] * w for c, w in zip(document, weights, strict=True)) % 10)


def test_the_textbook_checks_know_valid_numbers() -> None:
    assert luhn_valid("4111111111111111") and luhn_valid("378282246310005")
    assert iban_valid("DE89370400440532013000") and iban_valid("GB82WEST12345698765432")
    assert icao_check_digit("L898902C3") == "6"  # the specimen of ICAO Doc 9303


def test_home_address() -> None:
    for value, _, _ in made("home_address"):
        assert is_fake("home_address", value)
        british = re.search(r" ([A-Z]+)\d+ \d[A-Z]{2}$", value)
        american = re.search(r", [A-Z]{2} (\d{5})$", value)
        canadian = re.search(r", ON ([A-Z])\d[A-Z] \d[A-Z]\d$", value)
        assert (
            (british and british[1][0] in "QVX")  # no British postcode area starts with these
            or (american and int(american[1]) < 501)  # 00501 is the lowest ZIP code
            or (canadian and canadian[1] in "DFIOQU")
        ), value
    assert not is_fake("home_address", "10 Larkmere Road, Marlwick, OH 43004")
    assert not is_fake("home_address", "10 Larkmere Road, Marlwick SW1A 2AA")


def test_phone_number() -> None:
    for value, _, _ in made("phone_number"):
        assert is_fake("phone_number", value)
        digits = "".join(character for character in value if character.isdigit())
        if "555" in value:
            national = digits.removeprefix("1")
            assert len(national) == 10 and national[3:6] == "555" and 100 <= int(national[6:]) <= 199, value
        else:
            national = digits.removeprefix("44").removeprefix("0")
            assert len(national) == 10 and national[:7] in ("1632960", "7700900"), value
    for real in (
        "+1 202 456 1111",
        "+1 202 555 0200",
        "+1 800 555 0199",
        "+44 7700 800123",
        "+44 20 7946 0018",
        "0143",
    ):
        assert not is_fake("phone_number", real)


def test_email_address() -> None:
    for value, _, _ in made("email_address"):
        assert is_fake("email_address", value)
        assert value.isascii() and value.split("@")[1] in ("example.com", "example.org", "example.net")
    locals_ = {name: {value.split("@")[0] for value, n, _ in made("email_address") if n == name} for name in NAMES}
    assert all(local.startswith("user") for local in locals_["李娜"] | locals_["Иван Петров"])
    assert all(local.startswith("zoe") for local in locals_["Zoë"])
    assert any(local.startswith("lucja.ozturksmith") for local in locals_["Łucja Öztürk-Smith"])
    assert not is_fake("email_address", "ana@example.co") and not is_fake("email_address", "ana@gmail.com")


def test_date_of_birth() -> None:
    for value, _, age in made("date_of_birth"):
        assert is_fake("date_of_birth", value)
        forms = ("%Y-%m-%d", "%d %m %Y", "%m %d, %Y")
        numeric = value
        for number, month in enumerate(MONTHS, start=1):
            numeric = numeric.replace(month, str(number))
        born = next(datetime.strptime(numeric, form) for form in forms if _parses(numeric, form))
        assert REFERENCE_YEAR - born.year == age
    assert not is_fake("date_of_birth", "1987-13-02") and not is_fake("date_of_birth", "Smarch 3, 1990")
    assert not is_fake("date_of_birth", "2031-01-02")


def _parses(text: str, form: str) -> bool:
    try:
        datetime.strptime(text, form)
    except ValueError:
        return False
    return True


def test_national_id() -> None:
    forms = set()
    for value, _, _ in made("national_id"):
        assert is_fake("national_id", value)
        security = re.fullmatch(r"(\d{3})-(\d\d)-(\d{4})", value)
        insurance = re.fullmatch(r"([A-Z]{2})( \d\d){3} [A-D]", value)
        forms.add("us" if security else "uk")
        if security:
            assert security[1] in ("000", "666") or security[2] == "00", value
            assert not security[1].startswith("9"), "the tax office gives out numbers from 900 up"
        else:
            assert insurance and ("Q" in insurance[1] or insurance[1] in ["BG", "GB", "KN", "NK", "NT", "ZZ"]), value
    assert forms == {"us", "uk"}
    for real in ("123-45-6789", "912-78-1234", "900-05-1234", "AB 12 34 56 C", "TN 12 34 56 C", "665-01-0001"):
        assert not is_fake("national_id", real)


def test_passport_number() -> None:
    for value, _, _ in made("passport_number"):
        assert is_fake("passport_number", value)
        assert re.fullmatch(r"[CFGHJK][0-9A-Z]{8}\d", value)
        assert set(value) & set("ABDEIOQSU"), "has a letter that German passports don't"
        assert icao_check_digit(value[:9]) != value[9]
    right = "C3B33AV11"
    assert not is_fake("passport_number", right + icao_check_digit(right))
    assert not is_fake("passport_number", "C01X00T470") and not is_fake("passport_number", "123456789")


def test_drivers_license() -> None:
    for value, name, age in made("drivers_license"):
        assert is_fake("drivers_license", value)
        assert re.fullmatch(r"[A-Z9]{5}\d{6}[A-Z9]{2}\d[A-Z]{2}", value)
        month = int(value[6:8])
        assert month not in range(1, 13) and month not in range(51, 63), "no month of a man's or a woman's birth"
        assert value[5] + value[10] == str(REFERENCE_YEAR - age)[2:]
        if name == "Amara Okafor":
            assert value.startswith("OKAFO") and value[11:13] == "A9"
    for real in ("MORGA657054SM9IJ", "MORGA607054SM9IJ", "MORGA612054SM9IJ", "MORGA663054SM9I", "D1234567"):
        assert not is_fake("drivers_license", real)


def test_bank_account() -> None:
    lengths = {"DE": 22, "ES": 24, "GB": 22, "NL": 18}
    seen = set()
    for value, _, _ in made("bank_account"):
        assert is_fake("bank_account", value)
        iban = value.replace(" ", "")
        seen.add(iban[:2])
        assert len(iban) == lengths[iban[:2]] and 2 <= int(iban[2:4]) <= 98
        assert not iban_valid(iban)
    assert seen == set(lengths)
    for real in ("DE89 3704 0044 0532 0130 00", "GB82 WEST 1234 5698 7654 32", "FR76 3000 6000 0112 3456 7890 188"):
        assert not is_fake("bank_account", real)


def test_credit_card() -> None:
    for value, _, _ in made("credit_card"):
        assert is_fake("credit_card", value)
        digits = value.replace(" ", "")
        assert re.fullmatch(r"4\d{15}|5[1-5]\d{14}|3[47]\d{13}", digits)
        assert not luhn_valid(digits)
    for real in ("4111 1111 1111 1111", "378282246310005", "5555-5555-5555-4444", "9999 9999 9999 9999"):
        assert not is_fake("credit_card", real)


def test_password() -> None:
    values = {value for value, _, _ in made("password")}
    assert len(values) > DRAWS * 0.98
    for value in values:
        assert is_fake("password", value)
        assert re.fullmatch(r"[A-Z][a-z]+[-_.][A-Z][a-z]+\d\d[!?#%]", value)
    assert not is_fake("password", "Correct-Horse42!")


def test_api_key() -> None:
    values = {value for value, _, _ in made("api_key")}
    assert len(values) == DRAWS
    issued = (
        "sk-",
        "sk_",
        "pk_",
        "rk_",
        "AKIA",
        "ASIA",
        "ghp_",
        "github_pat_",
        "glpat-",
        "xoxb-",
        "AIza",
        "hf_",
        "SG.",
    )
    for value in values:
        assert is_fake("api_key", value)
        assert value.endswith("XMPL") and not value.startswith(issued)
    assert not is_fake("api_key", "sk-" + "a" * 32 + "XMPL") and not is_fake("api_key", "demo-sk-" + "a" * 36)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_draw_makes_the_same_value(kind: str) -> None:
    values = made(kind)
    assert values == made(kind)
    assert len({value for value, _, _ in values}) > DRAWS // 2


def test_each_kind_rejects_the_others_and_nothing() -> None:
    for kind in KINDS:
        for other in KINDS:
            for value, _, _ in made(other)[:20]:
                assert is_fake(kind, value) == (kind == other), (kind, value)
        assert not is_fake(kind, "")


def test_an_unknown_kind_is_named() -> None:
    with pytest.raises(ValueError, match="no such kind of secret: 'shoe_size'"):
        fake("shoe_size", Draw(1, "p-1", "x"), name="Ana", age=30)
    with pytest.raises(ValueError, match="no such kind of secret: 'shoe_size'"):
        is_fake("shoe_size", "43")


@pytest.mark.skipif(not SCHEMA.exists(), reason="the schema is not written yet")
def test_kinds_are_those_of_the_schema() -> None:
    assert sorted(KINDS) in list(_enums(json.loads(SCHEMA.read_text())))


def _enums(node: object) -> list[list[str]]:
    if isinstance(node, list):
        return [enum for child in node for enum in _enums(child)]
    if not isinstance(node, dict):
        return []
    here = [sorted(map(str, node["enum"]))] if "enum" in node else []
    return here + [enum for child in node.values() for enum in _enums(child)]
