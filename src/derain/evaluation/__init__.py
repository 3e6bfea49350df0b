"""Evaluation on data sets: restoration scores and reports, segmentation scores, speed."""
