"""What hides a patient: pseudonyms, masks in reports, text in pixels, who was forgotten."""
