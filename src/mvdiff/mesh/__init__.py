"""Meshes: the mesh itself, files, repair, textures, and readers of other people's files."""
