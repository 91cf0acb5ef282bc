"""Decoding DICOM pixels: transfer syntaxes, decoders, frames in a file, grey values."""
