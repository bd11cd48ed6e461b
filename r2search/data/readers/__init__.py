"""The readers, one small file a data set."""
