"""The root of every error that tal-run raises on purpose."""

from tal_run.extractors.wire import printable

MOST_CHARACTERS = 2000


class TalRunError(Exception):
    """Something the user can mend. The message is one sentence: what happened, what was found, the cure.

    As text it is one line of printable characters, whatever names and values from files it quotes; of a very long one the
    middle is left out, so that the cure stays.
    """

    def __str__(self) -> str:
        text = super().__str__()
        if len(text) > MOST_CHARACTERS:
            text = f"{text[: MOST_CHARACTERS * 2 // 3]} … {text[-MOST_CHARACTERS // 4 :]}"
        return printable(text, limit=MOST_CHARACTERS)
