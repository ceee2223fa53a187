"""UNet with named slots, joint denoising of all views, guidance."""
