"""The page about a run: `folder.py` and `completions.py` read what the run wrote, `page.py` puts it into one file.

`assets/` draws it in the browser. Nothing here imports torch.
"""
