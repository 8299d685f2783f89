"""Poison this data set and pack its waveforms; see --help."""

from prepare import prepare

from bdlib.cli.poison import main

if __name__ == "__main__":
    main(prepare)
