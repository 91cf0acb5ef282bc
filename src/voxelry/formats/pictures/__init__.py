"""Pictures: PNG, JPEG, TIFF, and the label files that belong to pictures."""
