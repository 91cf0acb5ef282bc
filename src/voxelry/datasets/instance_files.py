"""Checks that a card's key `instances` and the files of its cases say the same."""

from __future__ import annotations

from collections.abc import Sequence

from voxelry.base.listing import shown
from voxelry.datasets.card import Card
from voxelry.datasets.cases import Case
from voxelry.errors import ManifestError


def check_instance_files(cases: Sequence[Case], card: Card, where: str) -> None:
    """Refuse files of ids or objects that the card does not speak of, and cases without those that it needs.

    Args:
        cases: of the manifest.
        card: its card.
        where: the manifest's file, for messages.

    Raises:
        ManifestError: naming the cases.
    """
    labelled = [case for case in cases if case.has_labels]
    _check(
        labelled, [case for case in labelled if case.instances is not None], "id_map", "a file of ids (`instances`)", card, where
    )
    _check(
        labelled, [case for case in labelled if case.objects is not None], "files", "a file an object (`per_object`)", card, where
    )


def _check(labelled: Sequence[Case], having: Sequence[Case], form: str, files: str, card: Card, where: str) -> None:
    asked = None if card.instances is None else card.instances.form
    if having and asked not in (None, form):
        raise ManifestError(
            f"{where}: the cases have {files}, but the card says `instances: {asked}`",
            remedy=f"Write `instances: {form}`, or leave the key out.",
        )
    if having and not any(label.kind == "thing" for label in card.labels):
        raise ManifestError(
            f"{where}: the cases have {files}, but no label is of kind thing",
            remedy="Write `kind: thing` at those to tell apart.",
        )
    if (having or asked == form) and len(having) < len(labelled):
        without = [case.id for case in labelled if case not in having]
        raise ManifestError(
            f"{where}: {len(without)} of {len(labelled)} labelled cases are without {files}: {shown(without)}",
            remedy="Give one to every case with labels.",
        )
