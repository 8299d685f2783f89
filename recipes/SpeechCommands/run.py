"""Run the programs of this recipe, named on standard input, one after the other; run.sh does."""

from prepare import prepare

from bdlib.cli.run import main

if __name__ == "__main__":
    main(prepare)
