"""Evaluation by named protocol. Holds the measure of overlap; protocols and data sets follow."""
