"""Hydra finds its plugins in this namespace package; the launcher is in launcher.py."""
