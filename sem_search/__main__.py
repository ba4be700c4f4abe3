"""`python -m sem_search` is `sem-search`."""

from sem_search.cli import main

if __name__ == "__main__":
    main()
