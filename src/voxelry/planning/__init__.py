"""Planning: the fingerprint of a dataset, and the spacing, network, patch and batch planned from it."""
