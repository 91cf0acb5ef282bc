"""Serving models over HTTP: Hugging Face's image-segmentation contract, jobs, and a web page."""
