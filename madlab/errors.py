"""The exception that madlab raises for input it cannot use, and the warning for what it had to interpret."""


class MadlabError(ValueError):
    """Bad input, told in one sentence that says what is wrong and what to do.

    The command line prints the sentence and exits with code 2; a traceback there means a defect of ours.
    """


class MadlabWarning(UserWarning):
    """Something that madlab did differently from what one might expect, told in one sentence; the work goes on."""
