"""Data: readers, samples, patches, augmentation."""
