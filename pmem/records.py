"""The records of every stream as types: what `schemas/*.schema.json` say, for the type checker.

The schemas own the shapes, the labels and what each key means; a test holds that both agree. A key that may be
absent is NotRequired; a key with nothing to say is None. Ids are a letter, a dash and 16 hex digits; tokens are
counted in the record's tokenizer; indices are those of messages and start at 0.
"""

from typing import Any, Literal, NotRequired, TypedDict

Kind = Literal["stereotypical", "anti_stereotypical", "neutral", "health", "therapy"]
Who = Literal["self", "other", "hypothetical"]
SecretKind = Literal[
    "home_address",
    "phone_number",
    "email_address",
    "date_of_birth",
    "national_id",
    "passport_number",
    "drivers_license",
    "bank_account",
    "credit_card",
    "password",
    "api_key",
]
Scenario = Literal[
    "personal_email",
    "professional_email",
    "chat_message",
    "social_media_post",
    "creative_writing",
    "professional_writing",
    "translation",
    "knowledge_query",
    "therapy_consultation",
    "medical_consultation",
    "photo_query",
]
Event = Literal["reveals", "updates", "asks_to_forget"]
Role = Literal["user", "assistant"]
Domain = Literal["maths", "code", "general"]
What = Literal["conversation", "filler", "imported"]
Case = Literal["own", "updated", "forgotten", "other", "sensitive"]
Made = Literal[
    "random_preference",
    "stereotype",
    "generic",
    "old_preference",
    "uses_forgotten",
    "uses_other",
    "repeats_secret",
    "wrong_secret",
    "refusal",
    "imported",
]
Split = Literal["bench", "train", "val"]
Check = Literal["blind", "leak", "gold", "distractors", "form", "harm", "implicit", "open"]
Verdict = Literal["pass", "fail", "unclear"]
Mode = Literal["mcq", "open"]
Context = Literal["full", "memory", "snippet", "none", "rag"]
Scoring = Literal["reply", "likelihood"]
Form = Literal["think", "line"]
Truncate = Literal["oldest", "middle"]
Reason = Literal["schema", "json", "type", "model", "limit", "filler", "dropped", "internal"]

Labels = dict[str, str]


class Provenance(TypedDict):
    """How a record was made. `prompts`: prompt name to the first 12 hex digits of its text's hash."""

    stage: str
    pmem: str
    model: NotRequired[str | None]
    prompts: NotRequired[dict[str, str]]
    seed: NotRequired[int | None]
    source: NotRequired[str]


class Owner(TypedDict):
    """Whose preference it is; `relation` of another person to the user."""

    who: Who
    relation: str | None


class Preference(TypedDict):
    """One thing that somebody likes, wants or needs. `updates`: id of the preference that it replaces."""

    id: str
    kind: Kind | None
    text: str
    topic: str
    owner: Owner
    updates: str | None
    reason: str | None
    forget: bool


class Secret(TypedDict):
    """One invented piece of private information."""

    id: str
    kind: SecretKind
    value: str


class Photo(TypedDict):
    """An image that the user sends along: its path below the folder of images, and what it shows."""

    file: str
    caption: str


class PersonaCard(TypedDict):
    """A persona in short, carried along by the records made from it."""

    id: str
    name: str
    language: str
    summary: str


class Persona(TypedDict):
    """An invented user. `profile`: area to attribute to value; `draws`: what was drawn before writing."""

    type: Literal["persona"]
    id: str
    seed: str
    name: str
    language: str
    summary: str
    profile: dict[str, dict[str, str | list[str]]]
    draws: dict[str, str | float | list[str] | None]
    preferences: list[Preference]
    secrets: list[Secret]
    labels: NotRequired[Labels]
    provenance: Provenance


class TextPart(TypedDict):
    """A piece of text within a message."""

    type: Literal["text"]
    text: str


class ImageUrl(TypedDict):
    """Where an image is (web address, data: address or file path)."""

    url: str
    detail: NotRequired[str]


class ImagePart(TypedDict):
    """An image within a message."""

    type: Literal["image_url"]
    image_url: ImageUrl


ContentPart = TextPart | ImagePart


class Message(TypedDict):
    """One message of a dialogue: text, or parts where an image belongs to it."""

    role: Role
    content: str | list[ContentPart]


class Vote(TypedDict):
    """What one judge call (`n`, from 0) says about one check. `choice`: a letter (blind, distractors)."""

    check: Check
    n: int
    judge: str
    verdict: Verdict
    choice: str | None
    reason: str | None


class Conversation(TypedDict):
    """A persona's chat in which one preference shows. `after`: ids of conversations that come before it."""

    type: Literal["conversation"]
    id: str
    persona_id: str
    preference: Preference | None
    event: Event
    after: list[str]
    scenario: Scenario
    topic: str
    languages: list[str]
    secrets: list[Secret]
    image: NotRequired[Photo]
    persona: PersonaCard
    votes: NotRequired[list[Vote]]
    labels: NotRequired[Labels]
    provenance: Provenance
    messages: list[Message]


class Filler(TypedDict):
    """A dialogue that only makes a history longer."""

    type: Literal["filler"]
    id: str
    domain: Domain
    source: str
    labels: NotRequired[Labels]
    provenance: Provenance
    messages: list[Message]


class Session(TypedDict):
    """Messages `start` to `end` (half open) of a history, had in one sitting on `date` (YYYY-MM-DD)."""

    id: str
    what: What
    start: int
    end: int
    token_start: int
    tokens: int
    date: str | None
    event: Event | None
    preference: Preference | None
    scenario: Scenario | None
    topic: str | None
    secrets: NotRequired[list[Secret]]
    image: NotRequired[Photo]


class Dropped(TypedDict):
    """A conversation that was left out of a history."""

    id: str
    why: str


class History(TypedDict):
    """All messages of one user, within `budget` tokens. Writers keep `messages` the last key."""

    type: Literal["history"]
    id: str
    persona_id: str | None
    user_id: str
    window: str
    budget: int | None
    tokenizer: str
    tokens: int
    relevant_tokens: int
    filler_tokens: int
    persona: PersonaCard | None
    system: str | None
    sessions: list[Session]
    dropped: NotRequired[list[Dropped]]
    labels: NotRequired[Labels]
    provenance: Provenance
    messages_sha256: NotRequired[str]
    messages: list[Message]


class Distractor(TypedDict):
    """One wrong answer, and how it was made."""

    text: str
    made: Made


class HistoryRef(TypedDict):
    """A history that a question can be asked after; all counts in tokens."""

    id: str
    distance_tokens: int | None
    relevant_tokens: int | None
    filler_tokens: int | None


class QA(TypedDict):
    """A question with its answers. `histories`: name of a window to a history; `gold`: a letter, A first."""

    type: Literal["qa"]
    id: str
    persona_id: str | None
    case: Case | None
    preference: Preference | None
    previous: Preference | None
    secret: Secret | None
    scenario: Scenario | None
    topic: str | None
    query: str
    query_topic: str | None
    answer: str
    distractors: list[Distractor]
    options: list[str] | None
    gold: str | None
    snippet: list[Message]
    histories: dict[str, HistoryRef]
    split: Split | None
    votes: list[Vote]
    labels: NotRequired[Labels]
    provenance: Provenance


class Owed(TypedDict):
    """Something in a persona's histories that lacks a surviving question; `asked`: how many it has had."""

    type: Literal["owed"]
    id: str
    persona_id: str
    case: Case
    kind: Kind
    asked: int


class OptionLikelihood(TypedDict):
    """Natural log-likelihood of one option, summed over its tokens; `none`: the same without a history."""

    logprob: float
    tokens: int
    none: float | None


class Settings(TypedDict):
    """How a question was asked, where that was chosen; tokens of prompt and reply."""

    temperature: NotRequired[float]
    max_tokens: NotRequired[int]
    thinking: NotRequired[bool]
    form: NotRequired[Form]
    top_k: NotRequired[int]
    with_system: NotRequired[Literal[True]]
    context_length: NotRequired[int]
    truncate: NotRequired[Truncate]


class Result(TypedDict):
    """What one model answered to one question. `options` and `gold` are in the order shown."""

    type: Literal["result"]
    id: str
    qa_id: str
    history_id: str | None
    persona_id: str | None
    model: str
    judge_model: str | None
    mode: Mode
    context: Context
    window: str | None
    scoring: Scoring
    permutation: int
    options: list[str] | None
    gold: str | None
    reply: str
    choice: str | None
    likelihoods: NotRequired[list[OptionLikelihood]]
    parsed: bool
    correct: bool
    votes: list[Vote]
    error_category: str | None
    error_reason: NotRequired[str]
    error_judge: NotRequired[str]
    prompt_tokens: int
    reply_tokens: int
    reasoning_tokens: NotRequired[int]
    memory_id: NotRequired[str]
    truncated_tokens: NotRequired[int]
    settings: NotRequired[Settings]
    labels: Labels
    provenance: Provenance


class Evidence(TypedDict):
    """Messages of one history."""

    history_id: str
    messages: list[int]


class Entry(TypedDict):
    """One statement of a memory. Chunk numbers start at 1; `evidence`: indices of the history's messages, `earlier`:
    of those that earlier runs read; `edited`: a person wrote it."""

    text: str
    since_chunk: int
    changed_chunk: int
    evidence: list[int]
    earlier: NotRequired[list[Evidence]]
    edited: NotRequired[bool]


# "from" is no name in Python
Change = TypedDict("Change", {"from": str, "to": str})


class Edits(TypedDict):
    """What a person did to a memory."""

    came: list[str]
    changed: list[Change]
    went: list[str]


class Memory(TypedDict):
    """What is remembered of a user after chunk `chunk` (from 1) of `chunks`. `read`: digests of the chats read."""

    type: Literal["memory"]
    id: str
    user_id: str
    history_id: str
    chunk: int
    chunks: int
    text: str
    tokens: int
    trimmed: bool
    previous_id: str | None
    edited: bool
    entries: list[Entry]
    edits: NotRequired[Edits]
    read: NotRequired[list[str]]
    labels: NotRequired[Labels]
    provenance: Provenance


class Metric(TypedDict):
    """What was measured at one step: `name` and `value`, or `values`."""

    type: Literal["metric"]
    run: str
    step: int
    name: NotRequired[str]
    value: NotRequired[float]
    values: NotRequired[dict[str, float]]


class Usage(TypedDict):
    """What one run asked of one model in one role; `cost_usd` is None where the price is not known."""

    type: Literal["usage"]
    stage: str
    role: Literal["model", "judge"]
    model: str
    calls: int
    from_cache: int
    repeated: int
    failed: int
    abandoned: int
    invalid: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    latency_seconds: NotRequired[float | None]
    cost_usd: float | None
    prices: str | None


class ErrorRecord(TypedDict):
    """Input that could not be handled, whole: `record` if it is a JSON object, else the line as `raw`."""

    type: Literal["error"]
    stage: str
    file: str | None
    line: int | None
    reason: Reason
    message: str
    pointer: str | None
    call: str | None
    items: list[str] | None
    record: dict[str, Any] | None
    raw: str | None


Record = Persona | Conversation | Filler | History | QA | Owed | Result | Memory | Metric | Usage | ErrorRecord
