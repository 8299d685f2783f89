"""The walk without a command line, for a person in a notebook; `bdlib` exports its names.

What is made goes below one output folder, as the recipes' runs do, and is not made twice.
"""
