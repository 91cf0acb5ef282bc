"""From a dataset to a plan: fingerprint, spacing, network, patch size."""
