"""Draw the sentences of the Open-i collection that the gold set of grounding is annotated on, and keep the answers.

Without ``--answers`` the drawn sentences are listed, each after the one before it; a person writes region sets beside
their numbers. With ``--answers`` the gold set is written: study number, section, sentence index, digest of the sentence
and regions, never a word of text. Half of the sentences are drawn as they occur, half from the distinct ones, so that
rare wordings have a say. The rules were written with these in mind; the last 60 were drawn and read afterwards, and
changed no rule: only they are held out. Run:
``python -m benchmarks.grounding_sample [--answers FILE --out GOLD.csv]``
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import random
from dataclasses import dataclass, replace
from pathlib import Path

from crrg.config.base import Settings
from crrg.data.reports.sections import clean_text
from crrg.domain.regions import REGION_INDEX, REGIONS
from crrg.domain.sentences import split_sentences

SEED = 20261123
NUM_PER_STRATUM = 130
NUM_HELD_OUT = 60
DIGEST_CHARACTERS = 16
COLUMNS = ("uid", "section", "sentence_index", "sentence_sha256", "stratum", "regions")


@dataclass(frozen=True)
class Drawn:
    """One sentence of a section, with all sentences of it."""

    uid: str
    section: str
    index: int
    sentences: tuple[str, ...]
    stratum: str

    @property
    def text(self) -> str:
        """The sentence."""
        return self.sentences[self.index]

    @property
    def digest(self) -> str:
        """What the gold set knows the sentence by."""
        return sentence_digest(self.text)


def sentence_digest(sentence: str) -> str:
    return hashlib.sha256(sentence.encode()).hexdigest()[:DIGEST_CHARACTERS]


def report_sentences(reports: Path) -> dict[tuple[str, str], tuple[str, ...]]:
    """Return the sentences of every section, by study number and section."""
    sections: dict[tuple[str, str], tuple[str, ...]] = {}
    with reports.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            for section in ("findings", "impression"):
                sections[row["uid"], section] = tuple(split_sentences(clean_text(row[section])))
    return sections


def draw(reports: Path) -> list[Drawn]:
    """Return the drawn sentences; the same table gives the same ones."""
    every = [
        Drawn(uid, section, index, sentences, "occurring")
        for (uid, section), sentences in report_sentences(reports).items()
        for index in range(len(sentences))
    ]
    rng = random.Random(SEED)
    occurring = rng.sample(every, NUM_PER_STRATUM)
    taken = {item.text.lower() for item in occurring}
    first_of = {item.text.lower(): item for item in reversed(every)}
    rare = sorted(set(first_of) - taken)
    distinct = rng.sample(rare, NUM_PER_STRATUM)
    held_out = random.Random(SEED + 1).sample(sorted(set(rare) - set(distinct)), NUM_HELD_OUT)
    strata = [*((text, "distinct") for text in distinct), *((text, "held out") for text in held_out)]
    return occurring + [replace(first_of[text], stratum=stratum) for text, stratum in strata]


def write_gold(drawn: list[Drawn], answers: Path, out: Path) -> None:
    """Join region sets ``number<TAB>region;region`` to the drawn sentences; every number must be there once."""
    regions: dict[int, list[str]] = {}
    for line in answers.read_text(encoding="utf-8").splitlines():
        number, _, names = line.partition("\t")
        regions[int(number)] = sorted(filter(None, names.strip().split(";")), key=lambda name: REGION_INDEX[name])
    if sorted(regions) != list(range(len(drawn))):
        raise SystemExit(f"{len(regions)} answers for {len(drawn)} sentences")
    with out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for number, item in enumerate(drawn):
            writer.writerow((item.uid, item.section, item.index, item.digest, item.stratum, ";".join(regions[number])))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reports", type=Path, help="reports.csv of Open-i; under CRRG_OPEN_DATA if not given")
    parser.add_argument("--answers", type=Path, help="region sets by number")
    parser.add_argument("--out", type=Path, default=Path("tests/real/gold/grounding_openi.csv"))
    arguments = parser.parse_args()
    open_data = Settings().open_data
    reports = arguments.reports or (open_data / "openi" / "reports.csv" if open_data else None)
    if reports is None:
        print("skipped: give --reports or set CRRG_OPEN_DATA (docs/real-data.md)")
        return
    drawn = draw(reports)
    if arguments.answers:
        write_gold(drawn, arguments.answers, arguments.out)
        return
    print("regions:", "; ".join(REGIONS))
    for number, item in enumerate(drawn):
        before = item.sentences[item.index - 1] if item.index else "-"
        print(f"{number}\t{item.section}\t[{before}]\t{item.text}")


if __name__ == "__main__":
    main()
