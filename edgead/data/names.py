"""Words in names of folders and files that say good, defective or mask, in many languages."""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from typing import Literal

Role = Literal["good", "defect", "mask"]
Split = Literal["train", "validation", "test"]

_GOOD = """
good ok okay okey normal nominal pass passed accept accepted acceptable conform conforming healthy intact golden flawless
gut gute guter gutes io iO einwandfrei ordnung bon bonne conforme normale sain saine
buono buona buoni buone sano conformi bueno buena conformes correcto correctos bom boa bons boas
goed goede goedgekeurd dobre dobry dobra dobrze poprawne zgodne dobré vyhovující gode godt godkand godkänd hyva hyvät kunnossa
iyi saglam sağlam uygun jo jó megfelelo dobro ispravno хорошие хорошо хороший годные годный годен норма нормальные исправные
добре придатні καλα 良品 良 良好 合格 合格品 正常 正常品 正品 好品 양품 정상 합격 良品画像 ดี tốt
"""
_DEFECT = """
bad ng nok ko defect defective def error errors fault faulty fail failed failure faulted wrong damage damaged broken scrap reject rejected rejection
anomaly anomalous anomal abnormal abnormality outlier flaw flawed imperfect nonconforming nonconform nonconformity nogood notgood notok
notnormal unacceptable unhealthy ungood badparts poor rework
schlecht schlechte schlechter nio niO fehler fehlerhaft fehlerbild fehlerteil defekt defekte ausschuss anomalie anomalien abweichung mangel
mängel beschädigt beschädigung schaden schäden mauvais mauvaise defaut défaut défauts defectueux défectueuse defectueuse rebut rebuts
nonconforme anormal anormale anormaux difetto difetti difettoso difettosi difettosa difettose scarto scarti anomalo anomali guasto cattivo
malo mala malos malas defecto defectos defectuoso defectuosa defectuosos rechazo rechazado rechazados anomalia anomalía anomalías fallo
fallos ruim ruins defeito defeitos defeituoso defeituosos defeituosa rejeitado rejeitados rejeito falha falhas fout fouten slecht
slechte afkeur afgekeurd gebrek zle złe zły wada wady wadliwe wadliwy uszkodzone uszkodzony braki niezgodne vada vady vadné vadny spatne
špatné zmetek zmetky chyba chyby underkänd dålig daarlig dårlig fejl feil fel felaktig kassation kasserad viallinen vika virhe huono hylätty kotu kötü
hatali hatalı hata kusurlu kusur arizali bozuk hibas hibás hiba selejt rossz greseala defecte rau neispravno greška
брак бракованные дефект дефекты дефектные плохие плохой аномалия аномалии неисправные негодные брак дефектний ελαττωμα
不良 不良品 不合格 不合格品 异常 異常 異常品 缺陷 缺陷品 欠陥 欠陥品 瑕疵 次品 坏 불량 불량품 결함 이상 비정상 불합격 lỗi ข้อบกพร่อง
"""
_MASK = """
mask masks gt groundtruth groundtruths truth label labels annotation annotations annot annots ann anns segmentation segmentations seg segm
segs segmentationclass segmentationobject pixelmask bitmask
maske masken beschriftung beschriftungen annotierung annotierungen etikett etiketten masque masques etiquette étiquette étiquettes
maschera maschere etichetta etichette annotazione annotazioni segmentazione mascara máscara máscaras mascaras etiqueta etiquetas anotacion
anotaciones segmentacion segmentación rótulo rotulo anotacao anotação anotações masker maskers maska maski maszk maskit maskeler etiket etiketler
маска маски разметка аннотация аннотации 掩码 掩膜 掩模 蒙版 标注 標註 标签 標籤 マスク マスク画像 ラベル アノテーション 마스크 라벨 레이블
"""
_LABEL = (
    "label etikett etiketten etiquette etiqueta etichetta etichette etiket rótulo rotulo 标签 標籤 ラベル 라벨 레이블"
)
_KIND = """
scratch scratched dent dented crack cracked stain contamination bent chipped torn tear missing misaligned misplaced deformed deformation
dirt dirty dust rust rusty corrosion corroded burr bubble blister blowhole pitting inclusion fray frayed uneven crazing delamination porosity
wrinkle discoloration mousebite pinhole breakage fracture scuff smudge
kratzer riss risse delle dellen beule fleck flecken bruch verschmutzung verschmutzt lunker rayure rayures fissure fissures tache taches
cassure graffio graffi crepa crepe ammaccatura ammaccature macchia macchie rottura aranazo arañazo arañazos rasguño grieta grietas
abolladura abolladuras mancha manchas rotura risco riscos trinca trincas amassado arranhao arranhão arranhões kras krassen scheur
deuk vlek rysa rysy pekniecie pęknięcie wgniecenie skrabanec škrábanec prasklina repa ridse spricka naarmu çizik çatlak karcolas
царапина царапины трещина трещины вмятина сколы скол пятно 划痕 划伤 裂纹 裂痕 污渍 脏污 凹坑 破损 傷 キズ きず ひび 割れ 汚れ 打痕 欠け 異物
스크래치 크랙 찍힘 오염 이물
"""
_NEGATION = "no not non without un ohne kein keine keinen nicht sans pas senza nessun sin ningun sem zonder geen bez utan uden uten ilman без не нет 无 無"
_FREE = "free frei freie libre less frie fri vrij 无缺陷 無欠陥"
_FREE_ALONE = "free"
_NOISE = """
part parts piece pieces image images img imgs picture pictures pic photo photos sample samples data set folder file files class item items
teil teile bild bilder aufnahme aufnahmen stück stuck foto fotos muster proben probe piece pieces pièce pièces echantillon image images
pezzo pezzi immagine immagini campione campioni pieza piezas imagen imagenes imágenes muestra muestras peça peças imagem imagens amostra
onderdelen afbeeldingen beelden zdjecia zdjęcia obrazy czesci снимки фото детали изображения 图 图片 图像 画像 品 이미지 사진
"""
_NEUTRAL = """
camera cameras cam cams kamera kameras caméra telecamera camara câmera line lines linie linien ligne linea línea linha lijn station stations
machine maschine shift shifts schicht équipe turno day days date tag tage jour giorno dia week woche semaine month monat batch batches lot lots
charge chargen lotto lote serie series reihe run runs session sessions recording recordings order auftrag capture captures frame frames raw
original originals orig source src input inputs view views angle left right top bottom front back rear side upper lower center centre links
rechts oben unten vorne hinten morning noon afternoon evening night early late früh spät nacht jpeg jpg png bmp tif tiff rgb grey gray colour color
train training new old alt neu product products produkt type typ typen types variant variants variante model article artikel plant werk
monday tuesday wednesday thursday friday saturday sunday montag dienstag mittwoch donnerstag freitag samstag sonntag lundi mardi mercredi jeudi
vendredi samedi dimanche january february march april may june july august september october november december januar februar märz mai juni juli
oktober dezember am pm kw export exports upload uploads dataset datasets daten data all alle collection album sensor light lighting
lamp exposure bright dark position pos place site hall halle part_no
"""
_SPLIT: dict[Split, str] = {
    "train": "train training trainset trn apprentissage entrenamiento addestramento treino lernen 训练 训练集",
    "validation": "val valid validation validierung validate dev 验证 验证集",
    "test": "test testing tests testset eval evaluation prueba teste 测试 测试集",
}
# MVTec AD 2 has test_public, test_private and test_private_mixed
_TEST_KIND = "public private mixed"
_PRIVATE = "private"
_MASK_ENDING = "mask masks gt label labels groundtruth ground_truth seg segm segmentation annotation annot maske masque maschera mascara"
_IMAGE_ENDING = "img image rgb photo orig original src source input bild colour color raw"
_ONLY_NUMBERED = {"class", "label", "category", "cat", "klasse", "grade", "cls", "c", "k", "id"}


def _plain(text: str) -> str:
    """Lower case without accents."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(character for character in decomposed if not unicodedata.combining(character))


def _words(text: str) -> frozenset[str]:
    return frozenset(_plain(word) for word in text.split())


GOOD, DEFECT, MASK, KIND = _words(_GOOD), _words(_DEFECT), _words(_MASK), _words(_KIND)
LABEL = _words(_LABEL)
NEGATION, FREE, NOISE, NEUTRAL = _words(_NEGATION), _words(_FREE), _words(_NOISE), _words(_NEUTRAL)
SPLIT = {name: _words(text) for name, text in _SPLIT.items()}
TEST_KIND = _words(_TEST_KIND)
MASK_ENDING, IMAGE_ENDING = _words(_MASK_ENDING), _words(_IMAGE_ENDING)
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_WORD = re.compile(r"[^\W\d_]+")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)


@cache
def role_of(name: str) -> Role | None:
    """Role that the name of a folder states, or None.

    >>> [role_of(name) for name in ("OK", "Fehlerteile", "défauts", "ground_truth", "monday")]
    ['good', 'defect', 'defect', 'mask', None]
    >>> [role_of(name) for name in ("not_good", "defect-free", "ohne Fehler", "nicht in Ordnung", "n.i.O.", "不良品")]
    ['defect', 'good', 'good', 'defect', 'defect', 'defect']
    """
    tokens = [_plain(word) for word in _WORD.findall(name)]
    joined = "".join(tokens)
    if (known := _known(joined)) is not None and joined not in KIND:
        return known
    split = [_plain(word) for word in _WORD.findall(_CAMEL.sub("_", name))]
    return _role_of_words(tokens) or _role_of_words(split)


def names_kind(name: str) -> bool:
    """Whether a name is that of a common kind of defect, such as `scratch` or `Riss`."""
    return any(_in(_plain(word), KIND) for word in _WORD.findall(_CAMEL.sub("_", name)))


def may_be_product(name: str) -> bool:
    """Whether a folder named like masks may hold photographs of a product instead: of labels."""
    return any(_in(_plain(word), LABEL) for word in _WORD.findall(name))


def is_only(name: str, role: Role) -> bool:
    """Whether a name consists of words of a role alone, but for words such as `images` or `parts`.

    >>> is_only("bad parts 2024", "defect"), is_only("defect-detection", "defect")
    (True, False)
    """
    tokens = [_plain(word) for word in _WORD.findall(name)]
    if _known("".join(tokens)) == role:
        return True
    left = [token for token in tokens if token not in NOISE]
    return bool(left) and role_of(name) == role and all(_known(token) == role for token in left)


def is_neutral(name: str) -> bool:
    """Whether a name says when, where or from which camera images are, and nothing about their quality.

    >>> [is_neutral(name) for name in ("2024-05-01", "shift 1", "cam02", "images", "blobs", "0")]
    [True, True, True, True, False, False]
    """
    words = [_plain(word) for word in _WORD.findall(name)]
    if not words:
        return len(re.sub(r"\D", "", name)) > 1
    return all(word in NEUTRAL or word in NOISE - {"class"} for word in words)


def are_serial(names: list[str]) -> bool:
    """Whether names differ by a number alone, as those of parts and batches do; `class0` and `class1` may be labels.

    >>> are_serial(["kos01", "kos02"]), are_serial(["0", "1"]), are_serial(["class1", "class2"])
    (True, False, False)
    """
    stems = {re.sub(r"\d+", "", _plain(name)) for name in names}
    numbers = {int(digits) for name in names if (digits := re.sub(r"\D", "", name))}
    stem = next(iter(stems)) if len(stems) == 1 else None
    if stem is None or len(numbers) < len(names) or numbers == {0, 1}:
        return False
    return bool(stem) and stem.strip(" _-.") not in _ONLY_NUMBERED


def split_of(name: str) -> Split | None:
    """Part of a data set that the name of a folder or file states: training, validation or test."""
    words = [_plain(word) for word in _WORD.findall(_CAMEL.sub("_", name))]
    return next((part for part, known in SPLIT.items() if any(word in known for word in words)), None)


def is_only_split(name: str) -> bool:
    """Whether a name is that of a part of a data set alone, such as `train` or `test images`.

    >>> [is_only_split(name) for name in ("test_public", "test_private_mixed", "private", "train_mixed", "test bench")]
    [True, True, False, False, False]
    """
    words = [_plain(word) for word in _WORD.findall(name)]
    part = split_of(name)
    beside = NOISE | TEST_KIND if part == "test" else NOISE
    return part is not None and all(word in beside or split_of(word) is not None for word in words)


def is_private_test(name: str) -> bool:
    """Whether a name is that of a test part whose labels are not published, as `test_private` of MVTec AD 2."""
    return is_only_split(name) and split_of(name) == "test" and _PRIVATE in map(_plain, _WORD.findall(name))


def stem_without_role(stem: str) -> tuple[str, bool]:
    """Stem of a file without its ending or beginning that says mask, and whether there was one.

    >>> stem_without_role("Part0_label"), stem_without_role("10000_GT"), stem_without_role("mask-7"), stem_without_role("a")
    (('Part0', True), ('10000', True), ('7', True), ('a', False))
    >>> stem_without_role("3_mask_2"), stem_without_role("3_ground_truth")
    (('3', True), ('3', True))
    """
    match = re.fullmatch(r"(.+?)[ _.-]+(ground[ _-]?truth|[^\W\d_]+?)(?:[ _-]?\d{1,3})?", stem)
    if match and _plain(re.sub(r"[ _-]", "", match[2])) in MASK_ENDING:
        return match[1], True
    match = re.fullmatch(r"(ground[ _-]?truth|[^\W\d_]+)[ _.-]+(.+)", stem)
    if match and _plain(re.sub(r"[ _-]", "", match[1])) in MASK_ENDING:
        return match[2], True
    return stem, False


def stem_of_image(stem: str) -> str:
    """Stem of an image without an ending such as `_img` or `_rgb`."""
    match = re.fullmatch(r"(.+?)[ _.-]+([^\W\d_]+)", stem)
    return match[1] if match and _plain(match[2]) in IMAGE_ENDING else stem


def role_of_file(stem: str) -> Role | None:
    """Role that a file's name states by a word beside a number or another word: good or defective.

    Letters inside longer codes are no words: identifiers in hexadecimal digits contain `bad` now and then.

    >>> [role_of_file(stem) for stem in ("NG_012", "bad12", "12-scratch", "ok_left", "broken", "7")]
    ['defect', 'defect', 'defect', 'good', None, None]
    >>> [role_of_file(stem) for stem in ("9f3bad41c7", "a3c1b2d4-3bad-4def-91aa-0123456789ab")]
    [None, None]
    """
    if len(re.findall(r"[^\W\d_]+|\d+", stem)) < 2:
        return None
    one_word = r"[^\W\d_]+" if _UUID.search(stem) else r"\d*[^\W\d_]+\d*"
    name = "_".join(piece for piece in re.split(r"[\W_]+", stem) if re.fullmatch(one_word, piece))
    found = role_of(name)
    if found in ("good", "defect"):
        return found
    return "defect" if names_kind(name) else None


def _role_of_words(tokens: list[str]) -> Role | None:
    found: set[Role] = set()
    for index, token in enumerate(tokens):
        role = _known(token)
        if role is None:
            if token == _FREE_ALONE and len(tokens) > 1 and not any(_known(other) for other in tokens):
                found.add("good")
            continue
        negated = any(before in NEGATION for before in tokens[max(0, index - 2) : index])
        negated ^= index + 1 < len(tokens) and tokens[index + 1] in FREE
        if negated and role != "mask":
            role = "good" if role == "defect" else "defect"
        found.add(role)
    for role in ("mask", "defect", "good"):
        if role in found:
            return role
    if any(_in(token, KIND) for token in tokens):
        if any(token in NEGATION or token in FREE for token in tokens):
            return "good"
    return None


def _known(token: str) -> Role | None:
    """Role of one word, also in the plural or compounded with a word such as `parts` or `bilder`."""
    for role, words in (("mask", MASK), ("defect", DEFECT), ("good", GOOD)):
        if _in(token, words):
            return role  # type: ignore[return-value]
    for ending in ("free", "frei"):
        if token.endswith(ending) and len(token) > len(ending) and _in(token.removesuffix(ending), DEFECT | KIND):
            return "good"
    for beginning in ("non", "not", "un"):
        rest = token.removeprefix(beginning)
        if rest != token and (_in(rest, GOOD) or _in(rest, DEFECT)):
            return "defect" if _in(rest, GOOD) else "good"
    return None


def _in(token: str, words: frozenset[str]) -> bool:
    if token in words:
        return True
    forms = {token.removesuffix("s"), token.removesuffix("es"), token.removesuffix("ies") + "y"}
    if len(token) > 3 and any(form in words for form in forms if len(form) > 1):
        return True
    return any(
        token.removesuffix(noise) in words
        for noise in NOISE
        if len(noise) > 3 and token.endswith(noise) and token != noise
    )
