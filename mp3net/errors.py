"""Errors whose message is written for the person at the keyboard: what happened, where, and what to do."""


class UserError(Exception):
    """Something the user can mend. Its text is printed as it is, without a traceback; exit status 1."""


class UsageError(UserError):
    """A command line that does not fit; exit status 2."""
