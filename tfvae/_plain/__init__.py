"""Helpers in plain Python, which know nothing of models: arguments, files, memory, processes."""
