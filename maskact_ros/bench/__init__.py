"""Measurements that anybody can repeat: `maskact bench`. One file for each benchmark, and what they share."""
