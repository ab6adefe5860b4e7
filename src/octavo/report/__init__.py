"""How good a model is, honestly: figures on text that it has not learned from, beside what simpler means come to."""

from octavo.report.making import report
from octavo.report.result import Report

__all__ = ["Report", "report"]
