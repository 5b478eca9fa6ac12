"""What each kind of private detail looks like: a search per kind, the most telling form first."""

import re
from collections.abc import Callable, Iterable, Iterator

from . import cues
from .text import Cue, Text

Span = tuple[int, int]


def _spans(matches: Iterable[re.Match[str]], group: int = 0) -> Iterator[Span]:
    return (match.span(group) for match in matches)


def _cued(
    form: re.Pattern[str], cue: Cue, text: Text, *, before: int = 45, after: int = 0, digits: int = 0
) -> Iterator[Span]:
    """Where a form with at least so many digits stands beside a word that says what it is."""
    if cue.hinted(text):
        for start, end in _spans(form.finditer(text.text)):
            if _digits(text.text[start:end]) >= digits and cue.beside(text, start, end, before=before, after=after):
                yield start, end


def _digits(value: str) -> int:
    return sum(character.isdecimal() for character in value)


# ---- keys, passwords, e-mail -------------------------------------------------------------------------------------

_PREFIXED = re.compile(
    r"(?<![\w-])(?:sk-[\w-]{20,}|(?:sk|pk|rk)_(?:live|test)_\w{16,}|gh[pousr]_\w{30,}|github_pat_\w{30,}|glpat-[\w-]{20,}"
    r"|xox[abeprs]-[\w-]{10,}|A[KS]IA[A-Z\d]{16}|AIza[\w-]{35}|ya29\.[\w-]{20,}|hf_\w{30,}|SG\.[\w-]{16,}\.[\w-]{16,}"
    r"|npm_\w{36}|pypi-\w{16,}|dop_v1_\w{40,}|eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]+)"
)
"""Keys as OpenAI, Stripe, GitHub, GitLab, Slack, Amazon, Google, Hugging Face, SendGrid, npm, PyPI, DigitalOcean and
JSON web tokens mark them, by these providers' documentation."""
_LONG = 20
"""Characters from which on a random token may be a key."""
_TOKEN = re.compile(rf"(?<![\w./-])[\w-]{{{_LONG},}}(?![\w/-]|\.\w)", re.ASCII)
_CHANGES, _RAISED = 8, 0.3
"""Changes between lower case, upper case and digits, and the share of capitals and digits, from which on a token is
random: one of 20 characters has 12 changes and a share of 0.58 on average; names in code have less of one or both."""
_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}")
_SET = re.compile(
    r"(?:passw(?:or[dt]|d)|\bpwd|passcode|contraseña|mot de passe|\bsenha|пароль|密码|パスワード|비밀번호|şifre)\)?"
    r"\s{0,2}(?:is|was|ist|es|est|[:=：])\s{0,2}[\"'`“”«]?([^\s\"'`“”«»,;(){}\[\]<>]{6,64})",
    re.IGNORECASE,
)
_MIXED = re.compile(r"(?<![^\s\"'`“(:=])(?=\S{0,40}\d)(?=\S{0,40}[A-Z])[A-Za-z][^\s\"'`“”()<>{}\[\]/=:;,@]{7,40}")


def _api_keys(text: Text) -> Iterator[Span]:
    if not any(len(word) >= _LONG for word in text.text.split()):
        return
    yield from _spans(_PREFIXED.finditer(text.text))
    for match in _TOKEN.finditer(text.text):
        token, span = match[0], match.span()
        alone = _is_random(token) and not _in_address(text.text, span[0])
        if alone or ((_is_random(token) or _is_hexadecimal(token)) and cues.KEY.beside(text, *span, before=25)):
            yield span


def _is_hexadecimal(token: str) -> bool:
    return _digits(token) >= 8 and all(character in "0123456789abcdef" for character in token)


def _is_random(token: str) -> bool:
    kinds = ["9" if c.isdigit() else "A" if c.isupper() else "a" for c in token if c.isalnum()]
    changes = sum(map(str.__ne__, kinds, kinds[1:]))
    return len({*kinds}) == 3 and changes >= _CHANGES and len(kinds) - kinds.count("a") >= _RAISED * len(kinds)


def _in_address(text: str, place: int) -> bool:
    """Whether a place is inside a web address, where random tokens are names of pages and videos."""
    return "://" in text[max(0, place - 200) : place].rpartition(" ")[2]


def _emails(text: Text) -> Iterator[Span]:
    return _spans(_EMAIL.finditer(text.text)) if "@" in text.text else iter(())


def _passwords(text: Text) -> Iterator[Span]:
    if not cues.PASSWORD.hinted(text):
        return
    for start, end in _spans(_SET.finditer(text.text), 1):
        value = text.text[start:end].rstrip(".")
        if not value.isalpha() and not value.startswith(("$", "http")):
            yield start, start + len(value)
    for match in _MIXED.finditer(text.text):
        value = match[0].rstrip(".")
        classes = sum(bool(re.search(form, value)) for form in (r"[a-z]", r"[A-Z]", r"\d", r"[^\w]|_"))
        if classes == 4 and cues.PASSWORD.beside(text, *match.span(), before=60, after=40):
            yield match.start(), match.start() + len(value)


# ---- numbers -----------------------------------------------------------------------------------------------------

# These begin with a character, and look behind it only then: that is several times as fast.
_CARD = re.compile(
    r"[2-6](?<![\w.+-]\d)(?:(?<=3)[47]\d\d([ -]?)\d{6}\1\d{5}|\d{3}([ -]?)\d{4}\2\d{4}\2\d{4}(?:\2\d{3})?)"
    r"(?![\w-]|\.\d)"
)
_IBAN = re.compile(r"[A-Z](?<!\w[A-Z])[A-Z]\d\d(?: ?[A-Z\d]){11,30}(?![a-z\d])")
_BRITISH_LICENCE = re.compile(r"[A-Z](?<!\w[A-Z])[A-Z9]{4}\d{6}[A-Z9]{2}[A-Z\d]{3}(?!\w)")
_SOCIAL_SECURITY = re.compile(r"\d(?<![\w-]\d)\d\d-\d\d-\d{4}(?![\w-])")
_INSURANCE = re.compile(r"[A-Z](?<!\w[A-Z])[A-Z]( ?)\d\d\1\d\d\1\d\d\1[A-D](?!\w)")
_CPF = re.compile(r"\d(?<!\w\d)\d\d\.\d{3}\.\d{3}-\d\d(?!\w)")
_CODICE = re.compile(r"[A-Z](?<!\w[A-Z])[A-Z]{5}\d\d[A-Z]\d\d[A-Z]\d{3}[A-Z](?!\w)")
_PHONE = re.compile(
    r"[+(\d](?<![\w.,+/=$€£-].)(?:(?<=\()(?=\d{2,5}\))|(?<=\d)|(?<=\+) ?)(?:[ .()/-]{0,3}\d){6,15}(?![\w/=%-]|[.,]\d)"
)
_AMERICAN = re.compile(r"(?:1[ .-]?)?(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}")
_BRITISH = re.compile(r"0\d{4} \d{3} ?\d{3}|0\d{3} \d{3} \d{4}|0\d\d \d{4} \d{4}")
_CODE = re.compile(r"(?<![\w.])[A-Z]{0,3}\d[A-Z\d]{0,30}(?:[ .-][A-Z]{0,3}\d[A-Z\d]{0,5}){0,6}(?!\w)")
_NUMBER = re.compile(r"\d(?<![\w.,$€£-]\d)(?:[ -]?\d){5,17}(?![\w%]|[.,]\d)")
_DATE = re.compile(
    r"(?<!\d)(?:(?:19|20)\d\d[-/.]\d\d?[-/.]\d\d?|\d\d?[-/.]\d\d?[-/.](?:19|20)\d\d|(?:19|20)\d\d年\d\d?月\d\d?日"
    r"|\d\d?(?:st|nd|rd|th|\.)?(?: of| de)? [^\W\d_]{3,12},?(?: de)? (?:19|20)\d\d"
    r"|[^\W\d_]{3,12} \d\d?(?:st|nd|rd|th)?,? (?:19|20)\d\d)(?!\d)"
)


def _cards(text: Text) -> Iterator[Span]:
    """Numbers with the check digit of ISO/IEC 7812, or in a card's groups."""
    from stdnum import luhn

    for match in _CARD.finditer(text.text) if text.numbers else ():
        if match[1] or match[2] or luhn.is_valid(match[0]):
            yield match.span()


def _ibans(text: Text) -> Iterator[Span]:
    """Account numbers with the length of their country (ISO 13616) and right check digits, or in groups of four."""
    for match in _IBAN.finditer(text.text) if text.numbers else ():
        length = _iban_length(match[0][:2])
        ends = [n for n, character in enumerate(match[0], 1) if character != " "]
        if length and len(ends) >= length:
            value = match[0][: ends[length - 1]]
            if " " in value or _iban_is_valid(value) or cues.ACCOUNT.beside(text, *match.span()):
                yield match.start(), match.start() + len(value)
    if text.numbers:
        yield from _cued(_NUMBER, cues.ACCOUNT, text, before=30, digits=6)


def _iban_length(country: str) -> int:
    """Characters of a country's IBANs; 0 where there are none."""
    from stdnum import numdb

    entry = numdb.get("iban").info(country)[0][1]
    return 4 + sum(map(int, re.findall(r"\d+", entry["bban"]))) if "bban" in entry else 0


def _iban_is_valid(value: str) -> bool:
    from stdnum import iban

    return bool(iban.is_valid(value))


def _licences(text: Text) -> Iterator[Span]:
    if text.numbers:
        yield from _spans(_BRITISH_LICENCE.finditer(text.text))
        yield from _cued(_CODE, cues.LICENCE, text, digits=5)


def _identities(text: Text) -> Iterator[Span]:
    """US, UK, Brazilian (with check digits) and Italian (with check letter) numbers; others with a word beside them."""
    if not text.numbers:
        return
    from stdnum.br import cpf
    from stdnum.it import codicefiscale

    for form, check in ((_SOCIAL_SECURITY, None), (_INSURANCE, None), (_CPF, cpf), (_CODICE, codicefiscale)):
        for match in form.finditer(text.text):
            if check is None or check.is_valid(match[0]):
                yield match.span()
    yield from _cued(_CODE, cues.IDENTITY, text, before=30, digits=7)


def _passports(text: Text) -> Iterator[Span]:
    return _cued(_CODE, cues.PASSPORT, text, after=20, digits=6) if text.numbers else iter(())


def _phones(text: Text) -> Iterator[Span]:
    if not text.numbers:
        return
    for match in _PHONE.finditer(text.text):
        value = match[0]
        if _is_phone(value) or (
            not re.fullmatch(_DATE, value) and cues.PHONE.beside(text, *match.span(), before=25) and _digits(value) > 6
        ):
            yield match.span()


def _is_phone(value: str) -> bool:
    """Whether a number is a phone's without a word that says so."""
    if value[0] == "+":
        return _is_possible(value, None)
    if _AMERICAN.fullmatch(value):
        return _is_possible(value, "US")
    return bool(_BRITISH.fullmatch(value)) and _is_possible(value, "GB")


def _is_possible(value: str, region: str | None) -> bool:
    import phonenumbers

    try:
        number = phonenumbers.parse(value, region)
    except phonenumbers.NumberParseException:
        return False
    check = phonenumbers.is_valid_number if region == "US" else phonenumbers.is_possible_number
    return bool(check(number))


def _births(text: Text) -> Iterator[Span]:
    if "19" in text.text or "20" in text.text:
        yield from _cued(_DATE, cues.BIRTH, text, before=30, after=20)


# ---- addresses ---------------------------------------------------------------------------------------------------

_KINDS_OF_STREET = (
    "Street|St|Road|Rd|Avenue|Ave|Lane|Ln|Drive|Dr|Court|Ct|Close|Terrace|Boulevard|Blvd|Way|Place|Square|Crescent"
    "|Gardens|Grove|Mews|Row|Highway|Hwy|Parkway|Pkwy|Circle|Trail|Hill"
)
_POSTCODE = r"[A-Z]{1,2}\d[A-Z\d]? \d[A-Z]{2}\b|[A-Z]{2},? \d{5}\b(?:-\d{4})?|[A-Z]{2},? [A-Z]\d[A-Z] ?\d[A-Z]\d\b"
_STREET = re.compile(
    r"[0-9](?<![\w.,$-]\d)\d{0,4}[A-Za-z]? (?:[NSEW]\.? )?(?:[A-Z][\w'’-]{1,30} ){1,3}"
    rf"(?:{_KINDS_OF_STREET})\b\.?"
    rf"([\s,][^!?]{{0,60}}?(?:{_POSTCODE}))?"
)
_CONTINENTAL = re.compile(
    r"(?<!\w)[A-ZÄÖÜ][\w-]{0,40}(?:straße|strasse|str\.|weg|platz|allee|gasse) \d{1,4} ?[a-z]?,?\s+\d{4,5} [A-ZÄÖÜ]\w+"
    r"|(?<!\w)\d{1,4},? (?:rue|avenue|boulevard|place|chemin|allée|impasse|quai) [^\n,]{3,40},?\s+\d{5} [A-ZÉ]\w+"
    r"|(?<!\w)(?:Calle|C/|Avenida|Plaza|Via|Viale|Piazza|Rua) [^\n,\d]{3,40},? \d{1,4}[^\n]{0,20}?"
    r"[, ]\d{4,5}(?:-\d{3})? [A-Z]\w+"
)
_POSTAL = re.compile(r"[0-9]{4}(?:-\d{3})? [A-ZÄÖÜÉ]")


def _addresses(text: Text) -> Iterator[Span]:
    for match in _STREET.finditer(text.text):
        if match[1] or cues.HOME.beside(text, *match.span(), before=40):
            yield match.span()
    if _POSTAL.search(text.text):
        yield from _spans(_CONTINENTAL.finditer(text.text))


SEARCHES: tuple[tuple[str, Callable[[Text], Iterator[Span]]], ...] = (
    ("api_key", _api_keys),
    ("email_address", _emails),
    ("password", _passwords),
    ("bank_account", _ibans),
    ("credit_card", _cards),
    ("drivers_license", _licences),
    ("national_id", _identities),
    ("date_of_birth", _births),
    ("passport_number", _passports),
    ("phone_number", _phones),
    ("home_address", _addresses),
)
"""Kind -> where it may stand in a text; of overlapping finds the first counts."""
