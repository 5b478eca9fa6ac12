"""What a stage would ask, as a table."""

from pmem.backends.plan import FIRST_TOKEN, PER_TOKEN, Plan, Step, Time
from pmem.backends.usage import dollars
from pmem.stream.progress import duration

HEAD = ("", "calls", "in cache", "tokens in", "mean", "most", "tokens out", "mean", "cost", "length of replies")
NOTES = (
    "Not foreseen: invalid replies and repeated attempts; discounts for prompts that the server has cached.",
    "Assumed lengths of replies are those of pmem's demo, without any reasoning. Run it on a few records first",
    "(--limit 10): the plan for the rest goes by their replies.",
)


def text(stage: str, plans: list[Plan], max_cost: float | None, *, batch: bool = False) -> str:
    """The table of each model, and what all of it takes. max_cost: US dollars that the run may cost;
    batch: whether calls go in batches."""
    parts = [f"Plan of pmem {stage}: no call was made."]
    for plan in plans:
        parts += ["", plan.name + (" as judge" if plan.role == "judge" else ""), *_table(plan)]
    parts += ["", _cost(plans, max_cost), _time(plans, batch=batch), NOTES[0]]
    if any(not step.earlier and step.completion for plan in plans for step in plan.steps.values()):
        parts += NOTES[1:]
    return "\n".join(parts)


def _table(plan: Plan) -> list[str]:
    rows = [HEAD, *((name, *_figures(plan, step), _source(step)) for name, step in plan.steps.items())]
    rows.append(("total", *_figures(plan, plan.total), ""))
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    return ["  ".join(_cell(row[n], widths[n], n) for n in range(len(HEAD))).rstrip() for row in rows]


def _cell(text: str, width: int, column: int) -> str:
    return text.ljust(width) if column in (0, len(HEAD) - 1) else text.rjust(width)


def _figures(plan: Plan, step: Step) -> list[str]:
    usage, cost = plan.usage(step), plan.cost(step)
    means = [f"{tokens / step.calls:,.0f}" if step.calls else "-" for tokens in (usage.prompt, usage.completion)]
    most = f"{step.longest * plan.ratio:,.0f}" if step.calls else "-"
    tokens_in = [f"{usage.prompt:,}", means[0], most]
    paid = "unknown" if cost is None else dollars(cost)
    return [f"{step.calls:,}", f"{step.known:,}", *tokens_in, f"{usage.completion:,}", means[1], paid]


def _source(step: Step) -> str:
    if not step.completion:
        return ""
    return f"from {step.earlier:,} earlier replies" if step.earlier else "assumed"


def _cost(plans: list[Plan], max_cost: float | None) -> str:
    costs = [plan.cost(plan.total) for plan in plans]
    unknown = [plan.name for plan, cost in zip(plans, costs, strict=True) if cost is None]
    known = sum(cost for cost in costs if cost is not None)
    if unknown:
        beside = f"; the rest {dollars(known)}" if known else ""
        return f"Cost: unknown, since the price of {', '.join(unknown)} is not known (--prices FILE){beside}"
    dates = sorted({plan.price.date for plan in plans if plan.price and plan.price.date})
    by = f", by prices of {', '.join(dates)}" if dates else ""
    too_much = max_cost is not None and known > max_cost
    over = f"; more than --max-cost {max_cost:g}: the run would stop before its end" if too_much else ""
    return f"Cost: {'about ' if known else ''}{dollars(known)}{by}{over}"


def _time(plans: list[Plan], *, batch: bool) -> str:
    if any(not plan.server and plan.total.calls for plan in plans):
        return "Time: not known for a model in this process"
    longest = max((plan.time() for plan in plans), key=lambda time: time.seconds, default=Time(0.0, ""))
    if not longest.seconds:
        return "Time: none"
    if batch:
        return "Time: that of batches, each within a day; calls that depend on others wait for theirs"
    assumed = f", if a reply takes {FIRST_TOKEN:g} s and {PER_TOKEN:g} s for each of its tokens (assumed)"
    known = longest.by.startswith(("--rpm", "--tpm"))
    return f"Time: about {duration(longest.seconds)}, by {longest.by}{'' if known else assumed}"
