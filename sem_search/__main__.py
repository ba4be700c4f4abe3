"""`python -m sem_search` is `sem-search`."""

from sem_search.cli.main import main

if __name__ == "__main__":
    main()
