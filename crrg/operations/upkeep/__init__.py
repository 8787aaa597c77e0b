"""A root kept in order: backup, removal of left-overs, checks, status, audit."""
