"""Reports in the shapes that hospitals write, each cut by hand; the wordings are invented."""

from __future__ import annotations

import pytest

from crrg.data.reports.sections import Sections, cut_report, parse_sections
from crrg.domain.report import Report

F, I, H = "Lungs are clear.", "Normal chest.", "Cough."  # noqa: E741
NUMBERED = "IMPRESSION:\n1. Edema.\n2. No effusion."
GENERAL = {
    "every header": (f"INDICATION: {H}\nCOMPARISON: None.\nFINDINGS: {F}\nIMPRESSION: {I}", (F, I, H, "None.", ())),
    "inline headers": (f"HISTORY: {H} FINDINGS: {F} IMPRESSION: {I}", (F, I, H, None, ())),
    "inline, capitalised": (f"Findings: {F} Impression: {I}", (F, I, None, None, ())),
    "lower case": (f"indication: {H}\nfindings: {F}\nimpression: {I}", (F, I, H, None, ())),
    "no header": (F, (F, None, None, None, ())),
    "impression only": (f"IMPRESSION: {I}", (None, I, None, None, ())),
    "findings without header": (f"{F} Heart is normal.\nIMPRESSION: {I}", (f"{F} Heart is normal.", I, None, None, ())),
    "header alone in its line": (f"FINDINGS\n{F}\n\nIMPRESSION\n{I}", (F, I, None, None, ())),
    "header and dash": (f"FINDINGS - {F}\nIMPRESSION - {I}", (F, I, None, None, ())),
    "pipes": (f"FINDINGS | {F}\nIMPRESSION | {I}", (F, I, None, None, ())),
    "table": (f"| Findings | {F} |\n| Impression | {I} |", (F, I, None, None, ())),
    "joined by a slash": (f"FINDINGS/IMPRESSION: {I}", (None, I, None, None, ())),
    "joined by a word": (f"FINDINGS AND IMPRESSION: {I}", (None, I, None, None, ())),
    "joined, small letters": (f"Findings and impression: {I}", (None, I, None, None, ())),
    "numbered impression": (NUMBERED, (None, "1. Edema. 2. No effusion.", None, None, ())),
    "wet read first": (
        f"WET READ: ___ 9:55 PM\nNo effusion.\nWET READ VERSION #1\nFINAL REPORT\nFINDINGS: {F}\nIMPRESSION: {I}",
        (F, I, None, None, ()),
    ),
    "wet read alone": ("WET READ: No effusion.", ("No effusion.", None, None, None, ())),
    "addendum after": (f"IMPRESSION: {I}\nADDENDUM: Small nodule.", (None, I, None, None, ("Small nodule.",))),
    "addendum before": (
        f"ADDENDUM: Small nodule.\nFINDINGS: {F}\nIMPRESSION: {I}",
        (F, I, None, None, ("Small nodule.",)),
    ),
    "two addenda": (
        f"IMPRESSION: {I}\nADDENDUM 1: Nodule.\nADDENDUM 2: CT advised.",
        (None, I, None, None, ("Nodule.", "CT advised.")),
    ),
    "boilerplate": (
        f"FINAL REPORT\nFINDINGS: {F}\nIMPRESSION: {I}\n\nI, the teaching physician, have seen it.\nEND OF IMPRESSION",
        (F, I, None, None, ()),
    ),
    "signature": (f"IMPRESSION: {I}\nElectronically signed by ___\nDictated by: ___", (None, I, None, None, ())),
    "all capitals": (
        "EXAM: CHEST TWO VIEWS.\nFINDINGS: LUNGS CLEAR.\nIMPRESSION: NORMAL.",
        ("LUNGS CLEAR.", "NORMAL.", None, None, ()),
    ),
    "organs as headers": (
        f"FINDINGS:\nLUNGS: Clear.\nHEART: Normal.\nIMPRESSION: {I}",
        ("LUNGS: Clear. HEART: Normal.", I, None, None, ()),
    ),
    "views as header": (f"CHEST, PA AND LATERAL: {F}\nIMPRESSION: {I}", (F, I, None, None, ())),
    "reason for examination": (f"REASON FOR EXAMINATION: {H}\nFINDINGS: {F}", (F, None, H, None, ())),
    "conclusion": (f"Description: {F}\nConclusion: {I}", (F, I, None, None, ())),
    "windows line ends": (f"FINDINGS: {F}\r\n\r\nIMPRESSION: {I}\r\n", (F, I, None, None, ())),
    "empty section": (f"FINDINGS:\nIMPRESSION: {I}", (None, I, None, None, ())),
    "recommendation": (f"FINDINGS: {F}\nRECOMMENDATION: CT in 3 months.\nIMPRESSION: {I}", (F, I, None, None, ())),
    "colon in a sentence": ("FINDINGS: Tubes: none moved.", ("Tubes: none moved.", None, None, None, ())),
    "nothing": (" \n ", (None, None, None, None, ())),
}  # fmt: skip

C = f"                                 FINAL REPORT\n INDICATION:  {H}\n\n COMPARISON:  None.\n"
COMPATIBLE = {
    "usual": (f"{C}\n FINDINGS:  {F}\n\n IMPRESSION:  {I}", (F, I, H)),
    "views as header": (f"{C}\n PA AND LATERAL VIEWS OF THE CHEST:  {F}\n\n IMPRESSION:  {I}", (F, I, H)),
    "joined": (f"{C}\n FINDINGS/IMPRESSION:  {I}", (None, I, H)),
    "joined by a word": (f"{C}\n FINDINGS AND IMPRESSION:  {I}", (None, I, H)),
    "last findings": (f"{C}\n FINDINGS:  Old.\n FINDINGS:\n {F}", (F, None, H)),
    "last findings empty": (f"{C}\n FINDINGS:  {F}\n FINDINGS: \n IMPRESSION: {I}", (None, I, H)),
    "named inside": (f"{C}\n FINAL IMPRESSION:  {I}", (None, I, H)),
    "other word": (f"{C}\n CONCLUSION:  {I}", (None, I, H)),
    "small letters are text": (f"{C}\n FINDINGS:  {F}\n Impression:  {I}", (f"{F} Impression: {I}", None, H)),
    "no space before the header": (f"{C}\n FINDINGS:  {F}\nIMPRESSION:  {I}", (f"{F} IMPRESSION: {I}", None, H)),
    "header in a header's line": (f"{C}\n FINDINGS: {F} IMPRESSION: {I}", (f"{F} IMPRESSION: {I}", None, H)),
    "organs begin sections": (f"{C}\n FINDINGS:  {F}\n HEART:  Normal.", (F, None, H)),
    "text before the first header": (f"{F}\n\n IMPRESSION:  {I}", (None, I, None)),
    "no header": (F, (None, None, None)),
    "wrapped lines": (f"{C}\n FINDINGS:  Lungs\n are   clear.\n", (F, None, H)),
}


@pytest.mark.parametrize("shape", GENERAL)
def test_general_mode(shape):
    text, expected = GENERAL[shape]
    assert cut_report(text) == Sections(*expected)


@pytest.mark.parametrize("shape", COMPATIBLE)
def test_compatible_mode(shape):
    text, expected = COMPATIBLE[shape]
    assert parse_sections(text, "compatible") == Report(*expected)


def test_addenda_close_the_impression():
    assert parse_sections("ADDENDUM: Nodule.\nIMPRESSION: Normal.").impression == "Normal. Nodule."
