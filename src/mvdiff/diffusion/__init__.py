"""Samplers and schedulers: functions of a denoiser, without weights of their own."""
