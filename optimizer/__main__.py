"""`python -m optimizer` and the command `optimizer`."""

from optimizer.cli import main

if __name__ == "__main__":
    main()
