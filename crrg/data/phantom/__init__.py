"""A drawn cohort: parametric chest films with exact boxes, findings and reports, for tests and the demo."""
