"""Defend a classifier on this data set and record its numbers; see --help."""

from prepare import prepare

from bdlib.cli.defend import main

if __name__ == "__main__":
    main(prepare)
