"""How well sentences are tied to regions: against drawn scene graphs, and against real sentences read by hand.

Drawn: every sentence of the findings of drawn reports, truth = the regions whose phrase holds it. Real: the gold set of
Open-i sentences (``grounding_sample``), where the open data is. Beside both stands a keyword match that knows no sides:
a word means its region on both sides. Run: ``python -m benchmarks.grounding_drawn [--studies N] [--disagreements N]``
"""

from __future__ import annotations

import argparse
import csv
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from benchmarks.grounding_sample import report_sentences, sentence_digest
from crrg.config.base import Settings
from crrg.data.phantom.cohort import drawn_study
from crrg.data.reports.grounding import SentenceContext, ground_sentence
from crrg.domain.regions import REGIONS
from crrg.domain.sentences import split_sentences

GOLD = Path(__file__).parents[1] / "tests" / "real" / "gold" / "grounding_openi.csv"
SEED = 20261123
KEYWORDS: dict[str, tuple[str, ...]] = {
    "lung": ("lung", "pulmonary", "opacit", "consolidation", "airspace", "infiltrate", "nodule", "edema"),
    "upper lung zone": ("upper lobe", "upper lung"),
    "mid lung zone": ("middle lobe", "midlung", "mid lung"),
    "lower lung zone": ("lower lobe", "lower lung", "base", "basilar", "basal"),
    "hilar structures": ("hilar", "hila", "vascul"),
    "apical zone": ("apex", "apical", "apices", "pneumothora"),
    "costophrenic angle": ("costophrenic", "effusion"),
    "hemidiaphragm": ("diaphragm",),
    "clavicle": ("clavic",),
    "trachea": ("trachea",),
    "spine": ("spine", "vertebra", "degenerative"),
    "aortic arch": ("aort",),
    "mediastinum": ("mediastin",),
    "upper mediastinum": ("upper mediastin", "superior mediastin"),
    "svc": ("svc",),
    "cardiac silhouette": ("heart", "cardi"),
    "cavoatrial junction": ("cavoatrial",),
    "right atrium": ("right atri",),
    "carina": ("carina",),
    "abdomen": ("abdom", "stomach"),
}
"""The words of the baseline; of each region the commonest ones."""

Example = tuple[str, frozenset[str], frozenset[str], str]
"""Sentence, truth, what was found, group."""


def keyword_regions(sentence: str) -> frozenset[str]:
    text = sentence.lower()
    stems = [stem for stem, words in KEYWORDS.items() if any(word in text for word in words)]
    return frozenset(r for r in REGIONS if any(r in (stem, f"right {stem}", f"left {stem}") for stem in stems))


def drawn_examples(num_studies: int) -> Iterator[Example]:
    for index in range(num_studies):
        report = drawn_study(SEED, index).report
        context = SentenceContext()
        for sentence in split_sentences(report.findings):
            found = ground_sentence(sentence, context)
            context = SentenceContext(found)
            truth = {region for region, phrase in report.phrases.items() if sentence in split_sentences(phrase)}
            kind = "abnormal" if truth & report.abnormal_regions else "normal"
            yield sentence, frozenset(truth), frozenset(found), kind


def gold_examples(reports: Path, gold: Path = GOLD) -> Iterator[Example]:
    """Yield the gold sentences that the table holds; a sentence is read with the ones before it."""
    sections = report_sentences(reports)
    with gold.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            sentences = sections.get((row["uid"], row["section"]), ())
            index = int(row["sentence_index"])
            if index >= len(sentences) or sentence_digest(sentences[index]) != row["sentence_sha256"]:
                raise SystemExit("the table is not the one the gold set was drawn from")
            context = SentenceContext()
            for sentence in sentences[:index]:
                context = SentenceContext(ground_sentence(sentence, context))
            found = ground_sentence(sentences[index], context)
            truth = frozenset(filter(None, row["regions"].split(";")))
            yield sentences[index], truth, frozenset(found), row["stratum"]


def score(pairs: Iterable[tuple[frozenset[str], frozenset[str]]]) -> dict[str, float]:
    """Return micro precision, recall and F1 over (truth, found), and the share of sentences that are wholly right."""
    hits = found_total = truth_total = exact = num = 0
    for truth, found in pairs:
        hits += len(truth & found)
        found_total += len(found)
        truth_total += len(truth)
        exact += truth == found
        num += 1
    return {
        "sentences": num,
        "precision": hits / max(1, found_total),
        "recall": hits / max(1, truth_total),
        "f1": 2 * hits / max(1, found_total + truth_total),
        "exact": exact / max(1, num),
    }


def report_scores(title: str, examples: list[Example]) -> None:
    print(f"| {title} | sentences | precision | recall | F1 | wholly right |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    groups = {"": examples} | {
        f", {group}": [example for example in examples if example[3] == group]
        for group in sorted({example[3] for example in examples})
    }
    rows = {f"lexicon{name}": [(truth, found) for _, truth, found, _ in part] for name, part in groups.items()}
    for name, part in groups.items():
        rows[f"keywords without sides{name}"] = [(truth, keyword_regions(text)) for text, truth, _, _ in part]
    for name, pairs in rows.items():
        s = score(pairs)
        figures = " | ".join(f"{s[key]:.3f}" for key in ("precision", "recall", "f1", "exact"))
        print(f"| {name} | {s['sentences']} | {figures} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--reports", type=Path, help="reports.csv of Open-i; under CRRG_OPEN_DATA if not given")
    parser.add_argument("--gold", type=Path, default=GOLD)
    parser.add_argument("--disagreements", type=int, default=0, help="list so many drawn sentences read otherwise")
    arguments = parser.parse_args()
    drawn = list(drawn_examples(arguments.studies))
    report_scores(f"{arguments.studies} drawn reports", drawn)
    wrong = Counter((s, tuple(sorted(f - t)), tuple(sorted(t - f))) for s, t, f, _ in drawn if t != f)
    for (sentence, more, less), count in wrong.most_common(arguments.disagreements):
        print(f"{count}\t{sentence}\tmore: {', '.join(more) or '-'}\tless: {', '.join(less) or '-'}")
    open_data = Settings().open_data
    reports = arguments.reports or (open_data / "openi" / "reports.csv" if open_data else None)
    if reports is None:
        print("real sentences skipped: give --reports or set CRRG_OPEN_DATA (docs/real-data.md)")
        return
    report_scores("real sentences", list(gold_examples(reports, arguments.gold)))


if __name__ == "__main__":
    main()
