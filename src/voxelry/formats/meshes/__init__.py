"""Labels as closed surfaces, and the files that hold them."""
