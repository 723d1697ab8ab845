"""Stages, one file each; a file that starts with an underscore serves several or is a part of one."""
