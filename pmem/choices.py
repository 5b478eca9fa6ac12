"""THE parser of a model's choice: a letter. Strict: what isn't plainly said is not guessed.

One parser serves evaluation, rewards and tests; a reply that it can't read counts as wrong, and is counted apart.
What it reads and what it leaves is written down, row by row, in tests/choices_cases.py.
"""

import re

LETTERS = "ABCDEFGHIJ"

# The markup around words goes first, so that what follows need not know of it.
TAG = re.compile(r"[<\[](/?)(think|thinking|thought|reasoning)[>\]]", re.IGNORECASE)
HTML = re.compile(r"</?(?:b|strong|em|i|u|p|s|code|br) ?/?>|<\|\w+\|>")  # and marks of a turn's end
LATEX = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf)\b|\\[()\[\]]")
QUOTE = re.compile(r"(?<!\w)'|'(?!\w)")  # not an apostrophe
WIDE = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}  # the full-width forms of ASCII
UNSEEN = dict.fromkeys((0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF))
MARKS = {**dict.fromkeys(map(ord, '*_`"“”„«»$'), " "), **dict.fromkeys(map(ord, "‘’"), "'"), ord("…"): "..."}

# The letter itself: not the article "a", not the pronoun "I", not the start of a word. It is plain if what follows is
# neither another letter, nor a condition, nor a word that makes it part of a text ("Answer: A quiet place").
OPEN = r"[ (\[{<【]{0,6}"
LETTER = r"(?P<letter>(?-i:[A-HJb-hj]|I(?! \w)|a(?=\)|[ \]}.]*$)))"
OTHER = r"[(\[{]?(?-i:[A-HJb-hj]\b|a\b(?! \w))"
HEDGE = "or|oder|maybe|perhaps|possibly"
END = (
    r"(?![\w'+#])(?P<plain>"
    rf"(?![ ,()\]}}>:–—-]{{0,4}}(?:{HEDGE}|but|if|unless|although|though|aber|wenn)\b)"
    rf"(?![^\w\n]{{0,4}}(?:(?:{HEDGE}|and|und|also) ){{1,3}}{OTHER})(?![ )\]}}]*(?:[,/&+] ?{OTHER}|\. {OTHER}[.)]))"
    r" ?(?:$|[)\]}>】<(–—]|-+ |[.,;:!]+(?=[\s)\]}<]|$)"
    r"|(?:because|since|as(?! well)|for|due to|given|over|rather than|instead of|weil|da)\b))?"
)

NOUN = (
    "(?:answer|choice|pick|selection|option|reply|correction|antwort|réponse|respuesta|risposta|resposta|antwoord|cevap"
    "|yanıt|ответ|відповідь|答案|回答|正解|정답|답변|답|الإجابة|الجواب|תשובה|उत्तर|คำตอบ|đáp án|câu trả lời)"
)
RIGHT = "(?:the|my|your|final|correct|right|best|die|meine|richtige|beste|la|ma|mi)"
WHICH = r"(?: correcta| correcte| that (?:suits|fits)(?: \w+){1,2} best| to (?:your|the|this) question)?"
SURELY = "(?:therefore|thus|hence|clearly|indeed|definitely|probably|most likely)"
FILLER = rf"(?:{OPEN}(?:{SURELY}|the|option|reply|letter|choice|answer|not [A-J],? but|\\boxed)){{0,4}}"
IS = r"(?: (?:is|would be|ist|lautet|est|es|è)\b| ?[:=>→⇒–—-]|\n){1,3}"
FLAGS = re.IGNORECASE | re.MULTILINE

PHRASES = (
    # "Answer: B", "the best option is B", {"answer": "B"}; not "the wrong answer is B"
    rf"(?:\b{RIGHT} |(?<![\w-])(?<!\w )){NOUN}{WHICH}{IS}{FILLER}{OPEN}{LETTER}{END}",
    rf"(?:\\boxed|<answer>){OPEN}{LETTER}{END}",
    # "I choose B", "I'd go with option B"
    rf"\b(?:I(?:'d| would|'ll| will|'m| am)?|ich)(?: {SURELY})?"
    r" (?:choos(?:e|ing)|pick(?:ing)?|select(?:ing)?|go(?:ing)? with|say|opt for|wähle|nehme)"
    rf" {FILLER}{OPEN}{LETTER}{END}",
    # "B is the best answer", "reply B suits me best"
    rf"(?:^|[.!?;:] )(?:(?:so|overall|{SURELY}),? )?(?:(?:the )?{NOUN} )?{OPEN}{LETTER}[)\]}}]? "
    rf"(?:(?:suits|fits)(?: \w+){{0,2}} best|(?:is|would be) (?:{SURELY} )?(?:the |my )?"
    rf"(?:(?:best|right|correct)(?: (?:{NOUN}|one|fit|match))?|{NOUN}))"
    r"(?: here| overall| for (?:me|you|them|(?:the|this) user))?"
    r"(?P<plain>(?= ?(?:$|[.!;:(–—]|(?:because|since|as)\b)))",
)
CLAIMS = tuple(re.compile(phrase, FLAGS) for phrase in PHRASES)
BARE = (
    re.compile(rf"^(?:(?:the )?(?:{NOUN}|letter) )?{OPEN}(?P<letter>[A-J])[ )\]}}>】.!]*$", FLAGS),
    # "C) Text of the option", "Option C: Text of the option", "C, because ..."
    re.compile(
        rf"^(?:Option )?{OPEN}(?P<letter>[A-J])"
        r"(?: ?[)\]}.]+ (?![a-z])|(?<=Option .): |,? (?:because|since|weil)\b)",
        re.MULTILINE,
    ),
)

LONE = re.compile(rf"^{OPEN}(?P<letter>[A-J])[ )\]}}>】.!]*$", re.MULTILINE)
# A letter that stands for an option, anywhere: "(B)", "A, B or C", "B." - and "Plan B." too, but who can tell?
LABEL = re.compile(r"(?<![\w'])(?P<letter>[A-HJ])(?= ?(?:[.):;,/\]]|$)| (?:or|and|oder|und) [A-J]\b)", re.MULTILINE)

DOUBT = re.compile(r"\b(?:not|never|neither|nor|cannot|\w+n't|if|whether|unless|wenn|ob|nicht|second)\b", re.IGNORECASE)
CHANGE = re.compile(
    r"(?:^|[.!?:–—-]) ?(?:(?:no|oh|but|hmm|sorry),? )*"
    r"(?:(?:no|nein)[,.!:]|(?:wait|hold on|actually|correction|scratch that"
    r"|before i (?:can )?answer|on second thoughts?|on reflection|let me (?:reconsider|rethink)"
    r"|i (?:was wrong|changed? my mind))\b)",
    FLAGS,
)
# A reply that does just what it was asked for, and names no letter before: most of them. Read at once, as below.
USUAL = re.compile(r"(?:[^<\[{\\*_`$\n]*\n)*Answer: ([A-J])\s*")
NAMED = re.compile(r"(?<![A-Za-z])(?:[A-HJb-hj]|a(?! \w)|I(?![ ']\w))(?![A-Za-z])")


def without_thinking(reply: str) -> str:
    """The reply without its reasoning blocks, if it has any; "" if it never came out of them."""
    said: list[str] = []
    inside, since = "", 0
    for tag in TAG.finditer(reply):
        name = tag[2].lower()
        if not tag[1] and not inside:
            said.append(reply[since : tag.start()])
            inside = name
        elif tag[1] and inside in ("", name):
            if not inside:
                said.clear()  # some servers cut off the opening tag: all so far was thought
            inside, since = "", tag.end()
    return "".join(said if inside else [*said, reply[since:]]).strip()


def letter(reply: str, count: int = 4) -> str | None:
    """The option that a reply names, as a capital letter among the first `count`; None if it names none plainly.

    Read, in this order: phrases that claim an answer ("Answer: X", "I choose X"); lines that are nothing but a letter;
    a letter before the text of its option. Several letters contradict each other, unless the reply takes the earlier
    ones back ("wait"), or weighs them in its sentences and then ends with the one line that was asked for.
    """
    usual = USUAL.fullmatch(reply)
    if usual and reply.isascii() and not NAMED.search(reply, 0, usual.start(1)):
        return usual[1] if usual[1] in LETTERS[:count] else None
    said = _plain(without_thinking(reply))
    meant = (claim for pattern in CLAIMS for claim in pattern.finditer(said) if _meant(said, claim))
    claims = sorted(meant, key=lambda claim: claim.start("letter"))
    named = _last(said, claims) if claims else _bare(said)
    if named is None or CHANGE.search(said, named.end("letter")) or _others(LONE, said, named) or _lists(said, named):
        return None
    found = named["letter"].upper()
    return found if found in LETTERS[:count] else None


def _plain(text: str) -> str:
    """Text without markup, quotation marks and empty lines, one space between words."""
    text = LATEX.sub(" ", HTML.sub(" ", text.translate(WIDE | UNSEEN))).translate(MARKS)
    lines = (" ".join(line.split()).lstrip("#>-•– ") for line in QUOTE.sub(" ", text).splitlines())
    return "\n".join(line for line in lines if line)


def _meant(said: str, claim: re.Match[str]) -> bool:
    """Whether nothing before it in its clause takes the claim back: "I don't think", "if"."""
    before = re.split(r"[.!?;:,\n]", said[max(0, claim.start() - 80) : claim.start()])[-1]
    return not DOUBT.search(before)


def _last(said: str, claims: list[re.Match[str]]) -> re.Match[str] | None:
    """The last claim, if it is plain and holds against the earlier ones."""
    last = claims[-1]
    others = [claim for claim in claims if claim["letter"].upper() != last["letter"].upper()]
    taken_back = not others or CHANGE.search(said[others[-1].end("letter") : last.start("letter")])
    ends_it = _is_line(said, last) and "\n" not in said[last.end() :] and not any(_is_line(said, one) for one in others)
    return last if last["plain"] is not None and (taken_back or ends_it) else None


def _is_line(said: str, claim: re.Match[str]) -> bool:
    return claim.re in CLAIMS[:2] and said[max(0, claim.start() - 1) : claim.start()] in ("", "\n")


def _bare(said: str) -> re.Match[str] | None:
    """The letter of a reply without a claim: alone on the first or last line, or before its option's text.

    No list of options may go before a letter on the last line, and no other option be named behind a text's letter.
    """
    alone, before_text = (list(pattern.finditer(said)) for pattern in BARE)
    found = alone or before_text
    if not found or len({one["letter"].upper() for one in found}) > 1:
        return None
    if found[0].start() == 0:
        return None if found is before_text and _others(LABEL, said, found[-1]) else found[-1]
    ends = found is alone and found[-1].end() == len(said)
    return found[-1] if ends and not _others(BARE[1], said, found[-1], since=0) else None


def _lists(said: str, named: re.Match[str]) -> bool:
    """Whether the letter begins a list of options: "Answer: A. Text of A", and on a line below "B. Text of B"."""
    line, _, below = said[named.end("letter") :].partition("\n")
    entries = BARE[1].finditer(below) if len(line) > 3 else ()
    return any(ord(one["letter"]) == ord(named["letter"].upper()) + 1 for one in entries)


def _others(pattern: re.Pattern[str], said: str, named: re.Match[str], *, since: int | None = None) -> bool:
    """Whether the pattern finds another letter than the named one, behind that or from a place on."""
    found = pattern.finditer(said, named.end("letter") if since is None else since)
    return any(one["letter"].upper() != named["letter"].upper() for one in found)
