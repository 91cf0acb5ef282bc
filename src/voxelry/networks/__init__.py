"""Networks: U-Nets built from a plan, and the folder their weights live in."""
