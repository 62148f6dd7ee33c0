"""The programs that people start: bringup, recorder, monitor, demo, evaluation; and their commands."""

from maskact_ros.core.interrupt import end_quietly_on_interrupt

end_quietly_on_interrupt()
