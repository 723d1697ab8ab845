"""Following a run while it trains: `news.py` says what is new, `server.py` shows it in a browser, `tui.py` in a
terminal.

Only the run's folder is read, so that whoever watches cannot disturb the run.
"""
