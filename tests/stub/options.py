"""The stub's command line, which `running(...)` and POST /stub/reset speak too."""

import argparse

from tests.stub.allowance import TELLS
from tests.stub.batch import BATCH_FAULTS
from tests.stub.faults import FAULTS


class Options(argparse.Namespace):
    """What the parser found."""

    port: int
    models: list[str]
    key: str | None
    context: int | None
    json_schema: bool
    first: float
    latency: float
    jitter: float
    seed: int
    rps: float
    rps_tells: str
    fault: dict[str, float]
    fault_first: int
    retry_after: float
    stall: float
    stall_if: str | None
    drip: float
    log: str | None
    reply: str | None
    batch_seconds: float
    batch_fault: dict[str, float]
    batch_fault_first: int
    batch_lines: int
    batch_bytes: int
    batch_tokens: int | None
    until_eof: bool


def parse(arguments: list[str]) -> Options:
    return _parser().parse_args(arguments, namespace=Options())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.stub", description="A deterministic OpenAI-compatible server for tests and benches."
    )
    add = parser.add_argument
    add("--port", type=int, default=0, help="0: any free one")
    add("--models", type=_names, default=[], metavar="A,B", help="the only model names known; default: every name")
    add("--key", help="the only bearer token let in; default: every request")
    add("--context", type=int, metavar="N", help="largest prompt in tokens")
    add("--no-json-schema", dest="json_schema", action="store_false", help="refuse response_format json_schema")
    add("--first", type=float, default=0.8, metavar="P", help="how often an enum gives its first value")
    add("--latency", type=float, default=0, metavar="MS", help="before each reply")
    add("--jitter", type=float, default=0, metavar="MS", help="up to so much more, drawn per body and attempt")
    add("--seed", type=int, default=0, help="of faults and jitter; replies don't depend on it")
    add("--rps", type=float, default=0, metavar="N", help="429 for requests beyond N a second (a tenth of it at once)")
    add("--rps-tells", choices=TELLS, default="nothing", help="what these 429s say of when to come again")
    add("--fault", type=_faults, default={}, metavar="NAME=P,...", help=f"P is 1 if left out; {', '.join(FAULTS)}")
    add("--fault-first", type=int, default=0, metavar="N", help="N times the first named fault per body, then none")
    add("--retry-after", type=float, default=0.05, metavar="S", help="what 429ra asks for")
    add("--stall", type=float, default=60, metavar="S", help="how long stall is silent before it answers")
    add("--stall-if", metavar="TEXT", help="stall where the last message has this text, whatever --fault says")
    add("--drip", type=float, default=2, metavar="S", help="how long drip takes for a body")
    add("--log", metavar="FILE", help="append a JSON line per answered chat request")
    add("--reply", metavar="FILE.py", help="with reply(body) -> str | None; None: the usual reply")
    add("--batch-seconds", type=float, default=0, metavar="S", help="how long a batch takes")
    add("--batch-fault", type=_batch_faults, default={}, metavar="NAME=P,...", help=", ".join(BATCH_FAULTS))
    add("--batch-fault-first", type=int, default=0, metavar="N", help="the first named one for N batches, then none")
    add("--batch-lines", type=int, default=50_000, metavar="N", help="most requests of a batch")
    add("--batch-bytes", type=int, default=200_000_000, metavar="N", help="largest file")
    add("--batch-tokens", type=int, metavar="N", help="most tokens of all batches that are not done")
    add("--until-eof", action="store_true", help="stop when stdin ends, too")
    return parser


def _names(text: str) -> list[str]:
    return text.split(",")


def _batch_faults(text: str) -> dict[str, float]:
    return _faults(text, BATCH_FAULTS)


def _faults(text: str, known: tuple[str, ...] = FAULTS) -> dict[str, float]:
    shares: dict[str, float] = {}
    for part in text.split(","):
        name, _, share = part.partition("=")
        if name not in known:
            raise argparse.ArgumentTypeError(f"no fault {name!r}; there are {', '.join(known)}")
        shares[name] = float(share or 1)
    if sum(shares.values()) > 1 + 1e-9:
        raise argparse.ArgumentTypeError("the shares of all faults add up to more than 1")
    return shares
