"""The defenses of `recipes/common/defenses` that a stranger's checkpoint can get."""

from functools import lru_cache

from bdlib.files import COMMON
from bdlib.stages.document import TYPE, common

LEFT_OUT = {"pruning", "feature_noise"}
"""Has no bound on its cost, and is for nets with views alone."""


@lru_cache
def of_stage(stage: str) -> tuple[str, ...]:
    """Names of the yaml files of repairs (`repair`) or guards (`inference`)."""
    found = []
    for path in sorted((COMMON / "defenses").glob("*.yaml")):
        made = common("defenses", path.stem).plain()["defense"]
        tag = made[TYPE] if isinstance(made, dict) else made
        if f".defenses.{stage}." in tag and path.stem not in LEFT_OUT:
            found.append(path.stem)
    return tuple(found)
