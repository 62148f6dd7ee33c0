"""The ROS 2 nodes: parameters, subscriptions, one call into the library, publications."""
