"""The wordings of the drawn cohort's reports: abnormal, uncertain, impression.

``[a|b|]`` is a choice (an empty one leaves the word out), ``{name}`` a slot that ``grammar`` fills:
``side`` right/left, ``place`` a lung place with its article, ``spot`` the same as an adjective, ``grade`` mild to
severe, ``size`` small to large, ``ly`` mildly to markedly, ``rib`` an ordinal, ``cm`` a distance.
No wording may name another observation than its own: the labels that are read from it must be those that were drawn.
"""

from __future__ import annotations

GRADE_WORDS: dict[str, tuple[str, ...]] = {
    "mild": ("mild", "mild", "slight", "minimal"),
    "moderate": ("moderate",),
    "severe": ("severe", "marked", "pronounced"),
}
SIZE_WORDS: dict[str, tuple[str, ...]] = {
    "mild": ("small", "small", "tiny", "minimal"),
    "moderate": ("moderate", "moderate-sized"),
    "severe": ("large", "large", "extensive"),
}
LY_WORDS: dict[str, tuple[str, ...]] = {
    "mild": ("mildly", "mildly", "slightly"),
    "moderate": ("moderately",),
    "severe": ("markedly", "severely"),
}
PLACE_WORDS: dict[str, tuple[str, ...]] = {
    "upper lung zone": ("the {side} upper lung zone", "the {side} upper lobe", "the {side} upper lung"),
    "mid lung zone": ("the {side} mid lung zone", "the {side} midlung", "the mid portion of the {side} lung"),
    "lower lung zone": ("the {side} lower lung zone", "the {side} lung base", "the {side} lower lobe"),
    "apical zone": ("the {side} apex", "the {side} lung apex"),
    "costophrenic angle": ("the {side} costophrenic angle", "the lateral {side} base"),
}
SPOT_WORDS: dict[str, tuple[str, ...]] = {
    "upper lung zone": ("{side} upper lobe", "{side} upper lung"),
    "mid lung zone": ("{side} midlung", "{side} mid lung"),
    "lower lung zone": ("{side} lower lobe", "{side} basilar", "{side} lower lung"),
    "apical zone": ("{side} apical",),
    "costophrenic angle": ("{side} basal",),
}
RIB_WORDS: dict[str, tuple[str, ...]] = {
    "upper lung zone": ("third", "fourth"),
    "mid lung zone": ("fifth", "sixth"),
    "lower lung zone": ("seventh", "eighth", "ninth"),
}

DEFINITE: dict[str, tuple[str, ...]] = {
    "widened_mediastinum": (
        "The [upper |superior |]mediastinum is {ly} widened.",
        "There is {grade} widening of the [upper |superior |]mediastinum.",
        "{grade} mediastinal widening [is present|is seen|is noted].",
        "The [upper |superior |]mediastinal [contour|silhouette] is {ly} [widened|enlarged].",
        "[Widened|Enlarged] mediastinal [contour|silhouette], {grade} in degree.",
    ),
    "enlarged_heart": (
        "The heart is {ly} enlarged.",
        "There is {grade} cardiomegaly.",
        "{grade} enlargement of the cardiac silhouette[ is seen| is noted|].",
        "The cardiac silhouette is {ly} enlarged.",
        "{grade} cardiomegaly [is present|is again seen|is noted].",
        "Heart size is {ly} enlarged.",
        "{ly} enlarged heart.",
    ),
    "patchy_opacity": (
        "There is [a |]{grade} [patchy|hazy|ill-defined|vague] opacity in {place}.",
        "[Patchy|Hazy|Ill-defined] opacity [is seen|is noted|is present] in {place}, {grade} in extent.",
        "{grade} {spot} opacity[ is seen| is present|].",
        "[A patchy|A hazy|An ill-defined] {grade} infiltrate [lies in|projects over] {place}.",
        "{grade} [airspace disease|hazy airspace disease] in {place}.",
    ),
    "nodule": (
        "There is a {mm} mm nodule in {place}.",
        "A [rounded|round|well-defined|discrete] {mm} mm [nodule|pulmonary nodule] [projects over|is seen in] {place}.",
        "{mm} mm {spot} nodule[ is noted| is present|].",
        "[Solitary|Single] nodule in {place} measuring {mm} mm.",
    ),
    "mass": (
        "There is a {mass_cm} cm mass in {place}.",
        "A [rounded|lobulated|well-defined] mass [projects over|is seen in] {place} measuring {mass_cm} cm.",
        "{mass_cm} cm {spot} mass[ is noted| is present|].",
        "[Large|Bulky|Focal] mass in {place}, about {mass_cm} cm across.",
    ),
    "interstitial_edema": (
        "There is {grade} interstitial edema.",
        "{grade} [interstitial pulmonary edema|pulmonary interstitial edema] [is present|is seen|is noted].",
        "[Indistinct|Hazy] perihilar vessels with {grade} interstitial edema.",
        "{grade} pulmonary vascular congestion with [interstitial edema|Kerley B lines].",
        "Findings of {grade} interstitial [pulmonary |]edema.",
        "Perihilar [haze|haziness] in keeping with {grade} edema.",
    ),
    "alveolar_edema": (
        "There is {grade} alveolar edema.",
        "{grade} perihilar alveolar [pulmonary |]edema [is present|is seen|is noted].",
        "[Bat-wing|Confluent perihilar|Diffuse perihilar] {grade} pulmonary edema.",
        "Findings of {grade} [pulmonary edema|congestive heart failure] with alveolar filling.",
        "{grade} bilateral pulmonary edema[, central in distribution|, worst about the hila|].",
    ),
    "lobar_consolidation": (
        "There is {grade} consolidation in {place}.",
        "[Dense|Focal|Confluent] consolidation [is seen|is present] in {place}, {grade} in extent.",
        "{grade} {spot} consolidation[ is noted| with air bronchograms|].",
        "[Focal|Lobar|Segmental] {grade} consolidation [involves|occupies] {place}.",
        "{place} is {ly} consolidated.",
    ),
    "pneumonia": (
        "There is {grade} pneumonia in {place}.",
        "Findings [consistent with|compatible with|in keeping with] {grade} pneumonia in {place}.",
        "{grade} {spot} pneumonia[ is present| is seen|].",
        "[An active|A focal|An acute] infectious process [involves|is seen in] {place}, {grade} in extent.",
        "[Appearance|Appearances] of {grade} [bronchopneumonia|pneumonia] in {place}.",
    ),
    "linear_atelectasis": (
        "There is {grade} linear atelectasis in {place}.",
        "{grade} [plate-like|linear|discoid|subsegmental] atelectasis [is seen|is present|is noted] in {place}.",
        "[Linear|Band-like|Plate-like] atelectasis at {place}, {grade}.",
        "{grade} {spot} [linear|subsegmental|discoid] atelectasis.",
    ),
    "basal_atelectasis": (
        "There is {grade} atelectasis at {place}.",
        "{grade} [basal|dependent|basilar] atelectasis [is seen|is present] on the {side}.",
        "Volume loss with {grade} atelectasis in {place}.",
        "{grade} {spot} atelectasis [with volume loss|is noted|is present].",
        "Atelectatic change of {grade} extent at {place}.",
    ),
    "apical_pneumothorax": (
        "There is a {size} {side} [apical |]pneumothorax.",
        "A {size} pneumothorax [is seen|is present] at the {side} apex.",
        "{size} {side}[-sided| apical|] pneumothorax[ is noted| is present|].",
        "[A pleural line|A visceral pleural line] at the {side} apex marks a {size} pneumothorax.",
        "{size} pneumothorax on the {side}[ with absent peripheral markings|].",
    ),
    "pleural_effusion": (
        "There is a {size} {side} pleural effusion.",
        "A {size} pleural effusion [is seen|is present|is noted] on the {side}.",
        "{size} {side}[-sided|] [pleural |]effusion[ is present| is noted|].",
        "Blunting of the {side} costophrenic angle by a {size} pleural effusion.",
        "The {side} costophrenic angle is blunted with a {size} effusion.",
        "{size} amount of pleural fluid on the {side}.",
    ),
    "pleural_thickening": (
        "There is {grade} pleural thickening at {place}.",
        "{grade} {spot} pleural thickening[ is seen| is noted|].",
        "[Smooth|Irregular|Chronic] {grade} pleural thickening along {place}.",
        "{grade} [pleural scarring|thickening of the pleura] at {place}.",
    ),
    "pleural_plaque": (
        "There is a {size} [calcified |]pleural plaque at {place}.",
        "A {size} [calcified |]pleural plaque [is seen|projects] over {place}.",
        "{size} {side}[-sided|] pleural plaque[ is noted| with calcification|].",
        "[Calcified|Focal] pleural plaque over {place}, {size}.",
    ),
    "rib_fracture": (
        "There is a {displacement} fracture of the {side} {rib} rib.",
        "A [lateral|posterior|healing|recent] {side} {rib} rib fracture [is seen|is noted|is present].",
        "{displacement} {side} {rib} rib fracture.",
        "Fracture of the [lateral|posterior] {side} {rib} rib, {displacement}.",
    ),
    "clavicle_fracture": (
        "There is a {displacement} fracture of the {side} clavicle.",
        "A [mid-shaft|midshaft|distal] {side} clavicle fracture [is seen|is noted|is present].",
        "{displacement} {side} clavicular fracture.",
        "Fracture of the [middle third of the |]{side} clavicle, {displacement}.",
    ),
    "endotracheal_tube": (
        "The endotracheal tube [ends|terminates] {cm} cm above the carina.",
        "Endotracheal tube tip [lies|projects|is] {cm} cm above the carina.",
        "[An endotracheal|An ET] tube is [in place|present] with its tip {cm} cm above the carina.",
        "The tip of the endotracheal tube is {cm} cm [above|from] the carina.",
    ),
    "central_line": (
        "A {side} [jugular|subclavian] central line ends in the [SVC|lower SVC|mid SVC].",
        "{side}[-sided|] central venous catheter [tip in|terminates in|ends in] the [SVC|distal SVC|mid SVC].",
        "The tip of the {side} [PICC|central line|venous catheter] projects over the [SVC|cavoatrial junction].",
        "{side} [PICC line|PICC|port catheter] with its tip at the [cavoatrial junction|SVC].",
    ),
    "pacemaker": (
        "A {side}[-sided|] pacemaker is in place with [its lead|leads] in the right [atrium|ventricle|heart].",
        "{side} [chest wall|subclavian|pectoral] pacemaker [is present|is noted|is in place].",
        "Pacemaker generator over the {side} chest with [leads|its lead] [intact|in expected position].",
        "Pacing [leads|wires] from a {side} generator end over the right [atrium|ventricle].",
    ),
    "chest_tube": (
        "A {side}[-sided|] chest tube is [in place|present|noted].",
        "{side} [chest|thoracostomy|pleural drainage] tube [in place|in expected position|unchanged].",
        "The {side} chest tube [projects over|ends at] the [apex|base|mid chest].",
        "A {side} pleural drain is [in place|present|noted].",
    ),
    "sternal_wires": (
        "Median sternotomy wires are [intact|present|noted|in place|unchanged].",
        "Sternal wires [are intact|are present|from prior surgery|are seen in the midline].",
        "The patient has had [a|prior] median sternotomy.",
        "[Intact|Midline|Aligned] [sternal|sternotomy] wires.",
        "[Status post|Changes of prior|Evidence of] median sternotomy[ with intact wires|].",
    ),
    "enteric_tube": (
        "[An enteric|A nasogastric|A feeding] tube [ends|terminates] in the stomach.",
        "[Enteric|Nasogastric|Feeding] tube with its tip [below the diaphragm|in the stomach|in the upper abdomen].",
        "The [enteric|nasogastric|feeding] tube courses below the diaphragm[ and out of view|].",
        "Tip of the [enteric|nasogastric|orogastric] tube [projects over|lies in] the [stomach|upper abdomen].",
    ),
}
"""Sentences that state a finding, by kind."""

UNCERTAIN: dict[str, tuple[str, ...]] = {
    "widened_mediastinum": (
        "[Possible|Questionable|Suspected] mediastinal widening.",
        "The mediastinum may be slightly widened.",
        "Slight widening of the [upper |]mediastinum is [possible|suspected|not excluded].",
    ),
    "enlarged_heart": (
        "[Borderline cardiomegaly|Borderline heart size].",
        "The heart is borderline enlarged.",
        "[Possible|Questionable] [mild|slight] cardiomegaly.",
        "The heart may be [mildly|slightly] enlarged.",
    ),
    "patchy_opacity": (
        "[Possible|Questionable|Suspected] [faint|vague|subtle] opacity in {place}.",
        "There may be a [faint|vague|subtle] opacity in {place}.",
        "A [faint|subtle] {spot} infiltrate is [possible|not excluded|suspected].",
    ),
    "nodule": (
        "[Possible|Questionable|Suspected] [small |]nodule in {place}.",
        "A small {spot} nodule [cannot be excluded|is suspected|is possible].",
        "There may be a [small|tiny] nodule in {place}.",
    ),
    "interstitial_edema": (
        "[Possible|Questionable|Suspected] [mild|early] interstitial edema.",
        "[Mild|Early] interstitial edema is [possible|suspected|not excluded].",
        "Hazy perihilar vessels may represent [mild|early] edema.",
    ),
    "lobar_consolidation": (
        "[Possible|Questionable|Suspected] [early |small |]consolidation in {place}.",
        "[Early|Minimal] {spot} consolidation is [possible|not excluded|suspected].",
        "There may be [early|minimal] consolidation in {place}.",
    ),
    "pneumonia": (
        "[Possible|Suspected|Questionable] [early |]pneumonia in {place}.",
        "Findings in {place} may represent [early |]pneumonia.",
        "[Early|Developing] {spot} pneumonia [cannot be excluded|is possible|is suspected].",
        "Appearances in {place} are [suspicious for|concerning for|suggestive of] pneumonia.",
    ),
    "linear_atelectasis": (
        "[Possible|Suspected] [minimal |mild |]linear atelectasis in {place}.",
        "Linear change at {place} may represent atelectasis.",
        "[Minimal|Subsegmental] {spot} atelectasis is [possible|suspected].",
    ),
    "basal_atelectasis": (
        "[Possible|Suspected] [minimal |mild |]atelectasis at {place}.",
        "Volume loss at {place} may represent atelectasis.",
        "[Minimal|Mild] {spot} atelectasis is [possible|suspected].",
    ),
    "apical_pneumothorax": (
        "[Possible|Questionable|Suspected] [tiny|small] {side} apical pneumothorax.",
        "A [tiny|small] {side} pneumothorax [cannot be excluded|is possible|is suspected].",
        "There may be a [tiny|small] pneumothorax at the {side} apex.",
    ),
    "pleural_effusion": (
        "[Possible|Questionable|Suspected] [small|trace|tiny] {side} pleural effusion.",
        "A [small|trace|tiny] {side} effusion [cannot be excluded|is possible|is suspected].",
        "Blunting of the {side} costophrenic angle may represent a [small|trace] effusion.",
        "There may be a [small|trace|tiny] {side} pleural effusion.",
    ),
    "pleural_thickening": (
        "[Possible|Questionable|Suspected] [mild |]pleural thickening at {place}.",
        "There may be [mild|minimal] pleural thickening at {place}.",
        "[Mild|Minimal] {spot} pleural thickening is [possible|suspected].",
    ),
    "rib_fracture": (
        "[Possible|Questionable|Suspected] [nondisplaced |]fracture of the {side} {rib} rib.",
        "A [nondisplaced|subtle] {side} {rib} rib fracture [cannot be excluded|is possible|is suspected].",
        "Irregularity of the {side} {rib} rib may represent a [nondisplaced |]fracture.",
    ),
}
"""Sentences that leave a mild finding open, by kind; a kind that is not here is always stated."""

MERGED: dict[tuple[str, str], tuple[tuple[str, ...], tuple[str, ...]]] = {
    ("patchy_opacity", "pneumonia"): (
        (
            "[Patchy|Hazy|Ill-defined] {grade} opacity in {place} [consistent with|compatible with] pneumonia.",
            "{grade} {spot} opacity in keeping with pneumonia.",
            "{grade} airspace disease in {place} [consistent with|indicating] pneumonia.",
        ),
        (
            "[Patchy|Hazy|Ill-defined] opacity in {place} [may represent|could represent] pneumonia.",
            "{grade} {spot} opacity [concerning for|suspicious for|suggestive of] pneumonia.",
        ),
    ),
    ("patchy_opacity", "lobar_consolidation"): (
        (
            "{grade} opacity in {place} with [dense|focal|confluent] consolidation.",
            "[Patchy|Hazy] {spot} opacity and {grade} consolidation.",
            "[Consolidation|Focal consolidation] with surrounding {grade} opacity in {place}.",
        ),
        (
            "{grade} opacity in {place} [may represent|could represent] early consolidation.",
            "[Patchy|Hazy] {spot} opacity with [possible|questionable] consolidation.",
        ),
    ),
}
"""One sentence for two findings of one region: (stated, left open for the second), by kinds in this order."""
