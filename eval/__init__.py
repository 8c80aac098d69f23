"""Evaluation by named protocol: data sets' annotations, protocols, diagnosis. Nothing is here yet."""
