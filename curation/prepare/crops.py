"""Where square crops are taken from a large original."""

Box = tuple[int, int, int]  # left, top and side, pixels of the original


def crop_boxes(width: int, height: int, count: int, smallest: int) -> list[Box]:
    """Up to `count` equal squares that do not overlap, as large as they can be, each side at least `smallest` pixels.

    They lie in rows from the top down, each spread evenly from edge to edge; a row or a column of one square is in the
    middle. Where so many would be smaller, there are fewer; where even two would be, none.
    """
    for number in range(count, 1, -1):
        side, rows = max((min(width // -(-number // rows), height // rows), -rows) for rows in range(1, number + 1))
        rows = -rows
        if side >= smallest:
            ends = [number * row // rows for row in range(rows + 1)]
            return [
                (left, top, side)
                for row, top in enumerate(_spread(height - side, rows))
                for left in _spread(width - side, ends[row + 1] - ends[row])
            ]
    return []


def _spread(room: int, count: int) -> list[int]:
    return [room // 2] if count == 1 else [room * place // (count - 1) for place in range(count)]
