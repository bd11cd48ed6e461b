"""Networks of the R2U-Net family."""
