"""Counts of what was asked and done, in Prometheus' text format."""

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from octavo.server.engine.engine import Load

TYPE = "text/plain; version=0.0.4"
OF_ENGINES = {
    "active": ("gauge", "texts that are being written"),
    "waiting": ("gauge", "texts that wait to be"),
    "blocks_taken": ("gauge", "blocks of 128 tokens that are remembered, or kept free on a shelf"),
    "blocks": ("gauge", "blocks that may be remembered"),
    "steps": ("counter", "steps of the model"),
    "read": ("counter", "tokens of prompts that were read"),
    "reused": ("counter", "tokens of prompts that another text had read"),
    "written": ("counter", "tokens that were written"),
}


@dataclass
class Counts:
    """What was answered: how often each route with each status, and how long that took in all, in seconds."""

    requests: Counter[tuple[str, int]] = field(default_factory=Counter)
    seconds: Counter[str] = field(default_factory=Counter)

    def add(self, route: str, status: int, seconds: float) -> None:
        """One answer more."""
        self.requests[route, status] += 1
        self.seconds[route] += seconds  # type: ignore[assignment]


def text(counts: Counts, loads: "dict[str, Load]") -> str:
    """All counts as text."""
    lines = ["# HELP octavo_requests_total requests that were answered", "# TYPE octavo_requests_total counter"]
    for (route, status), count in sorted(counts.requests.items()):
        lines.append(f"octavo_requests_total{_labels(route=route, status=str(status))} {count}")
    lines += ["# HELP octavo_request_seconds_total time until they were", "# TYPE octavo_request_seconds_total counter"]
    for route, seconds in sorted(counts.seconds.items()):
        lines.append(f"octavo_request_seconds_total{_labels(route=route)} {seconds:.6f}")
    for name, (kind, what) in OF_ENGINES.items():
        metric = f"octavo_{name}_total" if kind == "counter" else f"octavo_{name}"
        lines += [f"# HELP {metric} {what}", f"# TYPE {metric} {kind}"]
        lines += [f"{metric}{_labels(model=model)} {getattr(load, name)}" for model, load in loads.items()]
    return "\n".join(lines) + "\n"


def _labels(**labels: str) -> str:
    """Labels as the format writes them: {model="a"}."""
    escaped = {
        name: value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") for name, value in labels.items()
    }
    return "{" + ",".join(f'{name}="{value}"' for name, value in escaped.items()) + "}"
