"""Where crops are taken from a large original."""

Box = tuple[int, int, int, int]  # left, top, width and height, pixels of the original


def crop_boxes(width: int, height: int, count: int, smallest: tuple[int, int]) -> list[Box]:
    """Up to `count` equal parts that do not overlap, of the proportions of `smallest`, a width and a height.

    They are as large as they can be, at least `smallest`, and lie in rows from the top down, each spread evenly from
    edge to edge; a row or a column of one part is in the middle. Where so many would be smaller, there are fewer; where
    even two would be, none.
    """
    for number in range(count, 1, -1):
        (across, down), rows = max(
            (_largest(width // -(-number // rows), height // rows, smallest), -rows) for rows in range(1, number + 1)
        )
        rows = -rows
        if across >= smallest[0] and down >= smallest[1]:
            ends = [number * row // rows for row in range(rows + 1)]
            return [
                (left, top, across, down)
                for row, top in enumerate(_spread(height - down, rows))
                for left in _spread(width - across, ends[row + 1] - ends[row])
            ]
    return []


def _largest(width: int, height: int, proportions: tuple[int, int]) -> tuple[int, int]:
    """The largest part of these proportions, to the pixel, in a cell of a grid."""
    x, y = proportions
    return min(width, height * x // y), min(height, width * y // x)


def _spread(room: int, count: int) -> list[int]:
    return [room // 2] if count == 1 else [room * place // (count - 1) for place in range(count)]
