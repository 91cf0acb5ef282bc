"""Cleaning of free text: words of a closed list stay, everything else goes.

Nobody can list all names; the words of anatomy and of acquisition can be listed. A text keeps those, and sizes with a unit.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import cache

from voxelry.core.catalogue import catalogue

_ACQUISITION = """
    abdomen abdominal adc adult angio angiography ankle ap apical arm arterial ascending attenuation average axial
    b0 base biopsy body bold bone brain breast bolus cardiac cervical chest ciss cine contrast coronal corrected cor
    cr cranial cranium cspine ct cta delayed descending diffusion dicom dixon dti dual dwi dx dynamic early echo
    elbow enhanced epi equilibrium excretory expiration face fast fat femoral fiesta field filter first flair flash
    flow foot fov frontal fse full gated gradient gre hand hard head heart helical hepatic high hip inspiration
    interstitial inversion iv iso joint kernel knee late lateral left leg lesion limb liver low lspine lumbar lung
    lungs magnitude mammography map mask mean mediastinum mip mpr mprage mr mra mri multi multiplanar native ncct
    neck nephrographic nodule non noncontrast oblique oral original orbit orbits organ organs pa part pd pelvis
    pelvic perfusion pet phantom phase plain planning portal portovenous post postcontrast pre precontrast prone
    prostate proton pulmonary radiograph rapid reconstruction recon reformat reformatted rest resting right sag
    sagittal saturation scan scout segment segmentation sella sequence series sharp shoulder single sinus skull
    slice soft space spgr spin spine spiral standard stir stress subtraction supine suppressed sus swi t1 t1w t2 t2w
    thick thin thoracic thorax three time tissue tof topogram tra transversal transverse trufi tse tspine tumor
    tumour turbo two ultrasound unenhanced upper upright vascular venous vessel vibe view volume water wb wc
    weighted whole with without wo window wrist xray
"""
_WORD = re.compile(r"\d+\.\d+[a-z]*|[^\W_]+", re.IGNORECASE)
_SIZE = re.compile(r"\d{1,3}(\.\d{1,2})?(mm|cm|kv|kvp|ms|t)", re.IGNORECASE)
_SHORTEST_NAME = 4


@cache
def known_words() -> frozenset[str]:
    """Words that may stay: of acquisition, and those of the names of the catalogue's structures."""
    names = " ".join(catalogue().names)
    return frozenset(_ACQUISITION.split()) | {word.casefold() for word in _WORD.findall(names.replace("_", " ")) if len(word) > 1}


def cleaned(text: str, identity: Collection[str] = ()) -> str:
    """The known words of a text.

    Args:
        text: free text.
        identity: words in lower case that name people in this file; they go even where they are known, as of a patient
            called Head.

    Example:
        >>> cleaned("CT Abdomen, Mrs Miller 12.3.1950, 1.25mm liver_left")
        'CT Abdomen 1.25mm liver left'
    """
    known = known_words()
    words = _WORD.findall(text.replace("_", " "))
    kept = [word for word in words if word.casefold() not in identity and (word.casefold() in known or _SIZE.fullmatch(word))]
    return " ".join(kept)


def identity_words(texts: Collection[str]) -> frozenset[str]:
    """The words in lower case, of four letters or more, of names and numbers of people.

    Args:
        texts: values of the representation PN, and patient numbers.
    """
    words = {word.casefold() for text in texts for word in _WORD.findall(text)}
    return frozenset(word for word in words if len(word) >= _SHORTEST_NAME)


def without_identity(text: str, identity: Collection[str]) -> str:
    """A text in which every word of `identity`, wherever it stands, is replaced by one letter.

    Args:
        text: any text.
        identity: as `identity_words` gives them.
    """
    for word in sorted(identity, key=len, reverse=True):
        if word in text.casefold():
            text = re.sub(re.escape(word), "X", text, flags=re.IGNORECASE)
    return text
