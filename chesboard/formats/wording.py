"""Words for numbers and places, as the sentences for users have them."""


def counted(number: int, noun: str) -> str:
    """`1 row`, `2 rows`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def in_rows(rows: int, first: int) -> str:
    """Where something was seen: `in row 7`, or `in 12 rows, the first is 7`."""
    return f"in row {first}" if rows == 1 else f"in {rows:,} rows, the first is {first}"
