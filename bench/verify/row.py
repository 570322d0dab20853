"""What was found of one run: a cell for each thing that can be checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

COLUMNS = ("record", "checksum", "weights", "MACs", "parameters", "score", "identity")

State = Literal["ok", "wrong", "absent"]


@dataclass(frozen=True)
class Cell:
    """Attributes: state ("absent": there is nothing to check it with); text: what was found, or why it was not looked for."""

    state: State
    text: str = ""


NOTHING = Cell("absent", "not looked at")


@dataclass
class Row:
    """One run, or another file of a suite's folder.

    Attributes:
        run: `suite/key`, as the folders are called.
        cells: by column.
    """

    run: str
    cells: dict[str, Cell] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.cells = dict.fromkeys(COLUMNS, NOTHING) | self.cells

    def put(self, column: str, wrong: list[str], otherwise: Cell) -> None:
        """`otherwise`, or what is wrong. What was found wrong before is kept."""
        before = self.cells[column]
        if wrong:
            texts = [before.text] if before.state == "wrong" else []
            self.cells[column] = Cell("wrong", "; ".join([*texts, *wrong]))
        elif before.state != "wrong":
            self.cells[column] = otherwise

    @property
    def wrong(self) -> bool:
        return any(cell.state == "wrong" for cell in self.cells.values())

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {"run": self.run, **{name: {"state": c.state, "text": c.text} for name, c in self.cells.items()}}
