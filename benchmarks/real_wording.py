"""What words real reports teach: a generator that learnt from Open-i's reports beside one of drawn reports.

Films are drawn for every report of Open-i (its codes say what they show), the texts stay as radiologists wrote them.
The films with their texts alone become a dataset, are grounded by the detector of a finished root, and train a bundle
of the preset ``tiny`` for which unmentioned findings are absent. It and the root's own bundle are scored on reports of
the test split, beside baselines that know the training split: the report that always says normal, the best constant
one, the nearest neighbour's. Goes on where it was stopped.
Run: ``CRRG_OPEN_DATA=FOLDER python -m benchmarks.real_wording --root ROOT --folder FOLDER [--studies 4000]``
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from benchmarks.classification.cohorts import REPORTS
from benchmarks.grounded_training import SIZE, Bench, only_texts, show
from benchmarks.roots import find_bundle
from crrg.domain.study import Split
from crrg.operations.phantom import draw_phantom
from crrg.registry.bundle import read_bundle
from crrg.storage import Storage

SEED = 104
FIGURES = (
    "rgrg/bleu_4", "r2gen/bleu_4", "nltk/bleu_4", "rgrg/rouge_l", "rgrg/cider_d", "clinical/micro_f1",
    "clinical/macro_f1", "classification/mean_auc",
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="of a finished `crrg demo`, whose detector and bundle are used")
    parser.add_argument("--folder", type=Path, required=True, help="of the drawn films and what is trained on them")
    parser.add_argument("--studies", type=int, default=4000, help="of the table, chosen by the seed, at most")
    options = parser.parse_args()
    cohorts: Path = options.folder.absolute()
    if not (cohorts / "openi" / "truth.parquet").exists():
        table = str(Path(os.environ["CRRG_OPEN_DATA"]) / REPORTS)
        draw_phantom(str(cohorts / "openi"), options.studies, SEED, SIZE, table, workers=os.cpu_count() or 1)
    only_texts(cohorts / "openi", cohorts / "openi-texts")
    bench = Bench(cohorts)
    source = Storage(options.root)
    drawn = find_bundle(source)
    grounded = bench.ground(bench.ingest("openi-texts"), source.url(drawn.prefix))
    real = bench.train(grounded, unmentioned_absent=True)
    cards = {
        "drawn reports": bench.score(read_bundle(source, drawn), grounded, grounded, (Split.TEST,)),
        "real reports": bench.score(read_bundle(bench.storage, real), grounded, grounded, (Split.TEST,)),
    }
    print(f"{cards['real reports'].num_studies} studies\n")
    show(cards, FIGURES, with_baselines=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
