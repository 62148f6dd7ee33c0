"""The network for the robot, with torch: one picture at a time, all constants computed once."""
