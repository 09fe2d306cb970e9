"""The verbs of the shell, one file each: they parse, call a stage, and say what was written."""
