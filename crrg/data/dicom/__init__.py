"""DICOM files as films, or a named reason why not."""
