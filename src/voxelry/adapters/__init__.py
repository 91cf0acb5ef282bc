"""Other toolkits: MONAI readers and transforms."""
