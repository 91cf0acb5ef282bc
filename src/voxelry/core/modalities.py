"""DICOM's terms for modalities, and the other names that people give them.

Source: DICOM PS3.3 section C.7.3.1.1.1, its defined terms for images, retired ones too.
"""

from __future__ import annotations

from voxelry.errors import nearest

TERMS = frozenset(
    "AR BI BMD CD CF CP CR CS CT DD DF DG DM DMS DS DX EC EPS ES FA FS GM HC IO IVOCT IVUS LP LS MA MG MR MS NM OAM OCT OP OPM"
    " OPT OPTBSV OPTENF OPV OT PA PT PX RF RG RTIMAGE RTDOSE SM ST TG US VF XA XC".split()
)
"""The terms."""

_OTHER_NAMES = {
    "MRI": "MR", "NMR": "MR", "MRT": "MR", "FMRI": "MR", "CINEMRI": "MR", "CTA": "CT", "CECT": "CT", "LDCT": "CT", "CAT": "CT",
    "COMPUTEDTOMOGRAPHY": "CT", "MAGNETICRESONANCE": "MR", "MAGNETICRESONANCEIMAGING": "MR",
    "XRAY": "DX", "XR": "DX", "CXR": "DX", "RADIOGRAPH": "DX", "RADIOGRAPHY": "DX", "DR": "DX", "CHESTXRAY": "DX",
    "MAMMOGRAPHY": "MG", "MAMMOGRAM": "MG", "MAMMO": "MG", "PANORAMICXRAY": "PX", "DENTALXRAY": "IO",
    "PET": "PT", "SPECT": "NM", "ULTRASOUND": "US", "SONOGRAPHY": "US", "ECHO": "US", "ECHOCARDIOGRAPHY": "US",
    "ENDOSCOPY": "ES", "COLONOSCOPY": "ES", "FUNDUS": "OP", "DERMOSCOPY": "XC", "PHOTO": "XC", "PHOTOGRAPHY": "XC",
    "MICROSCOPY": "GM", "HISTOLOGY": "SM", "HISTOPATHOLOGY": "SM", "WSI": "SM", "PATHOLOGY": "SM",
    "ANGIOGRAPHY": "XA", "FLUOROSCOPY": "RF", "OTHER": "OT", "RGB": "XC",
}  # fmt: skip
"""Other names, in capitals without spaces and hyphens -> term."""


def modality_term(name: str) -> str:
    """DICOM's term for a modality.

    Args:
        name: a term, or another name such as ``MRI`` or ``X-ray``; case, spaces and hyphens do not matter.

    Raises:
        ValueError: neither.

    Example:
        >>> modality_term("MRI"), modality_term("X-ray"), modality_term("ct")
        ('MR', 'DX', 'CT')
    """
    plain = "".join(letter for letter in name.upper() if letter.isalnum())
    term = plain if plain in TERMS else _OTHER_NAMES.get(plain)
    if term is None:
        hint = nearest(plain, {*TERMS, *_OTHER_NAMES}) if len(plain) > 2 else ""
        hint = hint if hint.startswith("Did") else "Use CT, MR, DX, CR, MG, PT, NM, US, OP, OCT, XC, SM, or OT where none fits."
        raise ValueError(f"it is none of DICOM's terms. {hint}")
    return term
