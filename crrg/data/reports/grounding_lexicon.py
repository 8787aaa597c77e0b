"""Words by which a report speaks of a place: which region each means, and where a finding lies that names no place.

Patterns match lower-case text after ``REWRITES``. Order matters: at one position the first pattern that fits wins, so
compounds ("right atrium", "pericardial effusion") stand before their parts. How the words of a sentence act on each
other is in ``grounding``.

Source: region names of Chest ImaGenome (Wu et al., 2021); the word lists are our own.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

LEXICON_VERSION = 3
"""Raised when the same report would be grounded in another way; a part of a dataset's fingerprint."""


class Kind(StrEnum):
    """What a word does in its sentence."""

    SIDE = "side"
    PLACE = "place"
    FIXED = "fixed"
    RIB = "rib"
    FINDING = "finding"
    DEVICE = "device"
    NOWHERE = "nowhere"
    NEGATION = "negation"
    BREAK = "break"
    JOINT = "joint"


@dataclass(frozen=True)
class Term:
    """An entry of the lexicon.

    Attributes:
        kind: What the word does.
        names: Sides; the region without its side (``lower lung zone``); whole regions; or the class of a finding or
            device.
        pattern: Regular expression, matched between word borders.
    """

    kind: Kind
    names: tuple[str, ...]
    pattern: str


SIDES = ("right", "left")
BONES = ("spine", "right clavicle", "left clavicle")
BOTH_LUNGS = ("right lung", "left lung")
LUNG_STEMS = frozenset(
    {"lung", "apical zone", "upper lung zone", "mid lung zone", "lower lung zone", "hilar structures"}
)

ORDINALS: tuple[str, ...] = (
    "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh",
    "twelfth",
)  # fmt: skip
UPPER_RIBS, MID_RIBS = 4, 6
"""Last rib that is counted to the upper and to the mid lung zone; the others cross the lower one."""

_ORDINAL = rf"(?:{'|'.join(ORDINALS)}|\d{{1,2}}(?:st|nd|rd|th))"
_RIB_FILLER = r"(?:[ ,\-]|and|or|through|to|anterior|posterior|lateral|anterolateral|posterolateral)"
_LEVEL_NOUN = r"(?:lobes?|lobar|lung zones?|lung fields?|lungs?|zones?|hemithorax)"
_MORE_LEVELS = (
    rf"(?=(?:,| and| or|/| to| through|-to)(?:[ ,]*(?:and|or|to|the|right|left|upper|mid|middle|lower))* {_LEVEL_NOUN})"
)
_IMAGING = r"(?:ct|mri|pet|ultrasound|tomograph\w+|sonograph\w+|examinations? of)"
_BODY = r"(?:chest|abdomen|pelvis|thorax|neck|nasopharynx|spine)"

REWRITES: tuple[tuple[str, str], ...] = (
    (r"(right|left)[- ]sided\b", r"\1"),
    (r"\brt\b\.?", "right"),
    (r"\blt\b\.?", "left"),
    (r"\b(right|left) chest wall\b", r"\1 chest"),
    (r"\brul\b", "right upper lobe"),
    (r"\brml\b", "right middle lobe"),
    (r"\brll\b", "right lower lobe"),
    (r"\blul\b", "left upper lobe"),
    (r"\blll\b", "left lower lobe"),
    (r"\bbi-?(basal|basilar|apical|hilar|pulmonary)\b", r"both \1"),
    (rf"\b{_IMAGING}(?: scan)?(?: of)?(?: the)? {_BODY}(?:(?:,| and|, and) {_BODY})*", "imaging"),
    (rf"\b{_BODY}(?:(?:,| and|, and) {_BODY})* {_IMAGING}\b", "imaging"),
    (r"\bhistory of [^,;.]+", "history"),
    (r"\b(right|left)(?: side)?,? (?:slightly |much )?(?:greater|larger|more|worse|>)(?: \w+)? than(?: on)?(?: the)? "
     r"(?:right|left)\b", "both"),
    (r"\b(right|left),? (?:and|or|versus|as well as)(?: the| on the)? (?!\1)(?:right|left)\b", "both"),
    (r"\b(apex|apices|bases?|upper|mid|middle|lower)(?: aspects?| portions?| zones?| thirds?| parts?)? of (?:the )?"
     r"(right|left|both|bilateral) lungs?\b", r"\2 lung \1"),
    (r"\b(?:below|under|beneath|past|under the level of)(?: the)?(?: level of the)?(?: right"
     r"| left)? (?:hemi)?diaphragms?\b",
     "in the abdomen"),
)  # fmt: skip
"""Replacements, in order, before any word is looked up."""

_FIXED: tuple[tuple[tuple[str, ...], str], ...] = (
    (("right atrium",), r"right atri\w+|right heart border|right cardiac border"),
    (("cavoatrial junction",), r"cavo-?atrial(?: junction)?|atrio-?caval junction|(?:svc|caval)[ /-]+(?:right )?"
     r"atri\w+ junction|(?:<deid>|svc) which junction"),
    (("svc",), r"svc|superior vena ca\w+|vena cava"),
    (("cardiac silhouette", *BOTH_LUNGS), r"cardio-? ?pulmonary|cardio-? ?thoracic(?! ratio)"),
    (("cardiac silhouette", "mediastinum"), r"cardio-? ?mediastin\w+"),
    (("carina",), r"carina\w*|sub-?carinal|infra-?carinal"),
    (("trachea",), r"trachea\w*|(?:right |left )?para-?tracheal(?: stripe)?|airway"),
    (("upper mediastinum",), r"(?:upper|superior) mediastin\w+"),
    (("mediastinum", "upper mediastinum"), r"widen\w+ (?:of the )?mediastin\w+|wide mediastin\w+|mediastinal widening"
     r"|mediastin\w+(?= (?:contours? |silhouette )?(?:is|are|appears?|may be)(?: \w+)? widened)"),
    (("mediastinum",), r"(?:pneumo)?mediastin\w+|(?:median )?sternotomy|stern(?:al|um)|hiatal hernias?|cabg|coronary "
     r"artery bypass|bypass graft\w*|aorto-?pulmonary window|ap window|esophag\w+"),
    (("cardiac silhouette",), r"pericardi\w+(?: effusions?)?|aortic valve|(?:left |right )?ventric\w+|left atri\w+"
     r"|left heart"
     r" border|cardiomegaly|heart(?! failure)|cardiac apex|cardiac(?! (?:pace|icd|defib|conduction device))|mitral"
     r"|valv\w+|coronary|cardiothoracic ratio|myocard\w+|cardiophrenic(?: angles?)?"),
    (("aortic arch",), r"aort\w+"),
    (("left lower lung zone",), r"retro-?cardiac"),
    (("left mid lung zone",), r"lingul\w+"),
    (("right mid lung zone",), r"(?:right )?middle lobe|(?:minor|horizontal) fissure"),
    (("right upper lung zone",), r"azygos lobe"),
    (BONES, r"osseous|bon(?:y|es?)|skelet\w+"),
    (("spine",), r"spin(?:e|al)|vertebra\w*|dis[ck] spaces?|(?:thoraco)?lumbar|thoracolumbar|scolio\w+"
     r"|(?:levo|dextro)(?:curvature|scolio\w+|rotoscolio\w+)|kypho\w+|spondyl\w+|osteophyt\w+|[tl]\d{1,2}"
     r"|end-?plates?"),
    (("abdomen",), r"abdom\w+|stomach|gastric|bowel|colon\w*|free (?:intra-?peritoneal )?air|pneumoperitoneum"
     r"|sub-?diaphragmatic|(?:right |left )?upper quadrants?|cholecyst\w+|liver|spleen|splenic"),
)  # fmt: skip

_PLACES: tuple[tuple[str, str], ...] = (
    ("costophrenic angle", r"(?:lateral )?costo-?phrenic(?: angles?| sulc\w+| recess\w*)?|cp angles?"
     r"|(?:pleural )?sulc(?:us|i)"
     r"|lateral (?=(?:right |left )bas(?:e|is|ilar))|lateral bas(?:es?|is|ilar)"),
    ("apical zone", r"lung (?:apex|apices)|lung apical|apex|apices|apical(?! lordotic)|apico\w*"),
    ("hilar structures", r"(?:peri|para|supra|infra)-?hil\w+|hil(?:a|um|us|ar)(?: structures| contours)?|main-?stem "
     r"bronch\w+"),
    ("upper lung zone", rf"upper(?: {_LEVEL_NOUN})|lung upper|upper{_MORE_LEVELS}"),
    ("mid lung zone", rf"mid(?:dle)?[ -]?{_LEVEL_NOUN}|mid(?:dle)? portion of the lungs?|lung mid(?:dle)?"
     rf"|mid(?:dle)?{_MORE_LEVELS}"),
    ("lower lung zone", rf"lower(?: {_LEVEL_NOUN})|lung lower|lung bas(?:es?|is)|bas(?:es?|is)(?! of the)|bas(?:al"
     rf"|ilar)"
     rf"|lower{_MORE_LEVELS}"),
    ("hemidiaphragm", r"(?:hemi-?)?diaphragm\w*|eventration(?! of)"),
    ("clavicle", r"clavic\w+|acromio-?clavicular|ac joints?"),
    ("lung", r"lungs|pulmonary parenchym\w+|lung (?:fields?|volumes?|parenchym\w*)|lung|hemi-?thora\w+|lobectomy"
     r"|pneumonectomy"),
)  # fmt: skip

_FINDINGS: tuple[tuple[str, str], ...] = (
    ("air and fluid", r"hydro-?pneumothora\w+|hemo-?pneumothora\w+"),
    ("air", r"pneumothora\w+"),
    ("plaque", r"pleural plaques?"),
    ("pleura", r"(?:pleural )?effusions?|pleural fluid|h(?:a?)emothorax|hydrothorax|pleura\w*"),
    ("whole", r"edema|emphysem\w*|copd|hyper-?(?:inflat|expan|lucen|aerat)\w+|(?:hypo-?inflat|hypo-?aerat"
     r"|under-?inflat)\w+"
     r"|interstiti\w+|reticul\w+|broncho-?vascular|obstructive|air trapping|(?:heart|cardiac) failure|chf"
     r"|chronic (?:lung|pulmonary)|cystic fibrosis|inspir\w+|kerley\w*|bronchitic|sarcoid\w*"
     r"|pulmonary(?= (?:disease|process|abnormalit\w+|parenchym\w+|findings?|patholog\w+))|pulmonary(?=,| or| and)"),
    ("vessels", r"(?:pulmonary |central |perihilar )*(?:vascularity|vasculature|vessels|congestion)"
     r"|(?:pulmonary|central|perihilar) (?:vascular\w*|arter\w+|veins?|venous)"
     r"|vascular(?= (?:congestion|markings?|prominence|engorgement|redistribution|cephal\w+|pattern))"),
    ("nodes", r"lymph|(?:lymph)?adenopathy|nodes"),
    ("local", r"opaci\w+|consolidat\w+|infiltrat\w+|nod(?:ule|ular)\w*|mass(?:es)?|lesions?|granulom\w+|atelecta\w+"
     r"|scar\w*"
     r"|pneumonia\w*|broncho-?pneumonia|air-?space\w*|air space|fibro\w+|bronchiect\w+|haz(?:e|y|iness)|densit\w+"
     r"|infecti\w+|tb|tubercul\w+|aspiration|cavit\w+|parenchym\w+|collaps\w+|contusion\w*|calcification\w*"
     r"|volume loss"),
    ("break of bone", r"fractur\w+"),
    ("wear of bone", r"degenerati\w+|arthrit\w+|osteopen\w+|osteopor\w+|demineraliz\w+"),
)  # fmt: skip

_DEVICES: tuple[tuple[str, str], ...] = (
    ("airway tube", r"endo-?tracheal(?: tube)?|et tube|ett|tracheostomy(?: tube)?"),
    ("enteric tube", r"(?:enteric|naso-?gastric|oro-?gastric|feeding|ng|og|dobb?hoff)(?: suction)?(?: tube"
     r"| catheter)?"),
    ("pacemaker", r"(?:cardiac )?(?:pace-?makers?|pacing|pacer|icd|aicd|defibrillator)\w*(?: generator)?|generator"),
    ("chest tube", r"chest tubes?|thoracostomy(?: tubes?)?|pleural (?:drain\w*|catheter)(?: tubes?)?|pigtail"),
    ("central line", r"(?:(?:internal )?jugular|subclavian|ij)(?: \w+)?(?: line| catheter)?"
     r"|central (?:venous )?(?:line|catheter)"
     r"|venous catheter|picc(?: line)?|port-?a-?cath\w*|port(?: catheter)?|dialysis catheter|catheter"),
)  # fmt: skip

_NOWHERE = (
    r"shoulders?|humer\w+|gleno?\w*|scapul\w*|acromi\w+|breasts?|nipple|soft tissues?|skin|axill\w+|chest walls?"
    r"|metacarp\w+"
    r"|at the level of the clavicles|rotator|upper extremity|cervical fusion|arms?"
)

TERMS: tuple[Term, ...] = (
    *(Term(Kind.DEVICE, (name,), pattern) for name, pattern in _DEVICES),
    Term(Kind.NOWHERE, (), _NOWHERE),
    Term(Kind.RIB, (), rf"(?:{_ORDINAL}{_RIB_FILLER}*)+ribs?|ribs?|rib cage"),
    *(Term(Kind.FIXED, names, pattern) for names, pattern in _FIXED),
    Term(Kind.SIDE, SIDES, r"bilateral(?:ly)?|both|either"),
    Term(Kind.SIDE, ("right",), "right"),
    Term(Kind.SIDE, ("left",), "left"),
    *(Term(Kind.PLACE, (name,), pattern) for name, pattern in _PLACES),
    *(Term(Kind.FINDING, (name,), pattern) for name, pattern in _FINDINGS),
    Term(Kind.NEGATION, (), r"no|without|negative for|free (?:of|from)|absence of|nor|neither|resolution of"),
    Term(Kind.BREAK, (), r"but|however|although|though|while|whereas|otherwise|aside from|except for"),
    Term(Kind.JOINT, (), r"and|or|(?<!keeping )(?<!consistent )(?<!compatible )with|versus"),
)
"""All entries, the first that fits at a position wins."""
