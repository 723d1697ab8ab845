"""`python -m callwright`: the command without its script."""

from callwright.cli import main

if __name__ == "__main__":
    main()
