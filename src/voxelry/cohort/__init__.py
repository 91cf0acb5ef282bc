"""Many scans: finding them, segmenting them one by one, pairing them with references."""
