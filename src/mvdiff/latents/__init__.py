"""Latents: autoencoders and pixel shuffling, from pictures to what is denoised and back."""
