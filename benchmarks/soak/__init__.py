"""Nights that run for hours beside somebody who fills the inbox, and a reader of their results that trusts nobody."""
