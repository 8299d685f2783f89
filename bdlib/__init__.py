"""Backdoors in speech classifiers: attacks, classifiers, defenses, and records of what happened."""

__version__ = "0.1.0"
