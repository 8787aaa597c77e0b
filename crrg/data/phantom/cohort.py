"""Write a drawn cohort to a store: films, reports, scene graphs and the truth.

Layout under the root (keys use forward slashes)::

    dicom/<patient_id>/<sop_instance_uid>.dcm   12 bits in 16, MONOCHROME1 or MONOCHROME2; one film per study
    reports.csv                                 UTF-8, one row per study: patient_id, study_id, instance_id,
                                                indication, findings, impression
    scene_graphs/<sop_instance_uid>_SceneGraph.json   Chest ImaGenome's shape (see ``scene_graph``)
    truth.parquet                               one row per film, columns below

In every file ``patient_id`` is the DICOM PatientID, ``study_id`` the StudyInstanceUID and ``instance_id`` the
SOPInstanceUID of the film; they are invented, and ingest replaces them by pseudonyms as it would real ones.

Columns of ``truth.parquet``: ``index`` int64 · ``patient_id``, ``study_id``, ``instance_id`` string · ``file`` string
(key of the DICOM object) · ``height``, ``width`` int32 · ``view_position``, ``photometric``, ``sex`` string ·
``age_years`` int32 · ``exposure_mean``, ``exposure_spread`` float64 (what the film's values were set to) · the 14
snake-case names of ``LABEL_COLUMNS``, int8, 1 or 0, null where a real report does not say · ``drawn_findings``
list<struct<label, kind, side, regions: list<string>, severity: float64>> · ``regions`` list<struct<region: string,
box_xyxy: list<float64>[4] in pixels of the film, phrase: string or null, is_abnormal: bool or null>>, 29 entries in the
order of ``REGIONS``.

Every film depends on ``(seed, index)`` alone: neither the number of studies nor of processes changes a byte.
"""
