"""Words by which the rule labeler knows a finding, and words that negate it or make it uncertain.

Fragments of regular expressions over lower-case text; each starts at a word start. Order matters: where two fragments
start at the same word, the earlier group wins. The rules that use them are in ``labeler``.

Source: the scheme (mention, negation, uncertainty) is that of Irvin et al., CheXpert, AAAI 2019; the lists are our own.
"""

from __future__ import annotations

_SEEN = (
    r"(?:\w*seen|identified|evident|present|visuali[sz]ed|apparent|demonstrated|appreciated|detected|visible|suspected|"
    r"observed|noted)\b"
)

_BEFORE = (
    r"(?:on|in|at) (?:(?:the|a|any|her|his) )?(?:most recent )?"
    r"(?:prior|previous|earlier|preceding|last|older|comparison|outside)\b"
)

NEUTRAL: tuple[str, ...] = (
    rf"(?:(?:is|are|was|were) )?(?:previously |formerly )?not (?:clearly |well |definitely |definitively )?{_SEEN}"
    rf"(?: (?:previously|formerly)\b| {_BEFORE}| before(?=\s*(?:[.,;]|$)))",
    rf"(?:previously|formerly) not {_SEEN}",
    r"not (?:yet |fully |completely |entirely )*(?:resolved|cleared)\b",
    r"not only\b",
    r"no (?:significant |interval |definite |appreciable |substantial |convincing )*"
    r"(?:change|increase|progression|worsening)\b",
    r"not (?:significantly |substantially |appreciably )?(?:changed|increased|worse)\b",
    r"heart (?:border|failure medication)\b",
    r"mass effect\b",
    r"pericardial effusions?\b",
    r"granulomatous infection\b",
    r"(?:aort\w*|hil\w*|vascular|arterial|tracheal|vertebral|azygos) (?:enlarge|widen|promin|dilat)\w*",
    r"(?:disc|disk|joint|interspace|spinal) (?:space )?(?:collapse|widen)\w*",
    r"port(?:able|ions?|al|ah?)\b",
    r"(?:soft[- ]tissue|subcutaneous|chest wall|peripheral|skin|extremity) o?edema\b",
    r"(?:respiratory|renal|kidney|hepatic|liver|hardware) failure\b|failure to\b",
    r"(?:vertebra\w* |body |endplate |tracheal )+collapse\w*|collapse of (?:the )?(?:\w+ )?vertebra\w*",
    r"fractur\w* (?=(?:median |upper |lower |mid )?(?:stern|cerclage|wire|lead|pace|pacing|catheter|hardware|screw))",
    r"(?:to )?(?:ensure|assure|document|confirm|demonstrate|verify|until|evaluate for|assess for) "
    r"(?:the |its |complete |interval |radiographic )*(?:resolution|clearing)(?: of)?\b",
    r"(?:partial|incomplete|near|nearly|near-complete|some|slow|gradual|continued) (?:complete |interval )*"
    r"(?:resolution|clearing)(?: of)?\b",
    r"(?:(?:has|have|is|are) )?(?:now )?(?:nearly|almost|partially|partly|largely|mostly|incompletely) "
    r"(?:completely |entirely )?(?:resolved|cleared)\b",
    r"(?:tips?|ends?|course|side ?ports?) (?:is |are |was )?(?:not|no longer|poorly|incompletely) "
    rf"(?:clearly |well |definitely |definitively )*{_SEEN}",
)
"""Wordings that look like a cue or a mention and are neither."""

_WITH = (
    "(?<!consistent )(?<!compatible )(?<!keeping )(?<!associated )(?<!compared )(?<!correlate )(?<!correlated )"
    "(?<!correspond )with"
)
"""Begins something new, where it does not belong to the word before it."""

BREAKS: tuple[str, ...] = (
    r"(?:but|however|although|though|except|whereas|while|yet|despite|aside from|apart from|other than|otherwise)\b",
    r"and (?=(?:favou?rs?|suggests?|a|an|the|there|stable|unchanged|mild|mildly|moderate|minimal|persistent|again|"
    r"probable|possibly|possible)\b)",
    r"(?:decreased|increased|improved|worsened|unchanged|stable|larger|smaller|persists?|progressed) "
    r"and (?=(?:\w+ ){1,4}(?:has|have|is|are|was|were)\b)",
    rf"{_WITH} (?=(?:a|an|the|stable|unchanged|mild|moderate|minimal|small|persistent|associated|adjacent|some)\b)",
)
_WORD = r"(?:(?!(?:or|nor|no|not|without|that|which|is|are)\b)[\w/'-]+ )"
_STATED = (
    rf"{_WORD}{{1,7}}?(?:persists?\b|(?:is|are|remains?|appears?|has|have) (?:(?:also|again|now|been|\w+ly) )*"
    r"(?:stable|unchanged|similar|enlarged|(?:in|de)creas(?:ed|ing)|improv(?:ed|ing)|wors(?:e|ened|ening)|larger?|"
    r"smaller|small|mild|moderate|severe|minimal|persistent|progressed|normal|unremarkable|clear)\b)"
)
_DEVICE_STATED = (
    rf"{_WORD}{{0,5}}?(?:tubes?|lines?|catheters?|picc|ports?|pacemaker|pacer|leads?|wires?|drains?) "
    rf"(?:(?:is|are) |{_WORD}){{0,3}}?(?:in place|in situ|in (?:\w+ )?position|remains?|terminat\w+|ends?|project\w*)\b"
)
_PLACED = r"(?:left|right|bilateral|bibasilar|basilar|tiny|trace|new)\b"
OTHER_CLAUSE: tuple[str, ...] = (
    rf"(?:and|{_WITH}) (?=(?:{_STATED}|{_DEVICE_STATED}))",
    rf"{_WITH} (?={_PLACED})",
)
"""Begins a clause of its own, to which a denial or a doubt before it does not reach; without one it is no break."""
COMMA_OTHER_CLAUSE = (
    rf"(?:,\s*|\s[-\u2013\u2014]+\s+)(?=(?:{_STATED}|{_DEVICE_STATED}))|"
    rf"\s[-\u2013\u2014]+\s+(?=(?:small|mild|moderate|{_PLACED}))"
)
"""The same behind a comma or a dash."""
GONE = (
    rf",\s*which (?:has|have|is|are) (?:now |since |been |completely )*"
    rf"(?:resolved|cleared|removed|gone|no longer {_SEEN}|not {_SEEN})\b(?! {_BEFORE})"
)
"""Says of what stands before it that it is not there."""
_ONE = r"(?:(?:the )?(?:left|right)(?:[- ]sided)?(?: (?:one|side))?|an? (?:\w+ )?one)"
OTHER_SIDE = (
    rf"(?:[,;]\s*(?:(?:and|but|while|whereas) )?|\b(?:and|but|while|whereas) ){_ONE} "
    r"(?=persists?\b|(?:is|was|has|remains?|appears?) (?:(?:also|now|been|\w+ly) )*(?:stable|unchanged|similar|present|"
    r"(?:in|de)creas\w+|improv\w+|wors\w+|larger?|smaller|small|resolv\w+|cleared|gone|no longer|not)\b)"
)
"""Begins to speak of another finding of the same kind ("right effusion is larger, the left has resolved")."""
_ANSWER_END = r"(?=\s*(?:[.,;]|$))"
_ANSWER = r"(?:\s*:|\s+[-\u2013\u2014]+)\s*"
ANSWER_NO = rf"{_ANSWER}(?:(?:no|none|nil|absent|negative)(?: {_SEEN})?|not {_SEEN}|no evidence){_ANSWER_END}"
ANSWER_PERHAPS = rf"{_ANSWER}(?:possible|questionable|equivocal|suspected|uncertain){_ANSWER_END}"
"""Answers to a heading ("Pneumothorax: none.")."""
ASKED = r"(?<=[\w)])\?(?!\w)|\?(?=\W*$)"
"""A question mark behind what it asks for."""
COMMA_BREAK = (
    r",\s*(?=(?:the|there|heart|lungs?|cardiac|mediastinal|mild|mildly|moderate|minimal|stable|unchanged|persistent|"
    r"small|tiny|trace|increased|new|probabl[ey]|possibl[ey]|likely|questionable|suspected|which|this|these|it|suggesting|suggestive|"
    r"consistent|compatible|representing|may|might|could|less likely|so|is|are|was|were|remains?|has|have)\b)"
)

_QUITE = r"(?:entirely |completely |fully |definitively |confidently )*"

_NOT_EXCLUDED = rf"(?:(?:can ?not|can't|could not|may not) {_QUITE}be|not) {_QUITE}(?:excluded|ruled out)\b"

POST_UNCERTAIN: tuple[str, ...] = (
    r"(?:is|are|remains?|appears?|seems?) (?:also |much |felt |felt to be |considered )*"
    r"(?:possible|questioned|suspected|considered|a consideration|not excluded|a possibility|in question|"
    r"less likely)\b",
    r"(?<=cardiomegaly )(?:is|appears?|remains?) borderline\b",
    rf"{_NOT_EXCLUDED}(?! to be)",
    rf"(?:(?:is|are) )?(?:difficult|hard) to {_QUITE}exclude(?=\s*(?:[.,;]|$|given|because|due|on|in|at|with))",
    r"(?:may|might|could|can) (?:partly |partially )?account for\b",
    r"(?:should|might|may|could) be (?:considered|present)\b",
    r"to be considered\b",
)
STILL_POSSIBLE = (
    r"(?:,\s*|\b)(?:but|although|though|however|yet),? (?:(?:it|this|they|these|(?:an? )?(?:(?:very )?"
    rf"(?:small|tiny|trace|subtle|occult) )?ones?) )?(?:(?:is|are) )?{_NOT_EXCLUDED}(?! that| to be)"
)
"""Takes back a denial: "is not seen but cannot be excluded"."""
POST_NEGATED: tuple[str, ...] = (
    rf"(?:is|are|was|were) (?:no longer|not) (?:clearly |well |definitely |definitively )?{_SEEN}",
    r"not (?:seen|identified|evident|visuali[sz]ed|apparent|demonstrated|appreciated|detected|visible|observed)\b",
    r"no longer (?:seen|identified|evident|visuali[sz]ed|present|visible|apparent)\b",
    r"(?:has|have) (?:now |since |been |completely |nearly |almost |essentially )*"
    r"(?:resolved|cleared|removed|excluded|ruled out)\b",
    r"(?:has|have) not recurred\b",
    r"(?:is|are|was|were|appears?|seems?) (?:now |also |considered |felt to be |thought to be |deemed |very |highly )*"
    r"(?:absent|excluded|ruled out|unlikely|resolved|removed|gone)\b",
)
SHORT_POST_NEGATED: tuple[str, ...] = (
    r"(?:now |completely |essentially )*(?:resolved|cleared|excluded|absent|removed)(?=\s*(?:[.,;]|$))",
)
"""Post-negations without a verb, which reach back no further than the last comma."""

PART_OF = r"(?:tips?|ends?|course|side ?ports?|(?:distal|proximal) (?:portions?|aspects?|segments?)) of\b"
"""Begins to speak of a part of a device: where that is not seen, the device is still there."""

REMOVED: tuple[str, ...] = (r"removal\b(?! of)",)
"""Words after a device that say that it is gone."""

UNCERTAIN_CUES: tuple[str, ...] = (
    rf"{_NOT_EXCLUDED} to be\b",
    rf"(?:can ?not|can't|could not|unable to|(?:is |are )?(?:difficult|hard) to) {_QUITE}(?:exclude|rule out)\b",
    r"(?:to )?(?:exclude|rule out|evaluate for|assess for)\b|\?(?=\s*\w)",
    r"(?:may|might|could|can)\b(?! not)",
    r"(?:possib|questionabl|equivocal|suspici|suspect|suggest|conceivabl|potentially)\w*",
    r"(?:concern(?:ing)?|worrisome) (?:for|of)\b",
    r"(?:raising|raises) (?:the )?(?:question|possibility|concern)\b",
    r"less likely\b|more likely than\b",
    r"(?:evaluation|assessment|sensitivity|detection) for\b",
    r"(?:differential|question|r/o|considerations (?:would )?include)\b",
)
OVER = r"over (?=(?:\w+ )?(?:pneumoni|infecti|consolidat|atelec|o?edema|infiltrat|aspirat|scar))"
"""Makes what follows uncertain where something else is preferred to it ("atelectasis is favored over pneumonia")."""
PREFERRED = r"\b(?:favou?r\w*|likely|rather)\b"
UNCERTAIN_LINKS: tuple[str, ...] = (
    r"(?:versus|vs)\b",
    r"and/or\b",
    r"if (?:any|present|real)\b",
    r"(?:(?:can ?not|can't|could not|not|difficult to) (?:be )?(?:\w+ )?(?:distinguish|differentiat|separat)\w*"
    r"|indistinguishable) from\b",
)
"""Words that make the mention before them and the one after uncertain."""

NEGATED_CUES: tuple[str, ...] = (
    r"(?:no|not|without|neither|nor|never|none|nothing)\b",
    r"absent (?=\w)",
    r"(?:negative for|free of|clear of|absence of|devoid of|lack of|rather than|ruled out|rules out)\b",
    r"exclud(?:es|ing)\b",
    r"(?:resol\w+|clearing|removal) of\b|resolved (?=\w)",
    r"(?:argu\w+|evidence|speaks?|mitigates?|militates?) against\b",
    r"(?:unlikely|doubt|doubtful|isn't|aren't|wasn't|denies)\b",
)
HISTORY = r"(?:history of|h/o|hx of)"
"""Begins what the patient once had, up to the next comma: not what the film shows."""

ALTERNATIVE = r"or\b(?: (?:an? |any )?new\b)?"
RESUMES = r"(?:following|after|status post|s/p|because of|given)\b"
"""Begins a circumstance, of which an earlier denial or doubt says nothing."""

HEART = r"(?:heart(?: size)?s?|cardiac (?:silhouette|size|contours?|shadow|outline|borders?))(?! (?:failure|valve))\b"
CARDIOMEDIASTINUM = (
    r"(?:cardio-?mediastin\w+|cardiac(?:, hilar)?(?:,? (?:and|&)|,) mediastinal(?:,? (?:and|&) hilar)?|"
    r"heart and mediastin\w+)(?: (?:silhouettes?|contours?))?"
)
MEDIASTINUM = r"(?:superior |upper )?mediastin\w+(?: (?:silhouettes?|contours?|width|size))?"
LUNGS = (
    r"(?:both |right |left )?(?:lungs?|lung fields)\b(?! (?:volume|base|apex|apic|zone|nodule|lesion|mass|markings))"
)
ANGLES = r"(?:pleural spaces?|costo-?phrenic (?:angles?|sulc\w+|recess\w*)|cp angles?|(?:lateral|posterior) sulc\w+)"
OTHER_SUBJECTS = (
    r"(?:aort\w+|hil(?:a|ar|um)\b|pulmonary (?:arter|vascula|vein|trunk)\w*|vascul\w+|trachea\w*|azygos|esophag\w+|"
    r"bowel|stomach|colon|diaphragm\w*|hemidiaphragm\w*|thyroid|goiter|spine|bon(?:es|y)|osseous)"
)

NORMAL = (
    r"(?:(?:(?:at |in |on )?(?:the )?)upper (?:limits? (?:of )?)?normal(?: limits?)?|(?:top|high)[- ]normal|"
    r"normal(?!ly)|unremarkable|within (?:the )?limits|wnl\b|intact|negative\b(?! for))"
)
BORDERLINE = r"borderline\b"
ENLARGED = (
    r"(?:enlarge\w*|fullness|widen(?:ed|ing|s)\b|increased in size|increase in (?:the )?(?:size|width) of|"
    r"increase in (?=(?:the )?(?:heart|cardiac|mediastin))|too (?:large|wide))"
)
NO_ABNORMALITY = r"abnormalit(?:y|ies) (?:of|in|involving)\b"
CLEAR = r"(?:clear\b(?!ing)|well[- ]aerated)"
SHARP = r"(?:sharp\w*|clear\b|preserved|crisp)"
BLUNTED = r"blunt\w*"

FLUID_AND_AIR = r"(?:hydro-?|hemo-?|haemo-?|pyo-?)pneumothora\w+"
"""Pneumothorax and effusion in one word."""

MENTIONS: dict[str, tuple[str, ...]] = {
    "Edema": (
        r"(?:o?edema|(?:congestive )?heart failure|chf|cardiac (?:failure|decompensation))\b",
        r"(?:pulmonary |vascular |pulmonary vascular |central |venous |pulmonary venous |interstitial )+congestion\b",
        r"congestion\b",
        r"(?:pulmonary|venous|vascular) (?:over-?load|hypertension with cephali[sz]ation)\b",
        r"(?:overt |frank |early |mild |congestive )*failure\b",
        r"(?:fluid|volume) overload\b|cephali[sz]ation\b|kerley b?",
    ),
    "Cardiomegaly": (
        r"cardiomegal\w+",
        r"(?:cardiac|heart) (?:enlarg\w+)",
        r"(?:large|big|globular) (?:heart|cardiac silhouette)\b",
        r"(?:heart(?: size)?|cardiac (?:silhouette|size)) (?:is|appears) (?:(?!not |borderline )\w+ )?"
        r"(?:large|big|globular|increased)\b",
    ),
    "Enlarged Cardiomediastinum": (
        r"(?:wide|prominent|broad) (?:\w+ )?(?:cardio-?)?mediastin\w+",
        r"mediastinal (?:widening|enlargement|prominence|fullness|broadening)\b",
        r"(?:superior |upper |cardio-?)?mediastin\w+ (?:silhouette |contours? )?(?:is|are|appears?) "
        r"(?:\w+ )?(?:wide|prominent|broad)\b",
    ),
    "Lung Lesion": (
        r"(?:mass(?:es)?|nodul(?:es?|arity)|tumou?rs?|neoplas\w+|malignan\w+|metasta\w+|carcinoma\w*|cancer)\b",
        r"nodular[- ](?:densit\w+|opaci\w+|focus|foci|lesions?|shadows?|infiltrates?)",
        r"(?:lung|pulmonary|parenchymal) (?:lesions?|cavit\w+)",
        r"(?:spiculated|coin|mass-?like) (?:lesions?|opacit\w+|densit\w+)",
        r"cavitary\b",
    ),
    "Consolidation": (r"consolidat\w+",),
    "Pneumonia": (
        r"(?:broncho-?)?pneumoni(?:a|as|c|tis)\b",
        r"infecti(?:on|ous)\w*",
    ),
    "Atelectasis": (
        r"atelec\w+",
        r"(?:lobar|lobe|lung|segmental|sub-?segmental) collapse\b",
        r"collapsed? (?:of the )?(?:\w+ )?(?:\w+ )?(?:lung|lobe)\b|collapse\b",
    ),
    "Pneumothorax": (r"pneumothora\w+|ptx\b",),
    "Pleural Effusion": (
        r"(?:hydrothora|h(?:a)?emothora)\w+",
        r"(?:pleural )?(?:effusions?|effusive)\b",
        r"(?:pleural|layering|subpulmonic|loculated|fissural) (?:\w+ )?fluid\b",
        r"fluid (?:in|within|along) the (?:\w+ )?(?:pleura\w*|fissures?|costophrenic)",
        r"pleural abnormalit\w+",
    ),
    "Pleural Other": (
        r"pleur(?:al|o)[- /]?(?:based |parenchymal |apical |and parenchymal )*"
        r"(?:thick\w+|scar\w*|plaques?|calcific\w+|fibro\w+|reaction|disease)",
        r"(?:fibrothora\w+|(?:apical|biapical) (?:pleural |fibronodular )?(?:caps?|capping|thickening))\b",
        r"(?<=effusion or )thickening|(?<=effusion and )thickening|(?<=fluid or )thickening",
        r"(?:thickening|calcification) of the (?:\w+ )?(?:\w+ )?pleura\w*",
        r"(?:calcified )?plaques?\b(?! atelec)",
    ),
    "Fracture": (r"(?<!wire )(?<!lead )(?:fractur\w+|fx)\b",),
    "Support Devices": (
        r"(?:pace-?makers?|pacers?|pacing|aicd|icd|defibrillators?|electrodes?)\b",
        r"(?:(?:endo|naso|oro)?-?(?:tracheal|gastric|enteric)|tracheostomy|chest|thoracostomy|feeding|drainage|ng|et|"
        r"dobh?off\w*|nasoenteric|support) (?:tubes?|cannula)\b",
        r"(?:central|picc|subclavian|jugular|ij|venous|arterial|dialysis|support) (?:venous )?(?:lines?|access)\b",
        r"(?:tub(?:es?|ing)|catheters?|picc|port-?a-?cath\w*|mediport|infusaport|port|tracheostomy|dobh?off\w*)\b",
        r"swan[- ]ganz\b|(?:wires?|clips?|sutures?|staples?|sternotomy)\b",
        r"(?:sternotomy|sternal|cerclage|surgical) (?:wires?|sutures?|clips?|staples?)",
        r"(?:hardware|prosthe\w+|arthroplast\w+|stents?|coils?|devices?|stimulator\w*|drains?|leads?|implant\w*)\b",
        r"(?:mitral|aortic|cardiac|heart|prosthetic) valves?\b|valve replacement|valvuloplasty",
        r"(?:spinal|spine|pedicle|vertebral|cervical|thoracic|lumbar) (?:rods?|screws?|fusion)|harrington rods?",
        r"(?<!end )plates?\b(?!.?(?:like|atelec))|screws?\b",
        r"intra-?aortic balloon\w*|(?:cabg|lvad|ecmo)\b",
    ),
    "Lung Opacity": (
        r"opaci\w+",
        r"infiltrat\w+",
        r"(?:air-?\s?space|interstitial|alveolar|reticular|parenchymal|ground[- ]glass) (?:disease|process|"
        r"lung disease|changes?|markings?|densit\w+|abnormalit\w+|pattern|prominence|thickening|infiltrat\w+|opaci\w+)",
        r"(?:patchy|hazy|ill-defined|streaky|focal|basilar|bibasilar|retrocardiac) (?:\w+ )?"
        r"(?:air-?space|densit\w+|haziness)",
        r"ground[- ]glass\b",
        r"scar(?:s|ring|red)?\b|reticulations?\b|increased (?:\w+ )?densit(?:y|ies)\b",
    ),
}
