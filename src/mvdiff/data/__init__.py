"""Objects to learn from: procedural shapes, mesh folders, and the pictures made of them."""
