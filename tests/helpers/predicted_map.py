"""A prediction with all that families of metrics may need: instance ids, a score of each object, a map of confidence."""

from dataclasses import replace

import numpy as np

from voxelry.core.volume import Volume
from voxelry.metrics.instances import connected_objects
from voxelry.metrics.predicted_map import PredictedMap


def predicted(labels):
    """The labels (one layer) with their components as instances, scores that fall with the id, and full confidence."""
    objects = connected_objects(labels.array)
    scores = {number: 1 / number for number in range(1, len(objects) + 1)}
    confidence = Volume(np.full((1, *labels.geometry.shape), 255, np.uint8), labels.geometry)
    return PredictedMap(replace(labels, instances=objects.ids[None]), scores, confidence)
