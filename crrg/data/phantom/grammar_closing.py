"""The wordings of the drawn cohort's indications, impressions and normal sentences.

The markup is that of ``grammar_phrases``.
"""

from __future__ import annotations

IMPRESSION: dict[str, tuple[str, ...]] = {
    "widened_mediastinum": (
        "{grade} mediastinal widening.",
        "{ly} widened mediastinum.",
        "Widened [upper |superior |]mediastinum.",
        "Widening of the mediastinum, {grade}.",
    ),
    "enlarged_heart": (
        "{grade} cardiomegaly.",
        "{ly} enlarged heart.",
        "Cardiomegaly, {grade}.",
        "{grade} enlargement of the heart.",
    ),
    "patchy_opacity": ("{spot} opacity.", "{grade} opacity in {place}.", "{spot} infiltrate."),
    "nodule": (
        "{spot} nodule.",
        "[Small|Solitary] nodule in {place}.",
        "Nodule in {place}[, follow-up advised|, CT advised].",
    ),
    "mass": ("{spot} mass.", "Mass in {place}[, CT advised|].", "{spot} lung mass."),
    "interstitial_edema": (
        "{grade} interstitial edema.",
        "{grade} pulmonary edema.",
        "{grade} interstitial pulmonary edema.",
    ),
    "alveolar_edema": (
        "{grade} alveolar edema.",
        "{grade} bilateral edema.",
        "{grade} pulmonary edema.",
        "{grade} congestive heart failure.",
    ),
    "lobar_consolidation": ("{spot} consolidation.", "{grade} consolidation in {place}.", "Consolidation of {place}."),
    "pneumonia": ("{spot} pneumonia.", "{grade} pneumonia in {place}.", "Pneumonia of {place}."),
    "linear_atelectasis": ("{spot} atelectasis.", "{grade} linear atelectasis in {place}."),
    "basal_atelectasis": (
        "{spot} atelectasis.",
        "{grade} {side} basal atelectasis.",
        "{grade} atelectasis at {place}.",
    ),
    "apical_pneumothorax": (
        "{size} {side} pneumothorax.",
        "{side} apical pneumothorax.",
        "Pneumothorax on the {side}, {size}.",
    ),
    "pleural_effusion": (
        "{size} {side} pleural effusion.",
        "{side} pleural effusion, {size}.",
        "{size} {side} effusion.",
    ),
    "pleural_thickening": ("{side} pleural thickening.", "{grade} pleural thickening at {place}."),
    "pleural_plaque": (
        "{side} pleural plaque.",
        "{size} {side} pleural plaque.",
        "[Calcified |]{side} pleural plaque at {place}.",
    ),
    "rib_fracture": ("{side} {rib} rib fracture.", "{side} rib fracture.", "Fracture of the {side} {rib} rib."),
    "clavicle_fracture": (
        "{side} clavicle fracture.",
        "Fracture of the {side} clavicle.",
        "{displacement} {side} clavicle fracture.",
    ),
    "endotracheal_tube": ("Endotracheal tube in [place|good position].", "Endotracheal tube {cm} cm above the carina."),
    "central_line": (
        "{side} central line in [place|the SVC].",
        "{side} central venous catheter in [place|good position].",
    ),
    "pacemaker": ("{side} pacemaker in place.", "{side} chest pacemaker.", "Pacemaker on the {side}."),
    "chest_tube": ("{side} chest tube in [place|position].", "{side} pleural drain."),
    "sternal_wires": ("Prior [median |]sternotomy.", "Status post [median |]sternotomy."),
    "enteric_tube": ("[Enteric|Nasogastric|Feeding] tube in [the stomach|place].",),
}
"""Conclusions, by kind."""

POSSIBLE: tuple[str, ...] = ("Possible", "Questionable", "Suspected")
"""How a conclusion begins that leaves the finding open."""

NORMAL_IMPRESSION: tuple[str, ...] = (
    "No acute cardiopulmonary abnormality.",
    "No acute cardiopulmonary process.",
    "No acute cardiopulmonary disease.",
    "Normal chest radiograph.",
    "No acute findings.",
)

NORMAL: dict[str, tuple[str, ...]] = {
    "heart and mediastinum": (
        "The cardiomediastinal silhouette is within normal limits.",
        "The cardiomediastinal silhouette is normal.",
        "Heart size and mediastinal contours are normal.",
    ),
    "heart": (
        "The heart is normal in size.",
        "Heart size is normal.",
        "The cardiac silhouette is within normal limits.",
        "Normal heart size.",
    ),
    "mediastinum": (
        "The mediastinal contours are normal.",
        "The mediastinum is unremarkable.",
        "Mediastinal contours are within normal limits.",
    ),
    "lungs": (
        "The lungs are clear.",
        "Lungs are clear bilaterally.",
        "The lungs are clear without focal consolidation.",
        "Both lungs are clear.",
    ),
    "lung": ("The {side} lung is clear.", "{side} lung is clear.", "The {side} lung is clear without consolidation."),
    "pleura": (
        "No pleural effusion.",
        "There is no pleural effusion.",
        "The costophrenic angles are sharp.",
        "No effusion is seen.",
    ),
    "pleura one side": (
        "No {side} pleural effusion.",
        "The {side} costophrenic angle is sharp.",
        "There is no {side} pleural effusion.",
    ),
    "apices": (
        "No pneumothorax.",
        "There is no pneumothorax.",
        "No pneumothorax is seen.",
        "No evidence of pneumothorax.",
    ),
    "apex": ("No {side} pneumothorax.", "There is no {side} pneumothorax.", "No pneumothorax on the {side}."),
    "hila": ("The hila are normal.", "The hilar contours are normal.", "Hilar structures are unremarkable."),
    "diaphragms": ("The hemidiaphragms are normal.", "The diaphragm is well defined.", "Hemidiaphragms are smooth."),
    "bones": (
        "No acute osseous abnormality.",
        "The bones are intact.",
        "The osseous structures are unremarkable.",
        "No displaced fracture is seen.",
    ),
    "spine": ("The thoracic spine is unremarkable.", "The spine is intact."),
    "aorta": ("The aorta is normal in caliber.", "The aortic arch is unremarkable.", "The aortic contour is normal."),
    "trachea": ("The trachea is midline.", "Trachea is midline.", "The trachea is central."),
    "abdomen": (
        "The upper abdomen is unremarkable.",
        "The visualized upper abdomen is normal.",
        "No free air under the diaphragm.",
    ),
    "carina": ("The carina is unremarkable.",),
    "veins": ("The SVC contour is normal.",),
    "atrium": ("The right heart border is preserved.",),
    "zone": ("The {side} {level} lung zone is clear.",),
}
"""Normal sentences, by what they speak of; the first is the commonest."""

SYMPTOMS: tuple[str, ...] = (
    "cough", "shortness of breath", "chest pain", "fever", "dyspnea on exertion", "cough and fever", "weakness",
    "preoperative evaluation", "hypoxia", "follow-up", "trauma", "wheezing", "dizziness", "palpitations", "fatigue",
)  # fmt: skip
"""Reasons for the film; drawn without regard to what is on it, so that they tell nothing."""
