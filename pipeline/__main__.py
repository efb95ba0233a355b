"""`python -m pipeline` is the `filterbank` command."""

from pipeline.cli import main

if __name__ == "__main__":
    main()
