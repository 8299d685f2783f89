"""Checkpoints from somewhere: read without running anything, repaired, judged, and guarded."""
