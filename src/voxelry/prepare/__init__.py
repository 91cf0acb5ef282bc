"""Preparation: from scans to what a network sees, exactly invertible; fingerprint, planner, cache, augmentation."""
