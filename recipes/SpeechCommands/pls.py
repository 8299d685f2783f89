"""Judge many attacks on this data set with one autoencoder; see --help."""

from prepare import prepare

from bdlib.cli.pls import main

if __name__ == "__main__":
    main(prepare)
