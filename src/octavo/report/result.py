"""A whole report, and its two written forms: values for a page, and Markdown for people."""

from dataclasses import asdict, dataclass
from typing import Any

from octavo.report.findings import Findings
from octavo.report.markdown import written


@dataclass(frozen=True)
class Report(Findings):
    """How good a model is, with its written forms."""

    def to_dict(self) -> dict[str, Any]:
        """As plain values, ready for JSON."""
        return asdict(self)

    def to_markdown(self) -> str:
        """As a page in Markdown, which is how a notebook shows it."""
        return written(self)

    _repr_markdown_ = to_markdown
