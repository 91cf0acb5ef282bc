"""Names with sides, against lists by hand and the catalogue."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxelry.core.catalogue import catalogue
from voxelry.core.sides import SIDES, side_of

LEFT = """left kidney; kidney_left; Left-Hippocampus; KidneyLeft; leftKidney; kidney_L; L_kidney; l_kidney; LKidney; kidneyL;
Femur (L); lung lt; Lt. lung; ctx-lh-insula; ren sinister; fibula sinistra; cerebellum sinistrum; Niere links; linke
Niere; LINKER Lappen; rein gauche; riñón izquierdo; pulmón izquierda; rene sinistro; rim esquerdo; vänster njure;
левая почка; 左肾; leftkidney; kidneyleft; LEFT; L"""
RIGHT = """right kidney; kidney_right; Right-Hippocampus; KidneyRight; rightKidney; kidney_R; R_kidney; r_kidney; RKidney;
kidneyR; Femur [R]; lung rt; ctx-rh-insula; ren dexter; fibula dextra; Niere rechts; rechte Niere; rein droit; riñón
derecho; rene destro; rim direito; höger njure; правая почка; 右肾; rightkidney; kidneyright; RIGHT; R; femur dex"""
NONE = """liver; vertebra_L1; L5; LV; RV myocardium; bright spot; upright; cleft palate; left and right lung; lungs_left_right;
lesion; label_1; CSF; T1 lesion; rectum; larynx; cells; wright stain; LAD; RCA; sinus; dextrose"""


def names(text):
    return [name.strip() for name in text.split(";") if name.strip()]


@pytest.mark.parametrize(
    ("name", "side"),
    [(name, "left") for name in names(LEFT)]
    + [(name, "right") for name in names(RIGHT)]
    + [(name, None) for name in names(NONE)],
)
def test_the_side_that_a_name_says(name, side):
    assert side_of(name) == side


def test_the_catalogue_says_sides_as_its_twins_do():
    for label in catalogue().labels:
        if label.mirror is not None and not label.name.startswith("tooth"):
            assert {side_of(label.name), side_of(label.mirror)} == {"left", "right"}, label.name


@given(st.sampled_from(sorted(SIDES)), st.sampled_from(["kidney", "Hippocampus", "femur head"]), st.sampled_from(" _-./"))
def test_a_word_for_a_side_counts_wherever_it_stands(word, organ, mark):
    for name in (f"{word}{mark}{organ}", f"{organ}{mark}{word}", f"{organ}{mark}{word.upper()}{mark}2"):
        assert side_of(name) == SIDES[word]
