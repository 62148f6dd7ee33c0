"""The network as it runs on a robot with torch: one picture at a time, all constants computed once."""
