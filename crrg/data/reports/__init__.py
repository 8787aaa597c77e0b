"""Report texts: sections, language, words, and which region a sentence speaks of."""
