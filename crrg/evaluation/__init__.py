"""Figures that say how good a draft is: plain values in, plain numbers out. Knows no torch, files or models."""
