"""Predictor: a model, or an ensemble, loaded once and used for many scans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from torch import nn

from voxelry.base.device import choose_device
from voxelry.base.progress import ProgressCallback, no_progress
from voxelry.core.model import Model
from voxelry.core.segment_info import SegmentInfo
from voxelry.core.volume import LabelMap, Volume
from voxelry.datasets.channels import in_colour
from voxelry.errors import ModelError, UsageError
from voxelry.inference.cleanup import clean, clean_layers
from voxelry.inference.layer_decoding import decode_layers
from voxelry.inference.model_parts import lay_over, parts_of, stored_values
from voxelry.inference.named_row import NamedRow
from voxelry.inference.naming_flags import row_flags
from voxelry.inference.ood_checks import at_border, out_of_distribution
from voxelry.inference.predict_options import PROBABILITY, PredictOptions
from voxelry.inference.row_objects import instance_votes
from voxelry.inference.segmenter import SegmentedScan, Segmenter
from voxelry.inference.sequence_repair import name_rows, with_filled_ids
from voxelry.inference.shared_passes import SharedPasses
from voxelry.metrics.segments import segments_info
from voxelry.preparation.preparation import target_shape


@dataclass(frozen=True, eq=False)
class Prediction:
    """The result of a prediction: labels on the scan's own grid, confidence, and flags.

    Attributes:
        labels: the label map, on the layers of the model's labels, with `instances` where objects are told apart: 1..n in the
            order of their first voxels, layer by layer.
        confidence: label name -> mean probability (0..1) of that label over the voxels it won on the network's grid, None where
            it won none.
        flags: sentences about anything unusual: a label at the scan's border, a scan unlike those of training.
        map: ``(1, *spatial)`` uint8 on the scan's grid, if asked for: probability of the winner, or entropy as a share of the
            largest possible, 0..255 for 0..1. Outside the box of content the background is certain.
        rows: the objects of rows of labels (vertebrae, teeth) by name, with what else they may be called.
        agreement: label name -> Dice (0..1) between the passes of the networks (members of an ensemble, mirrored patches) over
            all patches, None where no pass gave it; empty where there was a single pass.

    Example:
        >>> from voxelry.inference import Prediction
        >>> from voxelry.phantom import small_phantom
        >>> Prediction(small_phantom().labels, {"liver": 0.9}).confidence["liver"]
        0.9
    """

    labels: LabelMap
    confidence: dict[str, float | None]
    flags: tuple[str, ...] = ()
    map: Volume | None = None
    rows: tuple[NamedRow, ...] = ()
    agreement: Mapping[str, float | None] = field(default_factory=dict)

    def _repr_html_(self) -> str:
        """The labels with their confidence, and the flags, for a notebook."""
        from voxelry.base.notebook_html import block, sentences
        from voxelry.core.notebook_view import label_map_html

        shown = Markup(label_map_html(self.labels, "Labels", self.confidence))
        return block(f"Prediction {self.labels.source.name}", sentences(self.flags), shown)

    def _repr_mimebundle_(self, **_: object) -> dict[str, Any]:
        """The labels in the viewer, for a notebook where ipyniivue is installed."""
        return self.labels._repr_mimebundle_()

    @property
    def has_probability(self) -> bool:
        """Whether `map` holds the probability of the winner."""
        return self.map is not None and self.map.channel_names == (PROBABILITY,)

    @cached_property
    def segments_info(self) -> list[SegmentInfo]:
        """Every object and every label of kind stuff; scores are means of `map` if it holds probabilities, else `confidence`."""
        return segments_info(self.labels, self.map if self.has_probability else None, self.confidence)


class Predictor:
    """Segments scans with one model, or with several of one label table; safe to call from several threads.

    Models of one plan are averaged patch by patch, those of different plans (e.g. 2D and 3D) on the scan's own voxels.

    Args:
        model: the model, or the members of an ensemble.
        device: ``auto``, ``cpu``, ``cuda``...
        options: memory, patches, confidence, backend.

    Attributes:
        segmenters: run the networks on a scan, one a part of the model.
        scans: number of scans to come, by which ``auto`` judges whether building a backend pays.

    Raises:
        ModelError: members of an ensemble differ in labels or channels.
        UsageError: an unknown device or backend, or no model.

    Example:
        >>> from pathlib import Path
        >>> from voxelry import load_model, train
        >>> from voxelry.phantom import coarse_acquisition, small_phantom, write_phantoms
        >>> coarse = coarse_acquisition("torso-ct")
        >>> manifest = write_phantoms("phantoms", "torso-ct", 2, format="nifti", val=1, acquisition=coarse)
        >>> recipe = Path("recipe.yaml")
        >>> _ = recipe.write_text(f"{{manifest: {manifest}, steps: 1, validations: 1, device: cpu}}")
        >>> result = train(recipe, "run")
        >>> predictor = load_model("run/model", device="cpu", overlap=0.0)
        >>> type(predictor).__name__
        'Predictor'
        >>> predictor.predict(small_phantom().volume).labels.array.shape
        (32, 27, 16)
    """

    def __init__(self, model: Model | Sequence[Model], device: str = "auto", options: PredictOptions | None = None) -> None:
        self.models = (model,) if isinstance(model, Model) else tuple(model)
        check_members(self.models)
        self.options = options or PredictOptions()
        self.device = choose_device(device)
        cleaned = bool(self.model.card.clean_up)
        self.segmenters = [Segmenter(members, self.device, self.options, cleaned) for members in parts_of(self.models)]
        self.scans = 1

    @property
    def segmenter(self) -> Segmenter:
        """Runs the networks on a scan; of a model of several parts the first."""
        return self.segmenters[0]

    @property
    def model(self) -> Model:
        """The model, the first of an ensemble."""
        return self.models[0]

    @property
    def networks(self) -> list[nn.Module]:
        """The networks of its models; of several plans those of the first."""
        return self.segmenter.ensembles[0].networks

    @property
    def description(self) -> str:
        """Which backend computes the networks, and why where it was chosen; empty before the first scan."""
        return self.segmenter.description

    def takes_one_patch(self, shape: tuple[int, ...], spacing: tuple[float, ...] | None = None) -> bool:
        """Whether each network sees all of a scan in one patch.

        Args:
            shape: voxels along the axes of the network's grid.
            spacing: mm along them; None where it is unknown.
        """
        targets = [(target_shape(shape, spacing, model.plan), model.plan.patch_size) for model in self.models]
        return all(size <= patch for target, patches in targets for size, patch in zip(target, patches, strict=True))

    def predict(self, volume: Volume, progress: ProgressCallback = no_progress, passes: SharedPasses | None = None) -> Prediction:
        """Segment one scan.

        Args:
            volume: an image with the model's channels, in any orientation and spacing; a grey picture for a model of colours is
                repeated in each.
            progress: called as patches are done.
            passes: where other scans, each in its own thread, wait for the same networks, whose patches run with these.

        Returns:
            Labels on `volume`'s own grid.

        Raises:
            ModelError: the image has other channels or another number of axes than the model.
            BudgetError: the scan cannot be segmented within the memory budget.
        """
        table, volume = self.model.labels, in_colour(volume, len(self.model.plan.channels))
        segmentation, stored = self._segmented(volume, progress, passes)
        labels, rows, remarks = self._finished(LabelMap(stored, volume.geometry, table, volume.source), segmentation.output.head)
        flags = [*out_of_distribution(volume, self.model), *at_border(labels), *remarks]
        flags += [sentence for row in rows for sentence in row_flags(row)]
        if segmentation.overlooked:
            flags.append(f"the {self.options.roi} pass found nothing, so no patch was run")
        confidence = None
        if segmentation.output.confidence is not None:
            confidence = Volume(
                segmentation.output.confidence[None],
                volume.geometry,
                source=volume.source,
                channel_names=(self.options.confidence,),
            )
        return Prediction(labels, segmentation.confidence, tuple(flags), confidence, rows, segmentation.agreement)

    def _segmented(
        self, volume: Volume, progress: ProgressCallback, passes: SharedPasses | None
    ) -> tuple[SegmentedScan, NDArray[np.unsignedinteger]]:
        """Stored values by all parts, and what is known of the segmentation, the first part's output in it."""
        table = self.model.labels
        whole = self.segmenter.run(volume, progress, self.scans, passes)
        if len(self.segmenters) == 1:
            return whole, whole.output.relabelled(table.from_classes(np.arange(len(table) + 1)))
        stored = stored_values(whole.output.classes, self.segmenter.labels, table)
        whole.output.classes = stored  # the class indices are no longer needed
        for segmenter in self.segmenters[1:]:
            over = segmenter.run(volume, progress, self.scans, passes)
            values = stored_values(over.output.classes, segmenter.labels, table)
            entropy = self.options.confidence == "entropy"
            lay_over((stored, whole.output.confidence), (values, over.output.confidence), entropy)
            whole = replace(
                whole,
                confidence=whole.confidence | over.confidence,
                overlooked=whole.overlooked and over.overlooked,
                agreement=whole.agreement | over.agreement,
            )
        return whole, stored

    def _finished(
        self, labels: LabelMap, head: NDArray[np.uint32] | None
    ) -> tuple[LabelMap, tuple[NamedRow, ...], tuple[str, ...]]:
        """Clean labels, objects told apart, rows named, and remarks about the objects.

        Rows are named before clean-up, whose rules were chosen for named labels. They take the objects of an instance head, with
        the labels that their voxels had before each object got one.
        """
        sequences, plan, table = self.model.plan.sequences, self.segmenter.instances, labels.table
        clean_up = self.model.card.clean_up
        rows = tuple[NamedRow, ...]()
        if plan is not None and head is not None and sequences:
            predicted = labels.layers.copy(order="K")
            ids, remarks = decode_layers(labels.layers, head, table, plan, labels.geometry)
            votes = instance_votes(replace(labels, layers=predicted, instances=ids), sequences)
            labels, rows = name_rows(replace(labels, instances=ids), sequences, votes)
            return with_filled_ids(clean(labels, clean_up), rows), rows, remarks
        labels, rows = name_rows(labels, sequences)
        clean_layers(labels.layers, table, clean_up, labels.geometry.voxel_volume)
        if plan is None:
            return labels, rows, ()
        ids, remarks = decode_layers(labels.layers, head, table, plan, labels.geometry)
        return replace(labels, instances=ids), rows, remarks


def check_members(models: Sequence[Model]) -> None:
    """Refuse members of an ensemble that take other scans, or whose classes differ.

    Raises:
        UsageError: there are none.
        ModelError: they differ.
    """
    if not models:
        raise UsageError("no model", remedy="Give at least one model folder.")
    first = models[0]
    for other in models[1:]:
        shared = [name for name in MEMBER_FIELDS if name != "regions" or first.card.classes == other.card.classes]
        differences = [name for name in shared if getattr(first.plan, name) != getattr(other.plan, name)]
        if _objects(first) != _objects(other):
            differences.append("instances")
        if first.labels != other.labels:
            differences.append("labels")
        if differences:
            raise ModelError(
                f"{other.path} and {first.path} differ in {', '.join(differences)}",
                remedy="Average models of one label table that take the same channels.",
            )


def _objects(model: Model) -> tuple[tuple[str, ...], str] | None:
    """The labels whose objects a model tells apart, and how."""
    plan = model.plan.instances
    return None if plan is None else (plan.labels, plan.decoder)


MEMBER_FIELDS = ("dimensions", "channels", "reference_channel", "regions")
"""Fields of a plan that all members of an ensemble must share: which scans they take, and their classes."""
