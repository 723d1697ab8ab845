"""From a source's rows to prepared ones: running stages, keeping what they did, and showing it."""
