"""Which planes form a volume, in which order, on which grid."""
