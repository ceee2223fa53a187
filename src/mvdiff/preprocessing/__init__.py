"""From a picture to what the model reads: foreground, framing, latents, embeddings.

Nothing is imported here, so that each part loads only what it needs.
"""
