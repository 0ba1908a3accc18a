"""Speech data: manifests, importers, augmentation, feature banks, batches, synthetic speech."""
