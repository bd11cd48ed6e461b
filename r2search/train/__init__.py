"""Training one configuration."""
