from __future__ import annotations

import pytest

from crrg.data.reports.language import check_language
from crrg.errors import ReportError

FOREIGN = {
    "German": "Herz normal groß. Kein Erguss. Die Lunge ist beidseits frei, kein Nachweis eines Infiltrates.",
    "German, short": "Kein Nachweis von Infiltraten und kein Erguss in der Lunge.",
    "French": "Pas d'épanchement pleural. Le cœur est de taille normale. Opacité de la base gauche.",
    "Spanish": "Silueta cardíaca de tamaño normal. No se observan infiltrados en el pulmón derecho.",
    "Portuguese": "Área cardíaca dentro dos limites da normalidade. Não há derrame no pulmão direito.",
    "Italian": "Non si osservano addensamenti del parenchima. Il cuore è nei limiti, senza versamento pleurico.",
    "Dutch": "Het hart is niet vergroot. Geen infiltraten en geen pleuravocht. De longen zijn helder aan beide zijden.",
    "Turkish": "Kalp boyutu normaldir. Her iki akciğer doğal izlenmiş olup plevral efüzyon saptanmadı.",
    "Danish": "Hjertet er ikke forstørret. Der er ikke tegn på infiltrater og lungerne er normale på begge sider.",
}
OTHER_SCRIPTS = {
    "Chinese": "两肺纹理清晰，未见实变影。心影大小正常，两侧肋膈角锐利。",
    "Arabic": "الرئتان صافيتان ولا يوجد انصباب جنبي. حجم القلب طبيعي.",
    "Russian": "Очаговых и инфильтративных изменений в лёгких не выявлено. Сердце не увеличено.",
}
SHORT_ENGLISH = """Normal chest.
Normal.
Negative.
No acute disease.
No change.
Stable.
Unremarkable.
Clear lungs.
Lungs clear.
Cardiomegaly.
Left effusion.
Small left pleural effusion.
No pneumothorax.
No active disease.
No acute cardiopulmonary abnormality.
Stable exam.
Tube in place.
ETT in good position.
As above.
Compared to <deid>, no change.
<deid> <deid> <deid> <deid> <deid>.
NG tube tip in the stomach.
RLL pneumonia.
CHF.
COPD, no acute process.
Post CABG, sternal wires intact.
Bibasilar atelectasis.
Mild interstitial edema, improved.
PICC line tip at the cavoatrial junction.
Emphysema.
Granulomatous disease.
Degenerative changes of the thoracic spine.
Hyperinflation.
Diffuse bilateral interstitial infiltrates consistent with pulmonary edema.
Amiodarone, methotrexate and furosemide therapy.
Amiodarone lung; methotrexate pneumonitis; bleomycin toxicity; nitrofurantoin.
En face pleural plaques, de novo.
Sjögren syndrome and Ménière disease, en bloc resection, Pancoast-Tobías: lungs clear.
Calcified hilar lymph nodes per CT.
Limited exam. Repeat PA/lateral if symptoms persist.
Question RML infiltrate vs. atelectasis.
Interval extubation.""".splitlines()


@pytest.mark.parametrize("language", FOREIGN)
def test_another_language_is_refused(language):
    with pytest.raises(ReportError) as caught:
        check_language(FOREIGN[language])
    assert caught.value.code == "LANG.NOT_ENGLISH"
    assert FOREIGN[language] not in str(caught.value)


@pytest.mark.parametrize("language", OTHER_SCRIPTS)
def test_another_script_is_refused(language):
    with pytest.raises(ReportError) as caught:
        check_language(OTHER_SCRIPTS[language])
    assert caught.value.code == "LANG.SCRIPT"


def test_short_english_reports_pass():
    assert len(SHORT_ENGLISH) >= 40
    for text in SHORT_ENGLISH:
        check_language(text)
        check_language(text.upper())


@pytest.mark.parametrize("text", ["", "<deid>", "12.5 - 13", "µ"])
def test_nothing_to_judge_passes(text):
    check_language(text)


CODES = {
    "German": "de", "German, short": "de", "French": "fr", "Spanish": "es", "Portuguese": "pt", "Italian": "it",
    "Dutch": "nl", "Turkish": "tr", "Danish": "da", "Chinese": "zh", "Arabic": "ar", "Russian": "ru",
}  # fmt: skip


@pytest.mark.parametrize("language", CODES)
def test_a_language_of_the_form_is_let_in_but_not_read_as_english(language):
    text = {**FOREIGN, **OTHER_SCRIPTS}[language]
    assert check_language(text, ("en", CODES[language])) is False


@pytest.mark.parametrize(("language", "allowed"), [("German", "fr"), ("Italian", "de"), ("Chinese", "ru")])
def test_a_language_lets_no_other_one_in(language, allowed):
    with pytest.raises(ReportError, match="name its language in `languages`"):
        check_language({**FOREIGN, **OTHER_SCRIPTS}[language], (allowed,))


def test_english_is_read_whatever_the_form_lets_in():
    assert all(check_language(text, ("de", "zh")) for text in SHORT_ENGLISH)
