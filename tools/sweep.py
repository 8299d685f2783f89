"""Run the cells of an experiment that have no record yet; see --help."""

from bdlib.cli.sweep import main

if __name__ == "__main__":
    main()
