"""The ROS 2 nodes: parameters, subscriptions, one call into the library, publications."""

from maskact_ros.core.interrupt import end_quietly_on_interrupt

end_quietly_on_interrupt()
