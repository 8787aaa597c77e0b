"""Scores finished runs of the comparison of architectures, and sums up who is better by how much."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

from benchmarks.generation_quality.architectures import Arena
from benchmarks.generation_quality.cohort import sentence_figures
from benchmarks.generation_quality.contest_scores import further_figures, score_baselines, score_run, summarise
from benchmarks.generation_quality.provenance import scoring_code
from crrg.domain.study import Pair
from crrg.inference.pipeline import ReportPipeline
from crrg.operations.scoring.cases import Case, fit_baselines
from crrg.training.checkpoint import config_hash

CHUNK_SIZE = 50


class Jury:
    """Scores finished runs on films that no training saw."""

    def __init__(self, arena: Arena, pairs: list[Pair], pipeline: Callable[[], ReportPipeline]) -> None:
        """Keep the films.

        Args:
            arena: With finished runs.
            pairs: Frontal films with references.
            pipeline: Loads a bundle, whose label stage serves both architectures and is not compared.
        """
        self.arena = arena
        self.pairs = pairs
        self._pipeline = pipeline

    @functools.cached_property
    def pipeline(self) -> ReportPipeline:
        """The bundle's stages."""
        return self._pipeline()

    def score_all(self) -> bool:
        """Score what is trained and not scored; return whether all is, and summarise then."""
        table, done, runs = self.arena.table, True, self.arena.run_keys()
        for name, keys in runs.items():
            for key in keys:
                if key not in table.rows or (self._scored(key) not in table.rows and self.arena.is_over()):
                    done = False
                    continue
                table.fill(self._scored(key), lambda key=key, name=name: self._score(key, name.split(",")[0]))
        known = f"{self.arena.prefix}/{self._cohort}/baselines"
        if done:
            table.fill(known, self._baselines)
            summary = f"{self.arena.prefix}/{self._cohort}/{self._title()}"
            table.fill(summary, lambda: self._summary(runs, table.rows[known]))
        return done

    def _title(self) -> str:
        """Return the name of a summary of what is compared."""
        parts = "".join(f" {name}" for name in self.arena.variants)
        return f"summary{parts}{'' if self.arena.contest.with_paper else ' without paper'}"

    @property
    def _cohort(self) -> str:
        films = [pair.study_id for pair in self.pairs]
        return f"{len(self.pairs)}-films-{config_hash(code=scoring_code(), films=films)[:8]}"

    def _scored(self, key: str) -> str:
        return f"{key}/{self._cohort}"

    def _score(self, key: str, name: str) -> dict[str, Any]:
        parts, contender = self.arena.load(self.arena.table.rows[key]["parts"]), self.arena.contender(name)
        assert parts.thresholds is not None
        given = {field.name: getattr(parts, field.name) for field in fields(parts)}
        # fusion and visibility of the bundle are fitted to its own selector and detector
        drafter = replace(
            self.pipeline,
            **given,
            tokenizer=self.arena.films.tokenizer,
            decoding=contender.decoding,
            fusion=None,
            visibility=None,
        )
        return score_run(self._cases(drafter), parts.thresholds.abnormal)

    def _baselines(self) -> dict[str, Any]:
        known = fit_baselines(self.arena.contest.root, self.arena.contest.dataset)
        return score_baselines(self._cases(self.pipeline), known)

    def _cases(self, drafter: ReportPipeline) -> list[Case]:
        cases: list[Case] = []
        for first in range(0, len(self.pairs), CHUNK_SIZE):
            chunk = self.pairs[first : first + CHUNK_SIZE]
            drafts = drafter.draft([pair.film for pair in chunk if pair.film is not None])
            cases += [Case(pair, draft) for pair, draft in zip(chunk, drafts, strict=True)]
        return cases

    def _summary(self, runs: dict[str, list[str]], baselines: dict[str, Any]) -> dict[str, Any]:
        rows = self.arena.table.rows
        patients = [pair.patient_id for pair in self.pairs]
        sums = {name: [rows[self._scored(key)]["sums"] for key in keys] for name, keys in runs.items()}
        both = self.arena.contenders if self.arena.contest.with_paper else ()
        budget = {name: sums[name] for name in both}
        steps = {name: sums[f"{name}, equal steps"] for name in both}
        return {
            "num_films": len(self.pairs),
            "budget": summarise(budget, patients) if both else {},
            "steps": summarise(steps, patients) if both else {},
            "variants": {
                name: {
                    "budget": summarise({name: sums[name], "crrg": sums["crrg"]}, patients),
                    "steps": self._at_equal_steps(name, sums, patients),
                }
                for name in self.arena.variants
            },
            "baselines": {name: summarise({"": [given["sums"]]}, patients) for name, given in baselines.items()},
            "further": self._further(runs, baselines),
            "never_right": {
                name: [rows[self._scored(key)]["never_right"] for key in keys] for name, keys in runs.items()
            },
        }

    def _at_equal_steps(self, name: str, sums: dict[str, list[Any]], patients: list[str]) -> dict[str, dict[str, Any]]:
        """Return a variant's figures beside ours for one run each; empty where all runs have equal steps."""
        if not self.arena.contest.budget_s:
            return {}
        return summarise({name: sums[f"{name}, equal steps"], "crrg": sums["crrg"][:1]}, patients)

    def _further(self, runs: dict[str, list[str]], baselines: dict[str, Any]) -> dict[str, dict[str, list[float]]]:
        """Return by who says it what has no interval: each figure of each of its runs."""
        rows = self.arena.table.rows
        said = {name: [rows[self._scored(key)] for key in keys] for name, keys in runs.items()}
        for name, given in baselines.items():
            said[name] = [{"text": given["text"], "sentences": given["sentences"]}]
            # all have the same boxes
            said["mean box"] = [{"sums": given["sums"]}]
        said["references"] = [{"sentences": sentence_figures([pair.report.findings or "" for pair in self.pairs])}]
        found = {name: [further_figures(row) for row in each] for name, each in said.items()}
        return {name: {figure: [row[figure] for row in each] for figure in each[0]} for name, each in found.items()}
