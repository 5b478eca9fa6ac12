"""`pmem annotate`: fair samples, harmless sheets, and agreement by hand and by other means."""

import base64
import csv
import hashlib
import io
import json
import random
import re
import shutil
import subprocess
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from pmem.choices import LETTERS
from pmem.errors import InputError
from pmem.records import Kind
from pmem.report.annotation.agreement import Agreement, agreements, as_json, text
from pmem.report.annotation.dimensions import KINDS, UNSURE, dimensions
from pmem.report.annotation.filled import Filled, filled, same_sample
from pmem.report.annotation.sampling import Sample, allotted
from pmem.report.annotation.sheets import Sheet, as_csv, as_form, sheet
from tests.command import lines, pmem, sample

Record = dict[str, Any]
SCRIPT = Path(__file__).parent.parent / "pmem" / "report" / "annotation" / "page.js"
NAMES = [one.name for one in dimensions()]
NASTY = [
    "</script><script>document.title = 'x'</script>",
    "</textarea><img src=x onerror=alert(1)>",
    '=HYPERLINK("http://x.example";"y")',
    "+1 202 555 0143",
    "-2+3",
    "@SUM(A1:A9)",
    "＝1+1",
    "\t=1",
    "{{data}} {{script}} \u2028 ]]> <!--",
    'one,"two";three\r\nfour\x00\x0b\rfive',
    "مرحبا 漢字 🎈",
]


def question(number: int, *, kind: Kind = "neutral", case: str = "own", **more: Any) -> Record:
    qa = sample("qa")
    preference = {**qa["preference"], "kind": kind}
    return {**qa, "id": f"q-{number:016x}", "preference": preference, "case": case, **more}


def table(made: str, delimiter: str = ",") -> list[list[str]]:
    return list(csv.reader(io.StringIO(made.removeprefix("\ufeff"), newline=""), delimiter=delimiter))


def rows(made: Sheet) -> list[dict[str, str]]:
    cells = table(as_csv(made, ","))
    return [dict(zip(made.columns, row, strict=True)) for row in cells[cells.index(made.columns) + 1 :]]


# ---- samples -----------------------------------------------------------------------------------------------------


def test_strata_get_their_shares() -> None:
    counts = Counter({("a", ""): 60, ("b", ""): 25, ("c", ""): 13, ("d", ""): 2})
    assert allotted(counts, 100) == dict(counts)
    assert allotted(counts, 200) == dict(counts)
    # exactly 12, 5, 2.6, 0.4: the last one is lifted to one
    assert allotted(counts, 20) == {("a", ""): 12, ("b", ""): 5, ("c", ""): 2, ("d", ""): 1}
    assert allotted(counts, 4) == dict.fromkeys(counts, 1)
    assert allotted(counts, 1) == {("a", ""): 1, ("b", ""): 0, ("c", ""): 0, ("d", ""): 0}


def drawn(questions: list[Record], size: int, seed: int = 0) -> list[str]:
    found = Sample(size, seed)
    for qa in questions:
        found.add(qa)
    return [qa["id"] for qa in found.drawn()]


def test_a_sample_depends_on_questions_and_seed_alone() -> None:
    questions = [question(n, kind=KINDS[n % 5]) for n in range(300)]
    first = drawn(questions, 20)
    mixed = random.Random(1).sample(questions, 300)
    assert drawn(mixed, 20) == first == drawn(mixed + mixed, 20)
    assert len(set(first)) == 20 and drawn(questions, 20, seed=1) != first
    assert Counter(int(own_id[2:], 16) % 5 for own_id in first) == dict.fromkeys(range(5), 4)


def test_every_question_is_as_likely() -> None:
    questions = [question(n, case="own" if n % 2 else "other") for n in range(10)]
    seen = Counter(own_id for seed in range(1000) for own_id in drawn(questions, 4, seed))
    # 400 expected, standard deviation 15.5
    assert len(seen) == 10 and all(330 < count < 470 for count in seen.values())


def test_sheets_hold_the_same_questions_in_other_orders() -> None:
    questions = [question(n) for n in range(30)]
    sheets = [sheet(questions, {}, name=f"s{n}", number=n, seed=0) for n in (1, 2, 3)]
    orders = [[row["id"] for row in one.rows] for one in sheets]
    assert all(sorted(order) == sorted(orders[0]) for order in orders)
    assert len({tuple(order) for order in orders}) == 3
    assert sheet(questions, {}, name="s1", number=1, seed=0) == sheets[0]


# ---- sheets ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", [as_csv, as_form])
def test_nothing_tells_which_answer_is_right(write: Any) -> None:
    qa = question(1)
    sheets = set()
    for right in LETTERS[:4]:
        wrong = [text for letter, text in zip(LETTERS, qa["options"], strict=False) if letter != right]
        other = {
            **qa,
            "gold": right,
            "answer": qa["options"][LETTERS.index(right)],
            "distractors": [{"text": text, "made": "generic"} for text in wrong],
            "votes": [],
        }
        sheets.add(write(sheet([other], {}, name="s", number=1, seed=0), ","))
    assert len(sheets) == 1


def nasty() -> Sheet:
    questions = [
        question(
            n, query=text, query_topic=text, options=[text, "B", "C", "D"], snippet=[{"role": "user", "content": text}]
        )
        for n, text in enumerate(NASTY)
    ]
    return sheet(questions, {sample("qa")["persona_id"]: NASTY[0]}, name="s<1>", number=1, seed=0)


@pytest.mark.parametrize("delimiter", [",", ";"])
def test_no_cell_is_a_formula(delimiter: str) -> None:
    made = as_csv(nasty(), delimiter)
    assert made.startswith("\ufeff")
    cells = table(made, delimiter)
    head = cells.index(nasty().columns)
    assert len(cells) == head + 1 + len(NASTY)
    for row in cells[head + 1 :]:
        assert len(row) == len(cells[head])
        assert not any(cell.startswith(tuple("=+-@\t\r＝＋－＠")) for cell in row)
        assert not any(char in cell for cell in row for char in "\x00\x0b\r")
    queries = {row[cells[head].index("query")] for row in cells[head + 1 :]}
    assert {"'" + NASTY[3], NASTY[0], NASTY[10], 'one,"two";three\nfour��\nfive'} <= queries


def test_a_cell_is_no_longer_than_a_spreadsheet_takes() -> None:
    (row,) = rows(sheet([question(1, query="x" * 40_000)], {}, name="s", number=1, seed=0))
    assert 30_000 < len(row["query"]) < 32_767 and row["query"].endswith("… (cut)")


def test_what_a_row_says() -> None:
    qa = question(
        1,
        snippet=[
            {
                "role": "user",
                "content": [{"type": "text", "text": "Look:"}, {"type": "image_url", "image_url": {"url": "x"}}],
            }
        ],
    )
    other = question(2, previous=None)
    other["preference"]["owner"] = {"who": "other", "relation": "sister"}
    bare = question(3, preference=None, previous=None, persona_id=None, query_topic=None)
    made = {
        row["id"]: row
        for row in rows(
            sheet([qa, other, {**bare, "preference": None}], {qa["persona_id"]: "A chef."}, name="s", number=1, seed=0)
        )
    }
    first, second, third = (made[f"q-{n:016x}"] for n in (1, 2, 3))
    assert first["person"] == "A chef." and third["person"] == ""
    assert first["chat"] == "User: Look:\n[image x]"
    assert (
        first["preference"]
        == "Would rather cook lentil soup than order in. (before: Likes thin-crust pizza on Fridays.)"
    )
    assert second["preference"] == "Would rather cook lentil soup than order in. (somebody else's: sister)"
    assert third["preference"] == third["preference_topic"] == third["query_topic"] == ""
    assert [first[letter] for letter in "ABCD"] == qa["options"]
    assert all(first[name] == "" for name in [*NAMES, "comment"])


class Page(HTMLParser):
    """The tags and the text of each script and style of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.pieces: dict[str, str] = {}
        self.attributes: list[tuple[str, str | None]] = []
        self.now = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self.now = "data" if ("id", "data") in attrs else tag

    def handle_endtag(self, tag: str) -> None:
        self.now = ""

    def handle_data(self, data: str) -> None:
        self.pieces[self.now] = self.pieces.get(self.now, "") + data


def test_a_form_is_one_page_that_texts_cannot_break() -> None:
    made, plain = Page(as_form(nasty(), ",")), Page(as_form(sheet([question(1)], {}, name="s", number=1, seed=0), ","))
    assert made.tags == plain.tags and made.tags.count("script") == 2
    assert not {"link", "img", "iframe", "object"} & set(made.tags)
    assert not any(name in ("src", "href") or name.startswith("on") for name, _ in made.attributes)
    data = json.loads(made.pieces["data"])
    assert data["rows"] == nasty().rows and made.pieces["title"] == "s<1>"
    assert made.pieces["script"] == SCRIPT.read_text(encoding="utf-8")
    policy = next(value for name, value in made.attributes if name == "content" and value)
    for kind in ("script", "style"):
        digest = base64.b64encode(hashlib.sha256(made.pieces[kind].encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")
    shown = made.pieces["script"] + made.pieces["style"]
    assert "http" not in shown and "innerHTML" not in shown and "@import" not in shown


# ---- the form's script -------------------------------------------------------------------------------------------


def node(code: str, form: str, folder: Path) -> Any:
    """What a line of JavaScript gives, with the script's functions as `page` and a form's data as `data`."""
    if not shutil.which("node"):
        pytest.skip("no node")
    (folder / "data.json").write_text(Page(form).pieces["data"], encoding="utf-8")
    program = (
        f"const page = require({json.dumps(str(SCRIPT))});"
        "const data = JSON.parse(require('fs').readFileSync('data.json', 'utf-8'));"
        f"process.stdout.write(JSON.stringify({code}));"
    )
    done = subprocess.run(["node", "-e", program], cwd=folder, capture_output=True, check=True, timeout=60)
    return json.loads(done.stdout)


@pytest.mark.parametrize("delimiter", [",", ";"])
def test_a_form_saves_what_the_sheet_holds(tmp_path: Path, delimiter: str) -> None:
    form = as_form(nasty(), delimiter)
    assert node("page.csv(data, {})", form, tmp_path) == as_csv(nasty(), delimiter)
    answers = {row["id"]: {**dict.fromkeys(NAMES[:5], "yes"), "personalised": "B"} for row in nasty().rows[1:]}
    answers[nasty().rows[0]["id"]] = {"kind": "therapy", "naturalness": UNSURE, "comment": '=1,\n"2"'}
    (tmp_path / "saved.csv").write_bytes(node(f"page.csv(data, {json.dumps(answers)})", form, tmp_path).encode())
    comment = {
        own_id: {name: value for name, value in given.items() if name != "comment"} for own_id, given in answers.items()
    }
    assert filled(str(tmp_path / "saved.csv")).answers == comment
    assert "'=1" in (tmp_path / "saved.csv").read_text(encoding="utf-8")


def test_a_form_knows_its_keys_and_what_is_open(tmp_path: Path) -> None:
    form = as_form(sheet([question(1), question(2)], {}, name="s", number=1, seed=0), ",")
    pressed = "yn?0aAdj156"
    code = f"data.dimensions.map(one => [...'{pressed}'].map(key => page.chosen(one, data.shown[0], key) ?? '-').join(' '))"
    said = dict(zip(NAMES, node(code, form, tmp_path), strict=True))
    assert said["inferable"] == "yes no ? ? - - - - - - -"
    assert said["personalised"] == "- - ? ? A A D - - - -"  # there are four options
    assert said["kind"] == "- - ? ? - - - - stereotypical therapy -"
    code = "[null, 'formatting', 'kind'].map(after => page.unanswered(data, {naturalness: 'yes', topic_query: 'no'}, after))"
    assert node(code, form, tmp_path) == ["formatting", "topic_preference", "formatting"]
    given = json.dumps({f"q-{1:016x}": dict.fromkeys(NAMES, "x"), f"q-{2:016x}": dict.fromkeys(NAMES[1:], "x")})
    assert node(f"page.done(data, {given})", form, tmp_path) == 1


# ---- writing -----------------------------------------------------------------------------------------------------


def test_a_sheet_that_is_there_is_never_written_over(tmp_path: Path) -> None:
    input = lines([question(n) for n in range(5)])
    run = ["annotate", "--sheet", "a/b", "--annotators", "2"]
    first = pmem(*run, folder=tmp_path, input=input)
    assert first.out.decode().split() == [f"a/b/annotator-{n}.{kind}" for n in (1, 2) for kind in ("csv", "html")]
    assert pmem(*run, folder=tmp_path, input=input).out == first.out
    file = tmp_path / "a" / "b" / "annotator-2.csv"
    file.write_bytes(answered := file.read_bytes().replace(b'""', b'"yes"', 1))
    before = (tmp_path / "a" / "b" / "annotator-1.csv").read_bytes()
    ran = pmem(*run, "--seed", "1", folder=tmp_path, input=input)
    assert ran.status == 1 and "maybe filled in" in ran.err and ran.out == b""
    assert pmem(*run, folder=tmp_path, input=input).status == 1
    assert file.read_bytes() == answered and (tmp_path / "a" / "b" / "annotator-1.csv").read_bytes() == before


def test_questions_without_options_are_left_out(tmp_path: Path) -> None:
    input = lines([question(1), sample("qa-imported")])
    ran = pmem("annotate", "--sheet", "s.html", "--annotators", "1", folder=tmp_path, input=input)
    assert "1 question for 1 annotator; 1 without options left out" in ran.err
    assert [path.name for path in tmp_path.iterdir()] == ["s.html"]


# ---- agreement ---------------------------------------------------------------------------------------------------


def sheets_of(dimension: str, *columns: str | list[str]) -> list[Filled]:
    """Sheets with answers to one dimension: a string of y, n, ? and - (blank), or a list; one for each annotator."""
    words = {"y": "yes", "n": "no"}
    return [
        Filled(
            f"{n}.csv",
            {f"q{m}": {} if one == "-" else {dimension: words.get(one, one)} for m, one in enumerate(column)},
        )
        for n, column in enumerate(columns)
    ]


def agreement(dimension: str, *columns: str | list[str], key: Any = None) -> Agreement:
    (found,) = [one for one in agreements(sheets_of(dimension, *columns), key) if one.dimension == dimension]
    return found


def test_two_annotators_by_hand() -> None:
    # both yes 20, yes-no 5, no-yes 10, both no 15: observed 35/50; by chance .5 * .6 + .5 * .4 = .5; kappa .2 / .5
    found = agreement("inferable", "y" * 25 + "n" * 25, "y" * 20 + "n" * 5 + "y" * 10 + "n" * 15)
    assert (found.answers, found.questions, found.yes_rates, found.yes_rate) == (100, 50, [0.5, 0.6], 0.55)
    assert found.percent == pytest.approx(0.7) and found.cohen.value == pytest.approx(0.4)
    # Fleiss takes both annotators' answers together: by chance .55 ** 2 + .45 ** 2 = .505
    assert found.fleiss.value == pytest.approx((0.7 - 0.505) / (1 - 0.505))


def test_fleiss_by_hand_and_cohen_by_definition() -> None:
    columns = ["yyyyynn?n", "yynyynnyn", "ynyyynnyy"]
    found = agreement("inferable", *columns)
    pairs = [(columns[0], columns[1]), (columns[0], columns[2]), (columns[1], columns[2])]

    def kappa(one: str, other: str) -> float:
        n = len(one)
        observed = sum(a == b for a, b in zip(one, other, strict=True)) / n
        chance = sum(one.count(a) * other.count(a) for a in "yn?") / n**2
        return (observed - chance) / (1 - chance)

    assert found.cohen.value == pytest.approx(sum(kappa(*pair) for pair in pairs) / 3) and found.cohen.note is None
    shares = [sum(a == b for a, b in zip(*pair, strict=True)) / 9 for pair in pairs]
    assert found.percent == pytest.approx(sum(shares) / 3)
    every = "".join(columns)
    chance = sum((every.count(a) / 27) ** 2 for a in "yn?")
    assert found.fleiss.value == pytest.approx((sum(shares) / 3 - chance) / (1 - chance))
    assert found.counts == {"?": 1, "no": 10, "yes": 16} and found.yes_rate == pytest.approx(16 / 27)


def test_fleiss_own_example() -> None:
    """A worked example of 10 subjects, 14 raters and 5 categories that textbooks share: kappa 0.210."""
    counts = [
        (0, 0, 0, 0, 14), (0, 2, 6, 4, 2), (0, 0, 3, 5, 6), (0, 3, 9, 2, 0), (2, 2, 8, 1, 1),
        (7, 7, 0, 0, 0), (3, 2, 6, 3, 0), (2, 5, 3, 2, 2), (6, 5, 2, 1, 0), (0, 2, 2, 3, 7),
    ]  # fmt: skip
    given = [[kind for kind, count in zip(KINDS, row, strict=True) for _ in range(count)] for row in counts]
    found = agreement("kind", *(list(column) for column in zip(*given, strict=True)))
    assert found.fleiss.value == pytest.approx(0.210, abs=0.0005)
    assert found.yes_rate is None


@pytest.mark.parametrize("columns", [("yyyy", "yyyy"), ("nnnn", "nnnn", "nnnn"), ("yy--", "yyyy")])
def test_without_variance_there_is_no_kappa(columns: tuple[str, ...]) -> None:
    found = agreement("formatting", *columns)
    assert found.percent == 1 and found.cohen.value is None and found.fleiss.value is None
    assert "one and the same answer" in str(found.cohen.note) and found.cohen.note == found.fleiss.note
    shown = text(sheets_of("formatting", *columns), [found])
    assert shown.splitlines()[3].split()[-3:-1] == ["n/a", "n/a"] and "one and the same answer" in shown


def test_one_annotator_without_variance_is_no_agreement_beyond_chance() -> None:
    found = agreement("formatting", "yyyy", "yyny")
    assert found.cohen.value == 0 and found.percent == 0.75


def test_pairs_without_variance_are_told() -> None:
    found = agreement("formatting", "yyyn-", "yyy--", "yyy-y")
    assert found.questions == 3 and found.fleiss.value is None and found.cohen.value is None
    found = agreement("formatting", "yynn", "yynn", "yy--")
    assert found.cohen.value == 1 and "over 1 of 3 pairs" in str(found.cohen.note)


def test_blanks_are_no_answers_and_unsure_is_no_yes() -> None:
    found = agreement("naturalness", "y?-n", "yy-n")
    assert (found.answers, found.questions, found.yes_rates) == (6, 3, [pytest.approx(1 / 3), pytest.approx(2 / 3)])
    assert found.percent == pytest.approx(2 / 3)
    nothing = agreement("naturalness", "---", "yyy")
    assert (nothing.questions, nothing.percent, nothing.yes_rates) == (0, None, [None, 1])
    assert nothing.cohen.note == "no question answered by two" and nothing.fleiss.note == "no question answered by all"


def test_a_single_sheet_has_rates_only() -> None:
    found = agreement("naturalness", "yyn")
    assert found.yes_rate == pytest.approx(2 / 3) and found.percent is None
    assert found.cohen.note == found.fleiss.note == "it takes two sheets"


def test_the_records_say_what_is_right() -> None:
    key = {f"q{n}": {"personalised": "B", "kind": "health"} for n in range(4)}
    letters = (["B", "B", "A", UNSURE], ["B", "C", "A", "B"])
    found = agreement("personalised", *letters, key=key)
    assert found.yes_rates == [0.5, 0.5] and found.counts == {"?": 1, "no": 3, "yes": 4}
    assert found.percent == 0.5  # yes-yes, yes-no, no-no, ?-yes
    assert agreement("personalised", *letters).yes_rate is None
    kinds = (["health", "neutral", "neutral", "health"], ["health", "therapy", "neutral", "health"])
    found = agreement("kind", *kinds, key=key)
    assert found.yes_rate == 0.5 and found.percent == 0.75 and found.counts["therapy"] == 1


def test_figures_for_machines() -> None:
    sheets = sheets_of("kind", ["health", "neutral"], ["health", "therapy"])
    shown = as_json(sheets, agreements(sheets))
    json.dumps(shown, allow_nan=False)
    assert shown["questions"] == 2 and [one["dimension"] for one in shown["dimensions"]] == NAMES


# ---- sheets that come back ---------------------------------------------------------------------------------------

YES, NO = ["yes", "Yes", "Y", "1", "TRUE", " yes "], ["no", "NO", "n", "0", "False"]
CANNOT = ["?", "can't tell", "Can’t tell"]


def back(
    folder: Path, cells: list[list[str]], *, delimiter: str = ",", encoding: str = "utf-8", before: str = ""
) -> Filled:
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=delimiter).writerows([["id", "chat", *NAMES], *cells])
    (folder / "s.csv").write_bytes((before + out.getvalue()).encode(encoding))
    return filled(str(folder / "s.csv"))


def answers(**given: str) -> list[str]:
    return ["q-1", 'line one,\nline; "two"\tü', *(given.get(name, "") for name in NAMES)]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_sheets_are_read_as_spreadsheets_write_them(tmp_path: Path, delimiter: str, encoding: str) -> None:
    before = f"sep={delimiter}\r\nA guideline, with id in it; and more\r\n\r\n"
    row = answers(naturalness="YES", personalised="b", kind="Anti-Stereotypical")
    found = back(tmp_path, [row, [""] * 9, []], delimiter=delimiter, encoding=encoding, before=before)
    assert found.answers == {"q-1": {"naturalness": "yes", "personalised": "B", "kind": "anti_stereotypical"}}


@pytest.mark.parametrize(
    ("written", "meant"),
    [*((one, "yes") for one in YES), *((one, "no") for one in NO), *((one, "?") for one in CANNOT)],
)
def test_ways_to_answer(tmp_path: Path, written: str, meant: str) -> None:
    assert back(tmp_path, [answers(inferable=written)]).answers["q-1"] == {"inferable": meant}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("formatting", "maybe"),
        ("formatting", "2"),
        ("personalised", "yes"),
        ("personalised", "K"),
        ("personalised", "AB"),
        ("kind", "y"),
        ("kind", "1"),
    ],
)
def test_other_answers_are_refused_with_their_place(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(InputError) as refused:
        back(tmp_path, [answers(), ["q-2", *answers(**{name: value})[1:]]])
    said = str(refused.value)
    assert said.startswith(f"{tmp_path}/s.csv: row 3: column {name}: expected ") and said.endswith(f"found {value}")


def test_faults_of_a_sheet(tmp_path: Path) -> None:
    for cells, said in (
        ([answers(), answers()], "row 3: question q-1 stands in two rows"),
        ([["", *answers(kind="health")[1:]]], "row 2: column id is empty"),
    ):
        with pytest.raises(InputError, match=re.escape(said)):
            back(tmp_path, cells)


def test_sheets_of_other_samples_are_named_with_their_ids() -> None:
    one = Filled("one.csv", {f"q-{n}": {} for n in range(6)})
    other = Filled("other.csv", {"q-0": {}, "q-9": {}})
    same_sample([one, one._replace(file="x")])
    with pytest.raises(InputError) as refused:
        same_sample([one, other])
    assert str(refused.value) == (
        "other.csv: not the questions of one.csv: lacks q-1, q-2, q-3 and 2 more; has q-9 besides"
    )


@pytest.mark.parametrize("module", ["sklearn", "statsmodels"])
def test_a_missing_extra_is_one_line(tmp_path: Path, module: str) -> None:
    back(tmp_path, [answers()])
    (tmp_path / f"{module}.py").write_text("raise ImportError\n")
    ran = pmem("annotate", "--agreement", "s.csv", folder=tmp_path, env={"PYTHONPATH": str(tmp_path)})
    assert ran.status == 1 and ran.out == b"" and len(ran.err.splitlines()) == 1
    assert "pip install 'pmem[report]'" in ran.err
