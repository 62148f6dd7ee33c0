"""Rigs, stand-ins and fixtures that tests of several folders share."""
