"""Is a corpus of speech poisoned, and which clips? Looked at from outside, without training on it."""
