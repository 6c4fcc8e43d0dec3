"""What launchers and workers tell each other: variables of the environment, and exit codes."""

# Set for a worker by whoever starts it.
LOG_VARIABLE = "LOM_EXP_LOG"  # the file that its output goes to
PARENT_VARIABLE = "LOM_EXP_PARENT"  # the process without which it is to stop
TRACKING_VARIABLE = "LOM_EXP_TRACKING_URI"  # here and in no file, as it may hold a password

# A worker's exit codes. Any other end is a loss: it was killed, or it crashed.
DONE = 0  # every run finished or diverged
DEVICE_LOST = 77  # the GPU cannot be used any more, by this process at least
FAILED = 3  # a run raised; its folder says what
INTERRUPTED = 75  # asked to stop; the runs left checkpoints
ELSEWHERE = 76  # another process is at work on its runs
