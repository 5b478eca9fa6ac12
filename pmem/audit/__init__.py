"""What a cheater who never saw the history could exploit in a set of questions: found, measured, balanced away."""

from pmem.errors import MissingExtra


def need_extra(what: str) -> None:
    """Raise MissingExtra where numpy, scipy, scikit-learn or statsmodels is missing; `what` can't do without."""
    try:
        import numpy  # noqa: F401
        import scipy  # noqa: F401
        import sklearn  # noqa: F401
        import statsmodels  # noqa: F401
    except ImportError:
        raise MissingExtra(what, "report") from None
