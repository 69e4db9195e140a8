"""What a benchmark found: tables, goals and curves, as JSON, and the page and figure that are made from it."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Curve", "Goal", "Result", "Table", "load", "save"]


@dataclass
class Table:
    """Rows of one measurement; the keys of the first row are the columns, in order."""

    title: str
    rows: list[dict[str, Any]]
    note: str = ""  # what was measured and how: sizes, batch, precision, the peer and its version


@dataclass
class Goal:
    """What was aimed at and what was reached, in one number; `limit` says what stands in the way of a missed one."""

    name: str
    target: float
    reached: float | None  # None: not measured on this machine
    unit: str = "×"
    at_most: bool = False  # the goal is an upper bound
    limit: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the goal was reached; None if it was not measured."""
        if self.reached is None:
            return None
        return self.reached <= self.target if self.at_most else self.reached >= self.target


@dataclass
class Curve:
    """Lines of one panel of the figure: `lines` maps a label to [x values, y values]."""

    title: str
    x_label: str
    y_label: str
    lines: dict[str, list[list[float]]]
    log_x: bool = False


@dataclass
class Result:
    """Everything that one benchmark found."""

    benchmark: str  # the script's name: pipeline, step, …
    title: str
    tables: list[Table] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    seconds: float = 0.0  # that the benchmark took
    machine: dict[str, Any] = field(default_factory=dict)  # device, versions, commit; filled in by benchmarks.run


def save(result: Result, path: Path) -> None:
    """Write a result as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(result), indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def load(path: Path) -> Result:
    """Read what `save` wrote."""
    content = json.loads(path.read_text(encoding="utf-8"))
    kinds = {"tables": Table, "goals": Goal, "curves": Curve}
    parts = {name: [kind(**item) for item in content.pop(name)] for name, kind in kinds.items()}
    return Result(**content, **parts)
