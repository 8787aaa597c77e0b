"""From films to drafts without gradients: decoding, de-duplication, labels, consistency."""
