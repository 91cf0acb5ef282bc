from .agreement import Agreement as Agreement
from .bundle_import import import_bundle as import_bundle
from .model_export import ExportedModel as ExportedModel
from .sample_scan import make_sample_scan as make_sample_scan
from .trusted_bundle import BundlePredictor as BundlePredictor
