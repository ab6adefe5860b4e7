"""What can go wrong, as types: every error octavo raises on purpose is an `OctavoError`."""

LONGEST = 900  # signs


class OctavoError(Exception):
    """Something failed that the user should read as one line: what is wrong with the value, then what to do."""

    status = 1  # the exit status of the command line

    def __str__(self) -> str:
        """One line, and no longer than can be read: a value from a stranger's file may be neither."""
        line = " ".join(super().__str__().splitlines())
        return line if len(line) <= LONGEST else f"{line[: LONGEST // 2]} … {line[-LONGEST // 2 :]}"


class UserError(OctavoError, ValueError):
    """The user's mistake: a value, a file or a flag that cannot be used as it is."""

    status = 2


class ConfigError(UserError):
    """A setting, or a combination of settings, that no model or training can have."""


class TextError(UserError):
    """A text that cannot be read or is too little to learn from."""


class TokenizerError(UserError):
    """A vocabulary that cannot be built, read or used for this text."""


class UnknownTextError(TokenizerError):
    """A piece of text that the vocabulary has never seen, met by an encoder told to be strict."""


class SamplingError(UserError):
    """A way of choosing the next token that is out of its range."""


class RunError(UserError):
    """A folder that is not a run, or not a whole one, or already is one."""


class DamagedError(OctavoError):
    """A file whose bytes are not what its manifest says."""


class SaveError(OctavoError):
    """Something could not be written; what was saved before is untouched."""


class UpdateError(OctavoError):
    """Memory ran out when some of the weights had changed and others not."""


class DownloadError(OctavoError):
    """A corpus or vocabulary could not be fetched from the package registry."""


class PeerError(OctavoError):
    """Another process of the same training failed, and says why itself."""
