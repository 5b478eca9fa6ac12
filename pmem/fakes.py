"""Pseudo-secrets: values that look like somebody's private data and are nobody's.

Each kind has a function that makes a value and one that checks the rule which keeps the value from being real; the
rule, and how far it reaches, stands in the maker's docstring (a date of birth can have none). `is_fake` fails closed:
a value that it can't show to obey its kind's rule is not fake.
"""

import re
import unicodedata
from collections.abc import Callable
from itertools import pairwise

from .draws import Draw

REFERENCE_YEAR = 2025  # the year in which a persona is `age` years old; fixed, so that values don't depend on today

# Area codes in general use; 555-01XX is set aside in each of them (not so in toll-free codes, which are left out).
_AREA_CODES = ("202", "206", "212", "303", "312", "404", "415", "503", "512", "602", "615", "617", "702", "713")
_STREETS = ("Quillmarsh", "Thornquill", "Elderquist", "Wickenloe", "Farrowmint", "Oxtable", "Larkmere", "Bramblewick")
_STREET_KINDS = ("Lane", "Road", "Street", "Avenue", "Close", "Terrace")
_TOWN_STARTS = ("Harrow", "Dunwick", "Marl", "Ossel", "Fenni", "Brock", "Yarrow", "Tillen", "Quern", "Ashel")
_TOWN_ENDS = ("fenton", "bury", "stowe", "mere", "holme", "combe", "wick", "thorpe")
_STATES = ("OH", "PA", "OR", "NC", "MI", "WI", "VT", "KS")
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_PASSWORD_WORDS = (
    *("Zorbimel", "Quastelo", "Fimbrok", "Tarluvo", "Wexolin", "Plumvark", "Drisato", "Kelobrin"),
    *("Mopaluf", "Snarvel", "Yubrosk", "Glendovu", "Ravistol", "Hoblequa", "Cintarro", "Vuskamel"),
)
_KEY_PREFIXES = ("demo-sk-", "xx_test_", "qz_live_", "smpl_pat_")
_KEY_MARK = "XMPL"
_DIGITS = "0123456789"
_LETTERS = "ABCDEFGHJKLMNPRSTVWXYZ"
_ALPHANUMERIC = _DIGITS + "ABCDEFGHIJKLMNOPQRSTUVWXYZ" + "abcdefghijklmnopqrstuvwxyz"
# The letters that stand on German passports, and those that don't (vowels, and what is mistaken for a digit).
_PASSPORT_LETTERS, _NO_PASSPORT_LETTERS = "CFGHJKLMNPRTVWXYZ", "ABDEIOQSU"
# Letters that ASCII folding by Unicode decomposition would lose.
_FOLDED = str.maketrans({"ł": "l", "ø": "o", "đ": "d", "ð": "d", "ß": "ss", "æ": "ae", "œ": "oe", "ı": "i", "þ": "th"})


def fake(kind: str, draw: Draw, *, name: str, age: int) -> str:
    """A made-up value of one of the KINDS for a persona of this name (any script) and age (years)."""
    if kind not in _RULES:
        raise ValueError(f"no such kind of secret: {kind!r} (one of {', '.join(KINDS)})")
    return _RULES[kind][0](draw, name, age)


def is_fake(kind: str, value: str) -> bool:
    """Whether a value has the form of this kind and obeys the rule that keeps it from being a real one."""
    if kind not in _RULES:
        raise ValueError(f"no such kind of secret: {kind!r} (one of {', '.join(KINDS)})")
    return _RULES[kind][1](value.strip())


def _home_address(draw: Draw, name: str, age: int) -> str:
    """Invented street and town, with a postcode of a range that was never allocated.

    UK: the postcode area QX doesn't exist (no area starts with Q, V or X). US: ZIP codes start at 00501, so 000XX
    is free. Canada: D, F, I, O, Q and U are not used in postal codes. That the names are invented can't be proven.
    """
    street = f"{draw.between(3, 248)} {draw.pick(_STREETS)} {draw.pick(_STREET_KINDS)}"
    town = draw.pick(_TOWN_STARTS) + draw.pick(_TOWN_ENDS)
    country = draw.pick(("uk", "us", "ca"))
    if country == "uk":
        return f"{street}, {town} QX{draw.between(1, 29)} {draw.between(1, 9)}{_text(draw, 'ABDEFGHJLN', 2)}"
    if country == "us":
        return f"{street}, {town}, {draw.pick(_STATES)} 000{_text(draw, _DIGITS, 2)}"
    first, last = f"Q{draw.below(10)}{draw.pick(_LETTERS)}", f"{draw.below(10)}{draw.pick(_LETTERS)}{draw.below(10)}"
    return f"{street}, {town}, ON {first} {last}"


def _is_home_address(value: str) -> bool:
    code = r"( QX\d{1,2} \d[A-Z]{2}|, [A-Z]{2} 000\d\d|, [A-Z]{2} Q\d[A-Z] \d[A-Z]\d)"
    town = f"({'|'.join(_TOWN_STARTS)})({'|'.join(_TOWN_ENDS)})"
    street = rf"\d+ ({'|'.join(_STREETS)}) ({'|'.join(_STREET_KINDS)})"
    return bool(re.fullmatch(rf"{street}, {town}{code}", value))


def _phone_number(draw: Draw, name: str, age: int) -> str:
    """A number that no line has: set aside for fiction by those who assign numbers.

    North America: 555-0100 to 555-0199 of a geographic area code (NANPA). UK: 01632 960000 to 960999 and 07700
    900000 to 900999 (Ofcom, numbers for drama use).
    """
    form = draw.pick(("+1 {} 555 01{}", "({}) 555-01{}", "+44 {} {}", "0{} {}"))
    if "555" in form:
        return form.format(draw.pick(_AREA_CODES), _text(draw, _DIGITS, 2))
    prefix, block = draw.pick((("1632", "960"), ("7700", "900")))
    return form.format(prefix, block + _text(draw, _DIGITS, 3))


def _is_phone_number(value: str) -> bool:
    if not re.fullmatch(r"\+?[\d ().-]+", value):
        return False
    number = re.sub(r"[^\d+]", "", value)
    american = rf"(\+?1)?({'|'.join(_AREA_CODES)})55501\d\d"
    return bool(re.fullmatch(rf"{american}|(\+44|0)(1632960|7700900)\d\d\d", number))


def _email_address(draw: Draw, name: str, age: int) -> str:
    """An address at example.com, example.net or example.org, which RFC 2606 keeps from being anybody's."""
    words = [word for word in map(_ascii, name.split()) if word] or ["user"]
    first, last = words[0], words[-1]
    forms = [f"{first}.{last}", f"{first[0]}{last}", f"{last}_{first}"] if len(words) > 1 else [first]
    number = draw.pick(("", str(draw.between(2, 99)), str(REFERENCE_YEAR - age)))
    return f"{draw.pick(forms)}{number}@{draw.pick(('example.com', 'example.net', 'example.org'))}"


def _is_email_address(value: str) -> bool:
    return bool(re.fullmatch(r"[A-Za-z0-9._+-]+@example\.(com|net|org)", value))


def _date_of_birth(draw: Draw, name: str, age: int) -> str:
    """A day of the year in which somebody who turns `age` in REFERENCE_YEAR was born.

    No date is provably unreal: people are born every day. It is nobody's because the persona is invented, and that is
    all that can be said; `is_fake` checks the form only.
    """
    year, month, day = REFERENCE_YEAR - age, draw.between(1, 12), draw.between(1, 28)
    written = _MONTHS[month - 1]
    return draw.pick((f"{year}-{month:02}-{day:02}", f"{day} {written} {year}", f"{written} {day}, {year}"))


def _is_date_of_birth(value: str) -> bool:
    month, day = rf"({'|'.join(_MONTHS)})", r"(0?[1-9]|[12]\d|3[01])"
    forms = (r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])", rf"{day} {month} \d{{4}}", rf"{month} {day}, \d{{4}}")
    year = re.search(r"\d{4}", value)
    return bool(year and re.fullmatch("|".join(forms), value) and 1900 <= int(year[0]) <= REFERENCE_YEAR)


def _national_id(draw: Draw, name: str, age: int) -> str:
    """A US social security number or a UK national insurance number that is never issued.

    US (SSA): no area 000 or 666, no group 00. Areas from 900 up are no social security numbers either, but some serve
    as taxpayer numbers (IRS), so they are left alone. UK (HMRC manual NIM39110): no prefix has a Q, nor is BG, GB, KN,
    NK, NT or ZZ. (Nor TN, which once marked temporary numbers.)
    """
    if draw.chance(0.3):
        prefix = draw.pick(("QQ", "BG", "GB", "KN", "NK", "NT", "ZZ"))
        return f"{prefix} {' '.join(_text(draw, _DIGITS, 2) for _ in range(3))} {draw.pick('ABCD')}"
    group, serial = draw.between(1, 99), draw.between(1, 9999)
    form = draw.pick(("000-{:02}", "666-{:02}", f"{draw.between(1, 665):03}-00"))
    return f"{form.format(group)}-{serial:04}"


def _is_national_id(value: str) -> bool:
    insurance = r"(Q[A-Z]|[A-Z]Q|BG|GB|KN|NK|NT|ZZ)\d{6}[A-D]"
    security = r"(000|666)-?\d\d-?\d{4}|[0-8]\d\d-?00-?\d{4}"
    return bool(re.fullmatch(insurance, value.replace(" ", "")) or re.fullmatch(security, value))


def _passport_number(draw: Draw, name: str, age: int) -> str:
    """Nine characters and their check digit, in the form of a German passport, wrong twice.

    German numbers start with C, F, G, H, J or K and never have one of the letters ABDEIOQSU; this one has. And the
    check digit of ICAO Doc 9303 (weights 7, 3, 1) is wrong, so that no reader of any country takes it. There is no
    register of all countries' number forms: for issuers without that check digit the rule proves nothing.
    """
    start = draw.pick("CFGHJK") + draw.pick(_DIGITS)
    rest = [draw.pick(_NO_PASSPORT_LETTERS), draw.pick(_PASSPORT_LETTERS), *_text(draw, _DIGITS, 5)]
    number = start + "".join(draw.shuffled(rest))
    return f"{number}{(_icao_digit(number) + draw.between(1, 9)) % 10}"


def _is_passport_number(value: str) -> bool:
    if not re.fullmatch(r"[CFGHJK]\d[A-Z\d]{7}\d", value):
        return False
    return any(letter in _NO_PASSPORT_LETTERS for letter in value) and _icao_digit(value[:9]) != int(value[9])


def _icao_digit(text: str) -> int:
    """Check digit of ICAO Doc 9303, part 3, section 4.9: A is 10 ... Z is 35, weights 7, 3, 1, modulo 10."""
    return sum(int(character, 36) * (7, 3, 1)[i % 3] for i, character in enumerate(text)) % 10


def _drivers_license(draw: Draw, name: str, age: int) -> str:
    """A British licence number with an impossible month of birth.

    The number is built as the DVLA does: five letters of the surname, decade digit, month (01-12, women 51-62), day,
    year digit, two initials, three more characters. The month here is 13-49 or 63-99.
    """
    words = [word.upper() for word in map(_ascii, name.split()) if word] or ["USER"]
    year = f"{REFERENCE_YEAR - age}"
    month = draw.pick((draw.between(13, 49), draw.between(63, 99)))
    initials = (words[0][0] if len(words) > 1 else "") + (words[1][0] if len(words) > 2 else "")
    born = f"{year[2]}{month}{draw.between(1, 28):02}{year[3]}"
    return f"{words[-1][:5]:9<5}{born}{initials:9<2}9{_text(draw, _LETTERS, 2)}"


def _is_drivers_license(value: str) -> bool:
    form = r"[A-Z9]{5}\d{6}[A-Z9]{2}[A-Z\d]{3}"
    return bool(re.fullmatch(form, value)) and not 1 <= int(value[6:8]) % 50 <= 12


def _bank_account(draw: Draw, name: str, age: int) -> str:
    """An IBAN (Germany, Spain, UK, Netherlands) whose check digits are wrong: modulo 97 it is not 1 (ISO 13616).

    No bank takes it as it stands; that the account number inside is nobody's is not proven.
    """
    country, bank, digits = draw.pick((("DE", 0, 18), ("ES", 0, 20), ("GB", 4, 14), ("NL", 4, 10)))
    account = _text(draw, _LETTERS, bank) + _text(draw, _DIGITS, digits)
    right = 98 - _modulo_97(f"{country}00{account}")
    wrong = (right - 2 + draw.between(1, 96)) % 97 + 2  # check digits run from 02 to 98
    iban = f"{country}{wrong:02}{account}"
    return " ".join(iban[i : i + 4] for i in range(0, len(iban), 4))


def _is_bank_account(value: str) -> bool:
    iban = value.replace(" ", "")
    forms = r"DE\d{20}|ES\d{22}|GB\d\d[A-Z]{4}\d{14}|NL\d\d[A-Z]{4}\d{10}"
    return bool(re.fullmatch(forms, iban)) and _modulo_97(iban) != 1


def _modulo_97(iban: str) -> int:
    """Remainder of an IBAN as a number, country and check digits moved to its end, A as 10 ... Z as 35."""
    return int("".join(str(int(character, 36)) for character in iban[4:] + iban[:4])) % 97


def _credit_card(draw: Draw, name: str, age: int) -> str:
    """A number with the prefix and length of Visa, Mastercard or American Express and a wrong check digit (Luhn)."""
    prefix, length = draw.pick((("4", 16), (f"5{draw.between(1, 5)}", 16), (draw.pick(("34", "37")), 15)))
    body = prefix + _text(draw, _DIGITS, length - 1 - len(prefix))
    wrong = (-_luhn_sum(body + "0") + draw.between(1, 9)) % 10
    number = f"{body}{wrong}"
    cuts = (0, 4, 10, 15) if length == 15 else (0, 4, 8, 12, 16)
    return " ".join(number[a:b] for a, b in pairwise(cuts))


def _is_credit_card(value: str) -> bool:
    number = re.sub(r"[ -]", "", value)
    return bool(re.fullmatch(r"4\d{15}|5[1-5]\d{14}|3[47]\d{13}", number)) and _luhn_sum(number) % 10 != 0


def _luhn_sum(number: str) -> int:
    """Sum of the digits, every second one from the right doubled and cast out of nines (ISO/IEC 7812-1)."""
    digits = [int(digit) for digit in reversed(number)]
    return sum(digits[0::2]) + sum(2 * digit - 9 * (digit > 4) for digit in digits[1::2])


def _password(draw: Draw, name: str, age: int) -> str:
    """Two words of a fixed list of invented ones, a number and a sign: it opens nothing, having been set nowhere."""
    first, second = draw.sample(_PASSWORD_WORDS, 2)
    return f"{first}{draw.pick('-_.')}{second}{draw.between(10, 99)}{draw.pick('!?#%')}"


def _is_password(value: str) -> bool:
    word = f"({'|'.join(_PASSWORD_WORDS)})"
    return bool(re.fullmatch(rf"{word}[-_.]{word}\d\d[!?#%]", value))


def _api_key(draw: Draw, name: str, age: int) -> str:
    """A random key with a prefix made up for pmem, which no provider is known to issue, ending in the mark XMPL."""
    return f"{draw.pick(_KEY_PREFIXES)}{_text(draw, _ALPHANUMERIC, draw.pick((28, 36)))}{_KEY_MARK}"


def _is_api_key(value: str) -> bool:
    return bool(re.fullmatch(rf"({'|'.join(_KEY_PREFIXES)})[A-Za-z\d]{{20,}}{_KEY_MARK}", value))


def _text(draw: Draw, alphabet: str, length: int) -> str:
    return "".join(draw.pick(alphabet) for _ in range(length))


def _ascii(name: str) -> str:
    """A name's a-z letters, accents dropped; empty for other scripts."""
    plain = unicodedata.normalize("NFKD", name.lower().translate(_FOLDED))
    return re.sub(r"[^a-z]", "", plain)


_RULES: dict[str, tuple[Callable[[Draw, str, int], str], Callable[[str], bool]]] = {
    "home_address": (_home_address, _is_home_address),
    "phone_number": (_phone_number, _is_phone_number),
    "email_address": (_email_address, _is_email_address),
    "date_of_birth": (_date_of_birth, _is_date_of_birth),
    "national_id": (_national_id, _is_national_id),
    "passport_number": (_passport_number, _is_passport_number),
    "drivers_license": (_drivers_license, _is_drivers_license),
    "bank_account": (_bank_account, _is_bank_account),
    "credit_card": (_credit_card, _is_credit_card),
    "password": (_password, _is_password),
    "api_key": (_api_key, _is_api_key),
}
KINDS = tuple(_RULES)
