"""The one error a user can mend: the command line prints it plainly and exits with code 2."""


class UserError(ValueError):
    """Something the user gave is wrong. The message names the value, what is allowed and what to do."""
