"""A percentage in the prose of a page is that of a table, or the check names it."""

import pytest

from bdlib.errors import InputError
from bdlib.report.prose import refused_numbers

TABLES = {
    "Words": r"""# Words: runs

## Words, measured on a subset

### clap, scale 0.1

| Model | Defense | Clean accuracy [%] | ASR [%] | Seeds |
|---|---|---:|---:|---:|
| big\_net | none | 91.3 (90.1, 92.5) | 80.0 (70.0, 90.0) | 2 |
| big\_net | median\_filter, window 3 | 85.0 | 78.9 | 2 |
| small | none | 71.3 | 60.0 | 5 |

### whistle

| Model | Defense | Clean accuracy [%] | ASR [%] | Seeds |
|---|---|---:|---:|---:|
| big\_net | none | 94.0 | 10.0 | 2 |
"""
}
CLAP = "<!-- from: Words | clap | big_net | none -->"


@pytest.fixture
def lost(tmp_path):
    """A function: the text of a page in, what is said of it out."""
    (tmp_path / "a.png").touch()

    def of(text):
        (tmp_path / "page.md").write_text(text)
        return refused_numbers(tmp_path / "page.md", TABLES, tmp_path)

    return of


@pytest.mark.parametrize(
    "text",
    [
        f"ASR is 80 %. {CLAP}",
        f"70 to 90 %,\n80.0 % in the mean, accuracy 91 % {CLAP}",
        f"- of 91.3\n  % here\n  {CLAP}",
        "85 % and 94.0 % <!-- from: Words | median_filter* --> <!-- from: Words | whistle -->",
        "The mean is 70 % <!-- mean: Words | clap | none -->",
        "It costs 6.3 points <!-- from: Words | clap | big_net | none minus median_filter* -->",
        "20 points less <!-- from: Words | clap | none | big_net minus small -->",
        "60 points <!-- mean: Words | none | clap minus whistle -->",
        "At 10 % <!-- given: 10 --> it is 39 points <!-- seen: a.png: 39 -->, not 72 % <!-- paper: 72 -->",
        "| Finding | Here |\n|---|---|\n| 98 % fall | no |\n| 3 % | 80 % " + CLAP + " |",
        "no numbers, 220 of 220, 0.978",
        "```\nrate 55 %\n```\n\n<!-- results:begin a -->\n\n55 %\n\n<!-- results:end -->",
    ],
)
def test_numbers_of_tables_pass(lost, text):
    assert lost(text) == []


@pytest.mark.parametrize(
    ("text", "row", "numbers"),
    [
        ("ASR is 80 %", 1, "80"),
        (f"ASR is 81 % {CLAP}", 1, "81"),
        (f"80, 79 and 80.2 % {CLAP}", 1, "79, 80.2"),
        (f"2 % {CLAP}", 1, "2"),  # which counts seeds
        (f"60 % {CLAP}", 1, "60"),  # of another row
        (f"80 % {CLAP}\n\n- 80 %", 3, "80"),  # of another paragraph
        (f"| a | b |\n|---|---|\n| 1 | 80 % {CLAP} |\n| 2 | 90 % |", 4, "90"),
        ("11 points <!-- from: Words | clap | big_net minus small | none -->", 1, "11"),
        ("10 % <!-- given: 100 -->", 1, "10"),
        ("| Finding | Here |\n|---|---|\n| 98 % | 97 % |", 3, "97"),
        (
            "| Finding | Here |\n|---|---|\n| a | b |\n\n| A | Here |\n|---|---|\n| 98 % | b |",
            7,
            "98",
        ),
        ("\n## On 30 % of all", 2, "30"),
    ],
)
def test_a_number_without_a_record_is_named(lost, text, row, numbers):
    (told,) = lost(text)
    assert f"page.md, row {row}: {numbers} %: no record is named" in told


@pytest.mark.parametrize(
    "mark", ["from: Other | clap", "from: Words | clap | tiny", "seen: b.png: 3", "mean: Words | x"]
)
def test_a_comment_that_names_nothing_is_refused(lost, mark):
    with pytest.raises(InputError, match=r"page\.md, row 1: .*correct the comment"):
        lost(f"80 % <!-- {mark} -->")
