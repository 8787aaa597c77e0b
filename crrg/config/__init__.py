"""What a user may set, as frozen pydantic models; imports no torch, so that a form builds on any machine."""
