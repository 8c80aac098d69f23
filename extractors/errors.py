"""The root of every error that tal-run raises on purpose."""


class TalRunError(Exception):
    """Something the user can mend. The message is one sentence: what happened, what was found, the cure."""
