"""Bundles, their aliases, and the gate that decides what becomes champion."""
