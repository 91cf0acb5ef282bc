"""Networks: segmentation networks built from a plan, their memory, and model folders with their weights."""
