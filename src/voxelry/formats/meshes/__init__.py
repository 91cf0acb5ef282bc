"""Meshes: labels as closed surfaces, and writers of STL, PLY, OBJ and GLB."""
