"""Lossless image compression with a trained NVAE and bits-back ANS coding."""
