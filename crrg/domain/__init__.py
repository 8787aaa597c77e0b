"""Frozen values of the radiology domain: labels, regions, boxes, studies, reports. Stdlib and numpy only."""
