"""Parts into bundles, bundles into the registry, the champion moved."""
