"""What can go wrong, each with a message that says what to do; all are a BenchError."""


class BenchError(RuntimeError):
    """The benchmark cannot say anything true, so it says this and ends."""


class UnknownNameError(BenchError):
    """A name on the command line that is none of ours."""


class ToolMissingError(BenchError):
    """A program the benchmark runs is not installed."""


class ChildFailedError(BenchError):
    """A program of the benchmark did not do what it must; the text ends with what it printed."""


class PathBrokenError(BenchError):
    """A path does not do what its name says, so measuring it would be a lie."""


class BusyError(BenchError):
    """Another benchmark runs on this machine; both would measure each other."""
