"""Random changes to training patches: drawn, recorded, then applied on a CPU or a GPU."""
