"""Cuts a report as published work on MIMIC-CXR does, so that reference texts can be compared; see ``sections`` too.

A header is a line that begins with one space and goes on in capitals to a colon. Headers in other shapes are text, and
what stands before the first header counts for nothing. Rules are those of the original, the code is our own. Reports
that the original cuts by hand have no published reference text and are left out.

Source: the section parser that MIT-LCP publishes for MIMIC-CXR, as used for the references of RGRG
(Tanida et al., CVPR 2023).
"""

from __future__ import annotations

import re

_HEADER = re.compile(r"\n ([A-Z ()/,-]+):\s")
_SECTION_OF: dict[str, str] = {
    "conclusion": "impression", "conclusions": "impression", "opinion": "impression", "summary": "impression",
    "findings/impression": "impression", "findings and impression": "impression", "impressions": "impression",
    "finding": "findings", "observations": "findings", "results": "findings", "report": "findings",
    "reason for exam": "indication", "reason for examination": "indication", "history": "indication",
    "clinical history": "indication", "clinical information": "indication", "indications": "indication",
    "comparisons": "comparison", "comparison studies": "comparison",
}  # fmt: skip
_BY_SECTION = """
    50058765 50743547 50808053 50913680 51491012 51966317 53202765 53356173 54365831 54654948 55124749 55157853
    56451190 56482935 57936451 58157373 58375018 59067458 59087630 59215320 59279892 59363654 59768032
"""
_BY_POSITION = """
    50196495 50525523 51410602 52119491 52648681 52674888 53182247 53488209 53514462 54875119 54986978 55258338
    56412866 56579911 56760320 57150433 57564132 59003148 59330497 59505494 59562049 59889364 59982525
"""
_WITHOUT_FINDINGS = """
    50798377 52035334 53071062 53607029 54168089 54231141 56724958 58235663
"""
HAND_CUT_STUDIES = frozenset(f"{_BY_SECTION} {_BY_POSITION} {_WITHOUT_FINDINGS}".split())
"""Studies of MIMIC-CXR that the published parser does not cut by its rules: of 23 it takes a section that it names for
each, of 23 a span of characters, of 8 nothing. Work that compares with references of RGRG skips all 54.

Source: ``custom_mimic_cxr_rules`` of the parser.
"""
_MAIN = ("impression", "findings", "indication", "comparison")
_VIEW = re.compile(r"\b(?:chest|views?|frontal|lateral|pa|ap|portable|radiographs?|x-?ray|upright|supine)\b")


def cut_compatible(text: str) -> list[tuple[str, str]]:
    """Return the sections of a report, by the rules of the published parser.

    The line of a header is not searched for another header. White space inside a section becomes single spaces; case
    and punctuation stay.

    Args:
        text: The whole report, with the spaces that begin its lines.

    Returns:
        (section, text) in their order; the section is ``findings``, ``impression``, ``indication``, ``comparison`` or
        the header in lower case. A report without any header is ``full report``; text before the first is ``preamble``.
    """
    text = text.replace("\r\n", "\n")
    match = _HEADER.search(text)
    if match is None:
        return [("full report", " ".join(text.split()))]
    pieces = [("preamble", text[: match.start()])]
    while match is not None:
        line_end = text.find("\n", match.end())
        following = _HEADER.search(text, line_end) if line_end >= 0 else None
        end = following.start() if following is not None else len(text)
        pieces.append((_section_of(match.group(1)), text[match.end() : end]))
        match = following
    return [(section, " ".join(body.split())) for section, body in pieces]


def _section_of(header: str) -> str:
    name = header.strip().lower()
    if name in _SECTION_OF:
        return _SECTION_OF[name]
    for section in _MAIN:
        if section in name:
            return section
    return "findings" if _VIEW.search(name) else name
