"""METEOR 1.5 itself, asked through its Java program where someone has the jar.

One Java process for a whole evaluation (its start takes longer than thousands of pairs), and each different pair of
texts is sent once. The jar and its data are not part of this project; ``meteor`` is what needs neither.

Source: Denkowski and Lavie, Meteor Universal, WMT 2014; the dialogue is that of the jar's ``-stdio`` mode.
"""

from __future__ import annotations

import contextlib
import hashlib
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np

from crrg.errors import ConfigError
from crrg.evaluation.bootstrap import Statistic

WAY_OUT = "give the path of meteor-1.5.jar with its data folder beside it, or nothing for the METEOR without Java"
JAVA = ("java", "-Xmx2G", "-jar")
"""Command that runs a jar."""
_SEPARATOR = " ||| "


class JavaMeteor:
    """A running METEOR 1.5; use it as a context, and for as many sets of reports as there are."""

    def __init__(self, jar: Path, *, java: Sequence[str] = JAVA) -> None:
        """Start the program.

        Args:
            jar: Path of ``meteor-1.5.jar``.
            java: Command that runs a jar.

        Raises:
            ConfigError: There is no such jar, or no Java.
        """
        _require(jar)
        command = [*java, str(jar), "-", "-", "-stdio", "-l", "en", "-norm"]
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8"
            )
        except OSError as error:
            raise ConfigError(f"METEOR 1.5 needs Java, which does not start here: {WAY_OUT}", "meteor_jar") from error
        self._statistics: dict[tuple[str, str], str] = {}

    def __enter__(self) -> JavaMeteor:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the program."""
        self.close()

    def close(self) -> None:
        """End the program."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        self._process.kill()
        self._process.wait()

    def score(self, candidates: Sequence[str], references: Sequence[str]) -> tuple[float, list[float]]:
        """Return METEOR 1.5 of the whole set and of each report (0..1).

        Args:
            candidates: Drafts; METEOR lower-cases and tokenises them itself.
            references: Reports in the same order.

        Returns:
            0 and nothing for no report.

        Raises:
            ConfigError: The program ended or answered something else than a number.
        """
        if not candidates:
            return 0.0, []
        *values, whole = self._evaluate(self._ask(candidates, references))
        return whole, values

    def statistic(self, candidates: Sequence[str], references: Sequence[str]) -> Statistic:
        """Return METEOR 1.5 of the whole set as sums per report, which it is asked to evaluate for any part of them.

        Args:
            candidates: At least one draft.
            references: Reports in the same order.

        Raises:
            ConfigError: The program ended or answered something else than numbers.
        """
        answers = self._ask(candidates, references)
        try:
            counts = np.array([[float(number) for number in answer.split()] for answer in answers])
        except ValueError as error:
            raise ConfigError(f"METEOR answered no number: {WAY_OUT}", "meteor_jar") from error
        return Statistic(counts, lambda sums: self._evaluate([" ".join(map(str, sums.tolist()))])[-1])

    def _ask(self, candidates: Sequence[str], references: Sequence[str]) -> list[str]:
        """Return what METEOR counts in each pair."""
        pairs = [(_on_one_line(a), _on_one_line(b)) for a, b in zip(candidates, references, strict=True)]
        for pair in pairs:
            if pair not in self._statistics:
                self._say(_SEPARATOR.join(("SCORE", pair[1], pair[0])))
                self._statistics[pair] = self._hear()
        return [self._statistics[pair] for pair in pairs]

    def _evaluate(self, counted: Sequence[str]) -> list[float]:
        """Return METEOR of each of what it counted, and last of all together."""
        self._say(_SEPARATOR.join(("EVAL", *counted)))
        try:
            return [float(self._hear()) for _ in range(len(counted) + 1)]
        except ValueError as error:
            raise ConfigError(f"METEOR returned no score: {WAY_OUT}", "meteor_jar") from error

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except OSError as error:
            raise ConfigError(f"METEOR exited before its work was done: {WAY_OUT}", "meteor_jar") from error

    def _hear(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise ConfigError(f"METEOR exited before its work was done: {WAY_OUT}", "meteor_jar")
        return line.strip()


def jar_digest(jar: Path) -> str:
    """Return the sha256 of a jar.

    Raises:
        ConfigError: There is no such jar.
    """
    _require(jar)
    return hashlib.sha256(jar.read_bytes()).hexdigest()


def _require(jar: Path) -> None:
    if not jar.is_file():
        raise ConfigError(f"there is no METEOR jar at the path given: {WAY_OUT}", "meteor_jar")


def _on_one_line(text: str) -> str:
    return " ".join(text.replace("|||", " ").split())
