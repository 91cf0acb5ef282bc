"""A predictor without a network."""

from types import SimpleNamespace

from voxelry.core.labels import LabelTable
from voxelry.inference.predict_options import PredictOptions


def predictor(predict, **more):
    """What `segment_scans` needs of a Predictor."""
    model = SimpleNamespace(
        path=None,
        card=SimpleNamespace(name="bright", version="1"),
        plan=SimpleNamespace(reference=None, channels=("x",)),
        labels=more.pop("labels", LabelTable.numbered([1])),
    )
    more = {"options": PredictOptions(), **more}
    return SimpleNamespace(predict=predict, description="backend torch", model=model, models=(model,), scans=1, **more)
