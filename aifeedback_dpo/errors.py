"""Everything that can go wrong, as one tree. The command line prints one line and leaves with `exit_code`.

    DdpoError                1  the machine failed us (a full disk): nothing is lost, run the command again
    ├── UserError            2  the input is wrong: a recipe, a flag, a step out of order
    ├── DataError            3  data on disk is broken: a corrupted part, an image that cannot be read
    └── ModelMissing         4  model weights are not here, or need a licence to be accepted

Ctrl-C leaves with 130. Anything else is a bug in this package: a traceback and exit code 1.
"""


class DdpoError(Exception):
    """What is wrong, what was allowed, and the next step, in one line."""

    exit_code = 1


class UserError(DdpoError):
    """Input that cannot be used: the value, what was allowed, the next step."""

    exit_code = 2


class DataError(DdpoError):
    """Data on disk that is broken or contradicts itself."""

    exit_code = 3


class ModelMissing(DdpoError):
    """Weights that are neither in a local folder nor in the cache, or that are gated."""

    exit_code = 4
