"""Tools out of a Python module, read and not run."""

from callwright_data.tools_from_python.reader import tools_from_python

__all__ = ["tools_from_python"]
