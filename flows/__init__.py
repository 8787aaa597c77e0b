"""The order of tasks: one flow per file, one pydantic ``config`` each, which is the form, the input and the log."""
