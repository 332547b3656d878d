"""``python -m lrfinder`` is ``lrfind``, also where the folder of scripts is not on the path."""

from lrfinder.cli import main

if __name__ == "__main__":
    main()
