"""What a person sees while a command runs: log lines, and on a terminal a bar below them for the step that runs.

The library counts (``crrg.progress``) and logs; how that looks is decided here and nowhere else.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

    from crrg.progress import Progress

DRAW_EVERY_S = 0.1
LAST_COLUMN_WIDTH = 40
"""Up to here the last column of a table is filled up with blanks: a long remark would push all rows off a terminal."""
PROGRESS_LOGGER = "crrg.progress"


@contextmanager
def log_lines() -> Iterator[None]:
    """Show the library's log lines on standard error while the block runs, with bars where that is a terminal.

    Other libraries speak up from warnings on. A program around this one that has set up its own log lines keeps them.
    """
    root = logging.getLogger()
    logging.getLogger("crrg").setLevel(logging.INFO)
    if root.handlers:
        yield
        return
    bars = Bars() if sys.stderr.isatty() else None
    lines = LineHandler(bars)
    lines.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    root.addHandler(lines)
    try:
        if bars is None:
            yield
            return
        from crrg.progress import listening

        lines.addFilter(lambda record: record.name != PROGRESS_LOGGER)
        with listening(bars.show):
            yield
    finally:
        if bars is not None:
            bars.close()
        root.removeHandler(lines)


def aligned(markdown: str) -> str:
    """Return Markdown with table columns of equal width, as a person reads them on a terminal; it stays Markdown."""
    lines: list[str] = []
    rows: list[list[str]] = []
    for line in [*markdown.split("\n"), ""]:
        if line.startswith("|") and line.endswith("|"):
            rows.append([cell.strip() for cell in line[1:-1].split("|")])
            continue
        lines += _aligned_rows(rows)
        rows = []
        lines.append(line)
    return "\n".join(lines[:-1])


def _aligned_rows(rows: list[list[str]]) -> list[str]:
    """Return a table's lines; the second row says by its colons which columns are right-aligned."""
    if len({len(row) for row in rows}) != 1 or len(rows) < 2:
        return [f"| {' | '.join(row)} |" for row in rows]
    columns = list(zip(*rows, strict=True))
    widths = [max(3, *(len(cell) for place, cell in enumerate(column) if place != 1)) for column in columns]
    widths[-1] = min(widths[-1], LAST_COLUMN_WIDTH)
    shown = []
    for place, row in enumerate(rows):
        cells = []
        for cell, width, rule in zip(row, widths, rows[1], strict=True):
            if place == 1:
                cells.append(f"{':' if cell.startswith(':') else '-'}{'-' * (width - 2)}{cell[-1]}")
            else:
                cells.append(cell.rjust(width) if rule.endswith(":") and rule[0] != ":" else cell.ljust(width))
        shown.append(f"| {' | '.join(cells)} |")
    return shown


class LineHandler(logging.Handler):
    """Writes log lines to standard error, above the bar where there is one."""

    def __init__(self, bars: Bars | None) -> None:
        """Write above these bars."""
        super().__init__()
        self._bars = bars

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        line = self.format(record)
        if self._bars is None or not self._bars.write(line):
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()


class Bars:
    """Draws a bar for the step that runs; the bar of a finished step stays as one line."""

    def __init__(self) -> None:
        """Draw on standard error, from the first progress on."""
        self._shown: Progress | None = None
        self._drawn_s = 0.0
        self._display: RichProgress | None = None

    def show(self, progress: Progress) -> None:
        """Draw a step's progress; another step's bar begins a line of its own."""
        if self._shown is None or progress.what != self._shown.what:
            self.close()
            self._display = _display(progress)
        self._shown = progress
        if progress.is_done:
            self.close()
        elif time.monotonic() - self._drawn_s >= DRAW_EVERY_S:
            self._draw(progress)

    def write(self, line: str) -> bool:
        """Write a line above the bar; ``False`` where no bar is drawn."""
        if self._display is None:
            return False
        self._display.console.print(line, markup=False, highlight=False, soft_wrap=True)
        return True

    def close(self) -> None:
        """Leave the bar where its step was last, and go to the next line."""
        if self._display is not None and self._shown is not None:
            self._draw(self._shown)
            self._display.stop()
        self._display = self._shown = None

    def _draw(self, progress: Progress) -> None:
        if self._display is not None:
            (task,) = self._display.task_ids
            done, total = progress.num_done, progress.total or None
            self._display.update(task, completed=done, total=total, note=progress.note, refresh=True)
            self._drawn_s = time.monotonic()


def _display(progress: Progress) -> RichProgress:
    """Return a started display with one bar; rich is imported here, so that a command's help does not wait for it."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    display = RichProgress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}", markup=False),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        console=Console(stderr=True),
        auto_refresh=False,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    display.add_task(
        progress.what, completed=progress.num_done, total=progress.total or None, unit=progress.unit, note=progress.note
    )
    display.start()
    return display
